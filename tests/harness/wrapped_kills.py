"""A wrapped qemu-storage-daemon, and now and then its keeper, killed under
libblkio's strict eyes."""

import random
import tempfile

from tests.harness import blkio, device, disk, parts, stalls

# Seconds between two kills, at most.
LONGEST_PAUSE = 0.02


class Either(device.WrappedStorageDaemon):
    """Of so many kills one is the keeper's."""

    def __init__(self, image, keepers_share, **options):
        super().__init__(image, **options)
        self._keepers_share = keepers_share
        self.kills = {"back-end": 0, "keeper": 0}

    def kill(self):
        share = self._keepers_share
        keeper = sum(self.kills.values()) % share == share - 1
        self.kills["keeper" if keeper else "back-end"] += 1
        return self.kill_keeper() if keeper else super().kill()


def check(test, kills, keepers_share, depth=32, **options):
    """Fails `test` unless no request is lost, doubled or answered with an
    error. Other arguments are of WrappedStorageDaemon."""
    parts.blkio_library()
    source = random.Random(repr(options))
    with tempfile.TemporaryDirectory(prefix="hfwrap") as directory:
        image = directory + "/disk.img"
        disk.Disk(image, raw_mib=64, ext4_mib=0)
        with Either(image, keepers_share, **options) as back_end:
            run = blkio.kill_run(
                back_end, kills, lambda: source.uniform(0, LONGEST_PAUSE),
                depth=depth, flushes_in_256=2)
            status, log = back_end.status(), back_end.log()
    test.assertEqual(run.problems, [], log[-3000:])
    test.assertEqual(len(run.kills), kills)
    test.assertGreaterEqual(status["backend_lives"],
                            back_end.kills["back-end"])
    test.assertGreaterEqual(status["recoveries"], back_end.kills["keeper"])
    load = run.result["load"]
    test.assertTrue(load["clean"] and load["read_back"])
    print("%s, depth %d: kills %s, %d requests, gap ms %s" % (
        options, depth, back_end.kills, load["operations"],
        stalls.summary([gap * 1000 for gap in run.gaps])))
