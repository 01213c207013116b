"""kill -9 of any one process of Holdfast under a strict client's load: no error,
everything whole again, nothing leaks."""

import os
import random
import tempfile
import time
import unittest

from tests.harness import blkio, disk, faults, parts


class AnyProcess(unittest.TestCase):

    def kill_in_any_order(self, make, kills):
        parts.blkio_library()
        source = random.Random(7)
        with tempfile.TemporaryDirectory(prefix="hfany") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with make(image) as holdfast, \
                    blkio.Client(holdfast.socket, depth=32,
                                 flushes_in_256=2) as client:
                client.wait_started()
                for _ in range(kills):
                    time.sleep(source.uniform(0, 0.1))
                    killed = holdfast.kill()
                    self.assertTrue(client.running(), killed.victim)
                leaks = holdfast.growth()
                result = client.finish()
                if client.exit_status != 0:
                    print(holdfast.log())
        self.assertIsNotNone(result, client.output[-2000:])
        self.assertEqual(client.exit_status, 0, client.words())
        self.assertTrue(result["load"]["clean"])
        self.assertEqual(leaks, [])
        self.assertEqual((holdfast.left, holdfast.files_left,
                          holdfast.cgroups_left), ([], [], []))
        print("kills %s; %d requests, all right" % (
            holdfast.counts, result["load"]["operations"]))

    def test_of_a_disk(self):
        self.kill_in_any_order(faults.AnyProcessDevice,
                               int(os.environ.get("HOLDFAST_KILLS", "54")))

    def test_around_a_wrapped_back_end(self):
        self.kill_in_any_order(faults.AnyProcessWrapped,
                               int(os.environ.get("HOLDFAST_KILLS", "32")))
