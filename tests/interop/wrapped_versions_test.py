"""The three versions of qemu-storage-daemon that Debian has, behind a keeper:
killed under libblkio's strict eyes, and their keepers in between."""

import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, effort, parts, stalls

VERSIONS = ("7.2", "10.0", "11.1")
# Of all three together.
KILLS = effort.kills(suite=60, long=2000)
# One kill of so many is the keeper's.
KEEPERS_SHARE = 5
# Seconds between two kills, at most.
LONGEST_PAUSE = 0.02


class Either(device.WrappedStorageDaemon):
    """Kills the back-end, and now and then its keeper."""

    def __init__(self, image, version):
        super().__init__(image, version)
        self.kills = {"back-end": 0, "keeper": 0}

    def kill(self):
        keeper = sum(self.kills.values()) % KEEPERS_SHARE == KEEPERS_SHARE - 1
        self.kills["keeper" if keeper else "back-end"] += 1
        return self.kill_keeper() if keeper else super().kill()


class ThreeVersions(unittest.TestCase):

    def kill(self, version, kills):
        parts.blkio_library()
        source = random.Random(version)
        with tempfile.TemporaryDirectory(prefix="hfvers") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with Either(image, version) as back_end:
                run = blkio.kill_run(
                    back_end, kills,
                    lambda: source.uniform(0, LONGEST_PAUSE), depth=32,
                    flushes_in_256=2)
                status, log = back_end.status(), back_end.log()
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), kills)
        self.assertGreaterEqual(status["backend_lives"],
                                back_end.kills["back-end"])
        self.assertGreaterEqual(status["recoveries"], back_end.kills["keeper"])
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])
        print("%s: kills %s, %d requests, gap ms %s" % (
            version, back_end.kills, load["operations"],
            stalls.summary([gap * 1000 for gap in run.gaps])))

    def test_are_killed(self):
        for i, version in enumerate(VERSIONS):
            with self.subTest(version):
                self.kill(version, (KILLS + i) // len(VERSIONS))
