"""Another version of qemu-storage-daemon in the place of the one that runs,
under libblkio's strict eyes; and what is refused before anything stops."""

import random
import tempfile
import time
import unittest

from tests.harness import blkio, device, disk, effort, parts, processes, stalls

OLD, NEW = "7.2", "11.1"
# VIRTIO_BLK_F_SIZE_MAX, which only the old one offers, and min_io_size and
# opt_io_size, on which the two do not agree: as the profile has it.
OPTIONS = "forced,mask-features=%d,config-may-differ=%d" % (1 << 1, 0x3f << 26)
# Of each version by the other one, half of them each way.
TIMES = effort.kills(suite=10, long=200)
LOAD = {"depth": 32, "gap_ms": 0.05, "flushes_in_256": 2}
LONG_SECONDS = 60


class Replaceable(device.WrappedStorageDaemon):
    """Runs one version, and knows what starts the other one.

    change: what of the words that start it is another word.
    """

    def __init__(self, image, change=("", "")):
        super().__init__(image, OLD, tracking=OPTIONS)
        self._change = change
        self.other = device.WrappedStorageDaemon(image, NEW)

    def start(self):
        self.daemon.start([self.program, self.policy, self.backend,
                           self.other.backend])
        self.daemon.wrap(
            self.instance, self.program, self.socket, self.policy,
            self._tracking, ["standby"],
            changed(self.command(), *self._change))
        self.wait_whole()

    def replace(self, command):
        """Returns when it works; raises with the reason when it will not do."""
        processes.wait_for(lambda: self.status()["backend_spare_pid"],
                           LONG_SECONDS, "a spare")
        self.daemon.replace(self.instance, self.program, self.socket,
                            self.policy, self._tracking, command)


def changed(command, old, new):
    return [word.replace(old, new) for word in command]


def longest_within(begin, end, gaps):
    """Of the pauses [(start, milliseconds)], that lie within these times."""
    return max([ms for start, ms in gaps
                if start < end and start + ms / 1000 > begin], default=0.0)


class Replacement(unittest.TestCase):

    def setUp(self):
        parts.blkio_library()
        directory = tempfile.TemporaryDirectory(prefix="hfrepl")
        self.addCleanup(directory.cleanup)
        self.image = directory.name + "/disk.img"
        disk.Disk(self.image, raw_mib=64, ext4_mib=0)

    def test_each_version_by_the_other(self):
        source = random.Random(TIMES)
        calls = []
        with Replaceable(self.image) as back_end:
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                for i in range(TIMES):
                    time.sleep(source.uniform(0, 0.05))
                    before = back_end.status()["backend_pid"]
                    other = (back_end.other, back_end)[i % 2]
                    begin = time.monotonic()
                    back_end.replace(other.command())
                    calls.append((begin, time.monotonic()))
                    pid = back_end.status()["backend_pid"]
                    self.assertNotIn(pid, (0, before))
                    # That of the new one runs by its own loader.
                    with open("/proc/%d/cmdline" % pid) as words:
                        self.assertEqual("ld-linux" in words.read(),
                                         other is back_end.other)
                result = client.finish()
            log = back_end.log()
        self.assertEqual(client.exit_status, 0, client.output[-2000:])
        self.assertTrue(result["load"]["clean"] and
                        result["load"]["read_back"], log[-3000:])
        blackouts = [longest_within(begin, end, result["gaps"])
                     for begin, end in calls]
        print("%d replacements of %s and %s, %d requests, blackout ms %s" % (
            TIMES, OLD, NEW, result["load"]["operations"],
            stalls.summary(blackouts)))

    def test_a_lesser_program_is_refused_and_nothing_stops(self):
        small = self.image + ".small"
        disk.Disk(small, raw_mib=32, ext4_mib=0)
        with Replaceable(self.image, ("num-queues=1", "num-queues=2")) as (
                back_end):
            good = changed(back_end.command(), "num-queues=1", "num-queues=2")
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                pid = back_end.status()["backend_pid"]
                for words, why in (
                        (back_end.command(), "it has 1 queues, not 2"),
                        (changed(good, self.image, small),
                         "byte [0-9]+ of its configuration space"),
                        ([self.image, "{fd}"], "allow-binary-dir"),
                        (good[:1] + ["--bad"], "has ended|has closed")):
                    with self.subTest(why):
                        with self.assertRaisesRegex(RuntimeError, why):
                            back_end.replace(words)
                        self.assertEqual(back_end.status()["backend_pid"], pid)
                # The control.
                back_end.replace(good)
                self.assertNotEqual(back_end.status()["backend_pid"], pid)
                result = client.finish()
            self.assertEqual(client.exit_status, 0, client.output[-2000:])
            self.assertTrue(result["load"]["clean"])

    def test_a_missing_feature_is_named(self):
        # VIRTIO_BLK_F_RO, which the guest was told of.
        with Replaceable(self.image, ("writable=on", "writable=off")) as (
                back_end):
            with self.assertRaisesRegex(
                    RuntimeError, "does not offer the features 0x20"):
                back_end.replace(back_end.command())
