"""Another version of qemu-storage-daemon in the place of the one that runs,
under libblkio's strict eyes; and what is refused before anything stops."""

import os
import random
import shutil
import tempfile
import threading
import time
import unittest

from tests.harness import blkio, device, disk, effort, parts, processes, stalls

OLD, NEW = "7.2", "10.0"
# Of each version by the other one, half of them each way.
TIMES = effort.kills(suite=20, long=200)
# In each of these another launcher goes on. Of one that dies again and again the
# next is started ever later, so that many take minutes each.
DEATHS = min(effort.kills(suite=8, long=20), 20)
LOAD = {"depth": 32, "gap_ms": 0.05, "flushes_in_256": 2}
LONG_SECONDS = 60


class Replaceable(device.ProfiledStorageDaemon):
    """Runs one version, and knows what starts the other one.

    change: what of the words that start it is another word. program: in place
    of the version itself.
    """

    def __init__(self, image, change=("", ""), program=None):
        super().__init__(image, OLD)
        self._change = change
        self.other = device.ProfiledStorageDaemon(image, NEW)
        if program:
            self.backend = program

    def files(self):
        return [*super().files(), self.other.backend]

    def command(self):
        return changed(super().command(), *self._change)

    def replace(self, command, profile=None):
        """Returns when it works; raises with the reason when it will not do."""
        return self.daemon.command(
            "replace", self.instance,
            "--profile=" + (profile or self.profile), "--", *command)


def changed(command, old, new):
    return [word.replace(old, new) for word in command]


def is_new(pid):
    """Whether it, or its child, is the newer version, by what is executed."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="utf-8") as f:
        pids = [pid, *map(int, f.read().split())]
    return any(os.path.samefile("/proc/%d/exe" % each,
                                parts.storage_daemon(NEW)) for each in pids)


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

    def finish(self, client, back_end):
        result, log = client.finish(), back_end.log()
        self.assertEqual(client.exit_status, 0,
                         client.output[-2000:] + log[-2000:])
        self.assertTrue(result["load"]["clean"] and
                        result["load"]["read_back"], log[-3000:])
        return result

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
                    said = back_end.replace(other.command())
                    calls.append((begin, time.monotonic()))
                    self.assertEqual(said, "%s is served by %s\n" % (
                        back_end.instance, other.backend))
                    pid = back_end.status()["backend_pid"]
                    self.assertNotIn(pid, (0, before))
                    self.assertEqual(is_new(pid), other is back_end.other)
                result = self.finish(client, back_end)
        blackouts = [longest_within(begin, end, result["gaps"])
                     for begin, end in calls]
        print("%d replacements of %s and %s, %d requests, blackout ms %s" % (
            TIMES, OLD, NEW, result["load"]["operations"],
            stalls.summary(blackouts)))

    # It is the old one or the new one, and whoever asks again gets what he
    # asked for.
    def test_a_launcher_that_dies_over_it(self):
        source = random.Random(DEATHS)
        with Replaceable(self.image) as back_end:
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                for i in range(DEATHS):
                    back_end.living()
                    other = (back_end.other, back_end)[i % 2]
                    killer = threading.Timer(
                        source.uniform(0, 0.25), back_end.daemon.command,
                        ("inject", "kill", "--target=core"))
                    killer.start()
                    self.replace_at_last(back_end, other.command())
                    killer.join()
                    status = self.settled(back_end)
                    self.assertEqual(is_new(status["backend_pid"]),
                                     other is back_end.other)
                    self.assertIn(other.backend, back_end.daemon.command(
                        "status", back_end.instance))
                self.finish(client, back_end)

    def replace_at_last(self, back_end, command):
        """As whoever asks again when nobody was there to answer: a launcher
        that dies often is started ever later."""
        def done():
            try:
                return back_end.replace(command)
            except RuntimeError as error:
                if "nobody answers" not in str(error):
                    raise
                return None
        processes.wait_for(done, LONG_SECONDS, "a launcher")

    def settled(self, back_end):
        """Its status when a core knows both of its lives."""
        def whole():
            status = back_end.status()
            return (status["backend_pid"] and status["backend_spare_pid"] and
                    status)
        return processes.wait_for(whole, LONG_SECONDS, "two lives")

    def test_restart_takes_what_the_file_is_by_now(self):
        program = self.image + ".program"
        self.write_program(program, parts.storage_daemon(OLD))
        with Replaceable(self.image, program=program) as back_end:
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                self.assertFalse(is_new(back_end.living()))
                self.write_program(program, parts.storage_daemon(NEW))
                back_end.daemon.command("restart", back_end.instance)
                self.assertTrue(is_new(back_end.status()["backend_pid"]))
                # One that will not do is told of, and the other one stays.
                self.write_program(program, "/bin/false")
                with self.assertRaisesRegex(RuntimeError, "has ended|closed"):
                    back_end.daemon.command("restart", back_end.instance)
                self.assertTrue(is_new(back_end.status()["backend_pid"]))
                self.write_program(program, parts.storage_daemon(OLD))
                self.finish(client, back_end)

    def write_program(self, path, program):
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nexec %s \"$@\"\n" % os.path.realpath(program))
        os.chmod(path + ".new", 0o755)
        os.replace(path + ".new", path)

    def test_by_one_that_listens_at_a_path(self):
        profile = self.image + ".profile"
        with Replaceable(self.image) as back_end:
            with open(profile, "w", encoding="utf-8") as f:
                f.write(back_end.daemon.command(
                    "profile", "show", back_end.profile)
                        .replace("type=fd,addr.str={fd}",
                                 "type=unix,addr.path={path}")
                        .replace("LISTENING_FD", "LISTENING_PATH"))
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                back_end.replace(back_end.other.command(), profile)
                self.assertTrue(is_new(back_end.status()["backend_pid"]))
                # The other way round.
                back_end.replace(back_end.command())
                self.assertFalse(is_new(back_end.status()["backend_pid"]))
                self.finish(client, back_end)

    def test_a_lesser_program_is_refused_and_nothing_stops(self):
        small, elsewhere = self.image + ".small", self.image + ".true"
        shutil.copy(shutil.which("true"), elsewhere)
        disk.Disk(small, raw_mib=32, ext4_mib=0)
        with Replaceable(self.image, ("num-queues=1", "num-queues=2")) as (
                back_end):
            good = back_end.command()
            lesser = changed(good, "num-queues=2", "num-queues=1")
            with blkio.Client(back_end.socket, **LOAD) as client:
                client.wait_started()
                pid = back_end.status()["backend_pid"]
                for words, why in (
                        (lesser, "it has 1 queues, not 2"),
                        (changed(good, self.image, small),
                         "byte [0-9]+ of its configuration space"),
                        ([elsewhere, *good[1:]], "allow-binary-dir"),
                        (good[:1] + ["--bad", *good[1:]],
                         "has ended|has closed")):
                    with self.subTest(why):
                        with self.assertRaisesRegex(RuntimeError, why):
                            back_end.replace(words)
                        self.assertEqual(back_end.status()["backend_pid"], pid)
                # The control.
                back_end.replace(good)
                self.assertNotEqual(back_end.status()["backend_pid"], pid)
                self.finish(client, back_end)

    def test_a_missing_feature_is_named(self):
        # VIRTIO_BLK_F_RO, which the guest was told of.
        with Replaceable(self.image, ("writable=on", "writable=off")) as (
                back_end):
            writable = changed(back_end.command(), "writable=off",
                               "writable=on")
            back_end.living()
            with self.assertRaisesRegex(
                    RuntimeError, "does not offer the features 0x20"):
                back_end.replace(writable)
