"""The client on libblkio against Debian's qemu-storage-daemon: clean on a disk
that works, and it notices one that does not."""

import os
import tempfile
import time
import unittest

from tests.harness import blkio, device, disk, parts


class BlkioClient(unittest.TestCase):

    def setUp(self):
        parts.blkio_library()  # Skips here rather than after the set-up.
        directory = tempfile.TemporaryDirectory(prefix="hfblk")
        self.addCleanup(directory.cleanup)
        self.image = os.path.join(directory.name, "disk.img")
        disk.Disk(self.image, raw_mib=16, ext4_mib=0)

    def daemon(self, **kwargs):
        daemon = device.QsdDevice(self.image, **kwargs)
        daemon.__enter__()
        self.addCleanup(daemon.__exit__)
        return daemon

    def test_a_good_disk_is_clean_at_every_depth_and_length(self):
        daemon = self.daemon(direct=True)
        for depth, max_kib in ((1, 4), (32, 4), (32, 256)):
            with self.subTest(depth=depth, max_kib=max_kib):
                with blkio.Client(daemon.socket, seconds=1, depth=depth,
                                  max_kib=max_kib, span_mib=32,
                                  flushes_in_256=4) as client:
                    result = client.finish(now=False)
                self.assertEqual(client.exit_status, 0, client.output)
                load = result["load"]
                self.assertTrue(load["clean"] and load["read_back"])
                self.assertGreater(load["checked_blocks"], 0)
                self.assertGreater(load["flushes"], 0)
                self.assertGreater(result["iops"], 0)

    def test_a_disk_that_dies_is_noticed(self):
        daemon = self.daemon()
        run = blkio.kill_run(daemon, 1, lambda: 0.2, lost_s=2)
        self.assertRegex(run.problems[0], "^BLK-LOST ")
        self.assertRegex(run.problems[-1], "did not complete in 2 s")

    def test_a_disk_that_loses_content_is_noticed(self):
        daemon = self.daemon()
        with blkio.Client(daemon.socket, max_kib=64) as client:
            client.wait_started()
            time.sleep(0.5)
            with open(self.image, "r+b") as f:
                f.write(bytes(16 * disk.MIB))
            result = client.finish()
        self.assertEqual(client.exit_status, 1)
        self.assertGreater(result["load"]["empty"], 0)

    def test_says_why_it_cannot_run(self):
        with blkio.Client("/no/such/socket") as client:
            with self.assertRaisesRegex(RuntimeError, "connect: No such file"):
                client.wait_started()
            self.assertIsNone(client.finish(now=False))
        self.assertEqual(client.exit_status, 2)
