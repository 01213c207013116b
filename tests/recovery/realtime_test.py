"""realtime_priority of a launch spec: what really runs at SCHED_FIFO, before
and after a promotion, and what a machine that refuses it says."""

import os
import signal
import tempfile
import unittest

from tests.harness import device, disk, faults, processes

PRIORITY = 7


def scheduling(pid):
    """{(policy, priority)} of all threads of a process."""
    return {(os.sched_getscheduler(thread),
             os.sched_getparam(thread).sched_priority)
            for thread in map(int, os.listdir("/proc/%d/task" % pid))}


def fifo(priority):
    return {(os.SCHED_FIFO, priority)}


def realtime_limit(pid):
    """How long it may run without waiting, in microseconds."""
    with open("/proc/%d/limits" % pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("Max realtime timeout"):
                return line.split()[4]
    raise RuntimeError("no such limit")


# Its thread that only closes must not be in anybody's way.
OF_THE_STORE = fifo(PRIORITY + 1) | {(os.SCHED_OTHER, 0)}


def store_of(holdfast):
    """The pid of holdfast-store, or None."""
    for pid in faults.descendants(holdfast.daemon.pid):
        if faults.stat(pid)[0] == "holdfast-store":
            return pid
    return None


class Refused(device.HoldfastDevice):
    """A launcher without the right to real-time priorities."""

    def start(self):
        self.daemon.prefix = ("setpriv", "--bounding-set=-sys_nice")
        super().start()


class Realtime(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hfrt")
        self.addCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)
        self.image = directory.name + "/disk.img"
        disk.Disk(self.image, raw_mib=1, ext4_mib=0)

    def start(self, kind=device.HoldfastDevice, priority=PRIORITY):
        holdfast = kind(self.image, realtime_priority=priority)
        holdfast.__enter__()
        self.addCleanup(holdfast.__exit__)
        return holdfast, holdfast.wait_whole()

    def test_every_thread_of_children_and_store(self):
        holdfast, status = self.start()
        for pid in (status["active_pid"], status["standby_pid"]):
            self.assertGreater(len(os.listdir("/proc/%d/task" % pid)), 1)
            self.assertEqual(scheduling(pid), fifo(PRIORITY))
        store = store_of(holdfast)
        self.assertEqual(os.sched_getscheduler(store), os.SCHED_FIFO)
        self.assertEqual(scheduling(store), OF_THE_STORE)
        self.assertFalse([reason for reason in status["degraded"]
                          if "real-time" in reason])

    def test_promotion_keeps_it_and_the_next_standby_has_it(self):
        holdfast, status = self.start()
        for _ in range(3):
            heir = status["standby_pid"]
            holdfast.kill()
            status = holdfast.wait_whole()
            self.assertEqual(status["active_pid"], heir)
            self.assertEqual(scheduling(heir), fifo(PRIORITY))
            self.assertEqual(scheduling(status["standby_pid"]), fifo(PRIORITY))

    def test_a_new_store_has_it(self):
        holdfast, _ = self.start()
        before = store_of(holdfast)
        os.kill(before, signal.SIGKILL)
        processes.wait_for(
            lambda: store_of(holdfast) not in (None, before) and
            scheduling(store_of(holdfast)) == OF_THE_STORE,
            30, "a store at real-time priority")
        holdfast.wait_whole()

    def test_without_it_nothing_runs_at_a_real_time_priority(self):
        holdfast, status = self.start(priority=0)
        for pid in (status["active_pid"], status["standby_pid"],
                    store_of(holdfast)):
            self.assertEqual(scheduling(pid), {(os.SCHED_OTHER, 0)})

    def test_a_refusal_is_degraded_and_everything_runs(self):
        holdfast, status = self.start(Refused)
        for what in ("degraded: real-time priority: ",
                     "degraded: real-time priority of the store: "):
            self.assertTrue(any(reason.startswith(what)
                                for reason in status["degraded"]), status)
        self.assertEqual(scheduling(status["active_pid"]),
                         {(os.SCHED_OTHER, 0)})
        holdfast.kill()
        holdfast.wait_whole()

    def lives(self, **options):
        """What runs of a wrapped program, and the next time, and its device."""
        wrapped = device.WrappedStorageDaemon(self.image, **options)
        wrapped.__enter__()
        self.addCleanup(wrapped.__exit__)
        yield [wrapped.living(), wrapped.status()["backend_spare_pid"]], wrapped
        wrapped.kill()
        yield [wrapped.living(), wrapped.status()["backend_spare_pid"]], wrapped

    def test_every_thread_of_what_is_wrapped(self):
        for pids, wrapped in self.lives(realtime_priority=PRIORITY):
            for pid in pids:
                self.assertEqual(scheduling(pid), fifo(PRIORITY))
                self.assertEqual(realtime_limit(pid), "2000000")
            self.assertEqual(scheduling(wrapped.status()["active_pid"]),
                             fifo(PRIORITY))

    def test_what_polls_has_none(self):
        for pids, wrapped in self.lives(realtime_priority=PRIORITY, polls=True):
            for pid in pids:
                self.assertEqual(scheduling(pid), {(os.SCHED_OTHER, 0)})
            self.assertEqual(scheduling(wrapped.status()["active_pid"]),
                             fifo(PRIORITY))

    def test_without_it_what_is_wrapped_has_none(self):
        for pids, _ in self.lives():
            for pid in pids:
                self.assertEqual(scheduling(pid), {(os.SCHED_OTHER, 0)})
                self.assertEqual(realtime_limit(pid), "unlimited")


if __name__ == "__main__":
    unittest.main()
