"""Kills under libblkio's strict eyes: no error, no lost and no doubled
completion, at any depth."""

import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts, stalls


class KilledUnderLoad(unittest.TestCase):

    def kill(self, kills, depth, longest_pause):
        """Kills at random within `longest_pause` s after the standby is there."""
        parts.blkio_library()
        source = random.Random(depth)
        with tempfile.TemporaryDirectory(prefix="hfblk") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.HoldfastDevice(image) as holdfast:
                run = blkio.kill_run(
                    holdfast, kills,
                    lambda: source.uniform(0, longest_pause), depth=depth,
                    flushes_in_256=2)
                status = holdfast.status()
        self.assertEqual(run.problems, [])
        self.assertEqual(len(run.kills), kills)
        self.assertGreaterEqual(status["recoveries"], kills)
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])
        print("depth %d: %d kills, %d requests, gap ms %s, promotion us %s" % (
            depth, kills, load["operations"],
            stalls.summary([gap * 1000 for gap in run.gaps]),
            stalls.summary([kill.recovery_us for kill in run.kills])))

    def test_at_depth_32(self):
        self.kill(kills=200, depth=32, longest_pause=0.03)

    def test_one_request_at_a_time(self):
        self.kill(kills=100, depth=1, longest_pause=0.03)
