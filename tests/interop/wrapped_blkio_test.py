"""qemu-storage-daemon as Debian has it, behind a keeper: killed under
libblkio's strict eyes, which never see a disconnect."""

import os
import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts, stalls


class WrappedStorageDaemon(unittest.TestCase):

    def run_kills(self, kills, longest_pause, tracking="forced", standby=True,
                  version="7.2", make=device.WrappedStorageDaemon, **flags):
        parts.blkio_library()
        source = random.Random(kills)
        with tempfile.TemporaryDirectory(prefix="hfwrap") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with make(image, version, standby, tracking) as back_end:
                run = blkio.kill_run(
                    back_end, kills,
                    lambda: source.uniform(0, longest_pause), depth=32,
                    flushes_in_256=2, **flags)
                return run, back_end.status(), back_end.log()

    def kill(self, kills, **options):
        run, status, log = self.run_kills(kills, 0.02, **options)
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), kills)
        self.assertGreaterEqual(status["backend_lives"], kills)
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])
        print("%s: %d kills, %d requests, gap ms %s" % (
            options, kills, load["operations"],
            stalls.summary([gap * 1000 for gap in run.gaps])))

    def test_with_a_standby(self):
        self.kill(int(os.environ.get("HOLDFAST_KILLS", "100")))

    def test_without_a_standby(self):
        self.kill(20, standby=False)

    def test_the_keeper_dies_too(self):
        class Either(device.WrappedStorageDaemon):
            """Kills the back-end and its keeper by turns."""
            turn = 0

            def kill(self):
                Either.turn += 1
                return super().kill() if Either.turn % 2 else (
                    self.kill_keeper())

        run, status, log = self.run_kills(60, 0.02, make=Either)
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), 60)
        self.assertGreaterEqual(status["recoveries"], 30)
        self.assertTrue(run.result["load"]["clean"])

    def test_the_client_notices_when_nothing_is_tracked(self):
        try:
            run, _, _ = self.run_kills(50, 0.03, tracking="in-order", lost_s=2)
        except device.DiedByItself as noticed:
            # By the storage daemon itself: a request that it has done before
            # is made of descriptors that were used again since.
            self.assertIn("vu_panic", str(noticed))
            return
        self.assertNotEqual(run.problems, [])
        print("base = used index: noticed after %d kills" % len(run.kills))
