"""qemu-storage-daemon as Debian has it, behind a keeper: killed under
libblkio's strict eyes, which never see a disconnect."""

import functools
import os
import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts, processes, stalls

# How often the keeper may be scheduled in so many requests, at depth 32: it has
# no part in them, and even one of a fifteenth of the batches would show.
SLEEPS = 20
REQUESTS = 10000
REQUEST_BYTES = 4096
LONG_SECONDS = 120


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
        # No keeper has died, one that waits neither.
        self.assertNotIn("holdfastd: lost ", log)
        print("%s: %d kills, %d requests, gap ms %s" % (
            options, kills, load["operations"],
            stalls.summary([gap * 1000 for gap in run.gaps])))

    def test_with_a_standby(self):
        self.kill(int(os.environ.get("HOLDFAST_KILLS", "60")))

    def test_with_a_standby_that_awaits_all_of_the_end(self):
        self.kill(20, make=functools.partial(device.WrappedStorageDaemon,
                                             synchronous=False))

    def test_at_a_real_time_priority(self):
        self.kill(20, make=functools.partial(device.WrappedStorageDaemon,
                                             realtime_priority=5))

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
        self.assertIn("holdfastd: lost ", log)
        self.assertTrue(run.result["load"]["clean"])

    def wakes_under_load(self, back_end, meanwhile=lambda: None):
        """How often the keeper was scheduled while its back-end, or those that
        come after it, do REQUESTS requests."""
        def has_done(requests):
            first, last = {}, {}

            def enough():
                # A life may end at any time, here with the client before.
                pid = back_end.status()["backend_pid"]
                try:
                    last[pid] = processes.bytes_moved(pid)
                except OSError:
                    return False
                first.setdefault(pid, last[pid])
                return (sum(last.values()) - sum(first.values()) >=
                        requests * REQUEST_BYTES)
            processes.wait_for(enough, LONG_SECONDS, "requests")

        with blkio.Client(back_end.socket, depth=32, read_back=False,
                          max_kib=REQUEST_BYTES // 1024) as client:
            client.wait_started()
            # The ring runs; the keeper may still have a word to say.
            has_done(REQUESTS // 10)
            keeper = back_end.status()["active_pid"]
            before = processes.context_switches(keeper)
            meanwhile()
            has_done(REQUESTS)
            after = processes.context_switches(keeper)
            self.assertEqual(back_end.status()["active_pid"], keeper)
            result = client.finish()
        self.assertTrue(result["load"]["clean"], client.output[-2000:])
        print("keeper scheduled %d times in %d requests or more" % (
            after - before, REQUESTS))
        return after - before

    def test_the_keeper_sleeps_under_load(self):
        with tempfile.TemporaryDirectory(prefix="hfwrap") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.WrappedStorageDaemon(image) as back_end:
                self.assertLessEqual(self.wakes_under_load(back_end), SLEEPS)
                # The measure sees a keeper that has something to do.
                self.assertGreater(self.wakes_under_load(
                    back_end, lambda: [back_end.kill() for _ in range(20)]),
                    SLEEPS)

    def test_the_client_notices_when_nothing_is_tracked(self):
        try:
            # It takes 10 to 40, seldom more; the run ends with them.
            run, _, _ = self.run_kills(1000, 0.03, tracking="in-order", lost_s=2)
        except device.DiedByItself as noticed:
            # By the storage daemon itself: a request that it has done before
            # is made of descriptors that were used again since.
            self.assertIn("vu_panic", str(noticed))
            return
        self.assertNotEqual(run.problems, [])
        print("base = used index: noticed after %d kills" % len(run.kills))
