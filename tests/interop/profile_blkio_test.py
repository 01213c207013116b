"""Back-ends that `holdfast run --profile` has wrapped, as people start them:
killed under libblkio's strict eyes, which never see a disconnect."""

import os
import random
import signal
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts, processes

KILLS = 10
FRONT_ENDS = 12
LONG_SECONDS = 60


class WrappedByAProfile(unittest.TestCase):

    def kill(self, make, **options):
        parts.blkio_library()
        source = random.Random(KILLS)
        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with make(image, **options) as back_end:
                run = blkio.kill_run(
                    back_end, KILLS, lambda: source.uniform(0, 0.02), depth=32,
                    flushes_in_256=2)
                status, log = back_end.status(), back_end.log()
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), KILLS)
        self.assertGreaterEqual(status["backend_lives"], KILLS)
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])
        print("%s %s: %d kills, %d requests" % (
            make.name, options, KILLS, load["operations"]))

    def test_a_storage_daemon_with_a_standby(self):
        self.kill(device.ProfiledStorageDaemon)

    def test_a_storage_daemon_that_locks_its_image(self):
        self.kill(device.ProfiledStorageDaemon, standby=False)

    def test_a_program_with_a_descriptor_for_an_option(self):
        self.kill(device.ProfiledDevice)

    def test_restart_replaces_it_and_forgets_its_losses(self):
        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.ProfiledStorageDaemon(image, standby=False) as back_end:
                with blkio.Client(back_end.socket, lost_s=LONG_SECONDS) as (
                        client):
                    client.wait_started()
                    first = back_end.living()
                    self.restart(back_end, first)
                    last = self.kill_until_nobody_starts_it(back_end)
                    self.restart(back_end, last)
                    result = client.finish()
                    self.assertTrue(result and result["load"]["clean"],
                                    client.output[-2000:])

    def test_run_says_that_the_program_will_not_do(self):
        class Wrong(device.ProfiledStorageDaemon):
            """With an argument that it does not know."""

            def command(self):
                return [*super().command(), "--nonsense"]

        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            for standby in (True, False):
                wrong = Wrong(image, standby=standby)
                with self.assertRaisesRegex(RuntimeError,
                                            "status 1: holdfast: it has"):
                    try:
                        wrong.start()
                    finally:
                        listed = wrong.daemon.command("list", "--json")
                        log = wrong.log()
                        wrong.stop()
                self.assertNotIn(wrong.instance, listed)
                self.assertIn("--nonsense", log)

    # Each gets another life, and more of them than the budget has tokens.
    def test_front_ends_come_and_go(self):
        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.ProfiledStorageDaemon(image) as back_end:
                for _ in range(FRONT_ENDS):
                    with blkio.Client(back_end.socket, seconds=1) as client:
                        client.wait_started()
                        result = client.finish(now=False)
                        self.assertTrue(result and result["load"]["clean"],
                                        client.output[-2000:])
                status = back_end.status()
                events = back_end.daemon.command("events")
                shown = back_end.daemon.command("status", back_end.instance)
        self.assertGreaterEqual(status["backend_lives"], FRONT_ENDS)
        self.assertIn("backend-finished", events)
        self.assertIn("in-flight region forced on it (level B)", shown)
        for trouble in ("backend-degraded", "backend-quarantined"):
            self.assertNotIn(trouble, events)

    def test_one_that_hangs_is_replaced(self):
        class Watched(device.ProfiledStorageDaemon):
            """Of which somebody looks whether it hangs."""

            def start(self):
                self.profile = os.path.join(self._directory.name, "mine")
                with open(self.profile, "w", encoding="utf-8") as f:
                    f.write(self.daemon.command(
                        "profile", "show", "qemu-storage-daemon"))
                    f.write("hang_seconds: 1\n")
                super().start()

        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with Watched(image) as back_end:
                with blkio.Client(back_end.socket, lost_s=LONG_SECONDS) as (
                        client):
                    client.wait_started()
                    for _ in range(2):
                        first = back_end.living()
                        back_end.daemon.command(
                            "inject", back_end.instance, "stop",
                            "--target=backend")
                        processes.wait_for(
                            lambda pid=first: back_end.status()["backend_pid"]
                            not in (0, pid), LONG_SECONDS, "another process")
                    events = back_end.daemon.command("events")
                    result = client.finish()
                    self.assertTrue(result and result["load"]["clean"],
                                    client.output[-2000:])
        self.assertRegex(events, "it hangs: ring 0 has requests and no answer "
                                 "for 1s")

    def restart(self, back_end, pid):
        back_end.daemon.command("restart", back_end.instance)
        processes.wait_for(
            lambda: back_end.status()["backend_pid"] not in (0, pid),
            LONG_SECONDS, "another process")

    def kill_until_nobody_starts_it(self, back_end):
        pid = 0

        def denied():
            nonlocal pid
            status = back_end.status()
            if status["backend_pid"] not in (0, pid):
                pid = status["backend_pid"]
                os.kill(pid, signal.SIGKILL)
            return status["backend_state"] == "DENIED"
        processes.wait_for(denied, LONG_SECONDS, "an empty budget")
        return pid

    def test_a_program_with_a_path_for_an_option(self):
        self.kill(device.PathDevice)

    def test_what_the_launcher_refuses_is_said(self):
        class Elsewhere(device.ProfiledStorageDaemon):
            """A program of a directory that holdfastd was not given."""

            def command(self):
                return ["/bin/true", "{fd}"]

        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=1, ext4_mib=0)
            back_end = Elsewhere(image)
            # Debian's are beside it.
            back_end.backend = back_end.program
            with self.assertRaisesRegex(
                    RuntimeError, r"backend.binary: .*--allow-binary-dir"):
                with back_end:
                    pass
