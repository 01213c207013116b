"""Kills under libblkio's strict eyes: no error, no lost and no doubled
completion, at any depth."""

import os
import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts, stalls


class KilledUnderLoad(unittest.TestCase):

    def run_kills(self, make_device, kills, depth, longest_pause, **flags):
        """Kills at random within `longest_pause` s after the standby is there."""
        parts.blkio_library()
        source = random.Random(depth)
        with tempfile.TemporaryDirectory(prefix="hfblk") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with make_device(image) as back_end:
                run = blkio.kill_run(
                    back_end, kills,
                    lambda: source.uniform(0, longest_pause), depth=depth,
                    flushes_in_256=2, **flags)
                return run, back_end.status()

    def kill(self, kills, depth, longest_pause):
        run, status = self.run_kills(device.HoldfastDevice, kills, depth,
                                     longest_pause)
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
        kills = int(os.environ.get("HOLDFAST_KILLS", "5000"))
        self.kill(kills=kills, depth=32, longest_pause=0.02)

    def test_the_client_notices_when_the_table_is_ignored(self):
        run, _ = self.run_kills(device.ForgetfulDevice, kills=100, depth=32,
                                longest_pause=0.03, lost_s=2)
        self.assertNotEqual(run.problems, [])
        print("table ignored: noticed after %d kills" % len(run.kills))

    def test_one_request_at_a_time(self):
        self.kill(kills=100, depth=1, longest_pause=0.03)
