"""Nothing may outlive the harness, however it ends."""

import os
import signal
import subprocess
import sys
import unittest

from tests.harness import processes

# Starts a child, prints its pid when it runs, and waits.
PARENT = """
import sys, time
sys.path.insert(0, %r)
from tests.harness import processes
processes.exit_on_sigterm()
child = processes.start(["sleep", "600"])
def runs():
    with open("/proc/%%d/comm" %% child.pid) as f:
        return f.read().strip() == "sleep"
try:
    processes.wait_for(runs, 30, "start of the child")
    print(child.pid, flush=True)
    time.sleep(600)
finally:
    processes.kill(child)
    print("cleaned", flush=True)
""" % os.getcwd()


def gone(pid):
    """Ended; whoever has to reap it may not have done so."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Orphans(unittest.TestCase):

    def start_parent(self):
        parent = subprocess.Popen([sys.executable, "-B", "-c", PARENT],
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(parent.stdout.close)
        return parent, int(parent.stdout.readline())

    def test_a_killed_harness_takes_its_children_along(self):
        parent, child = self.start_parent()
        parent.kill()
        parent.wait()
        processes.wait_for(lambda: gone(child), 30, "end of the child")

    def test_a_terminated_harness_cleans_up(self):
        parent, child = self.start_parent()
        parent.terminate()
        self.assertEqual(parent.wait(), 128 + signal.SIGTERM)
        self.assertEqual(parent.stdout.read(), "cleaned\n")
        self.assertTrue(gone(child))


class Ending(unittest.TestCase):

    def test_kill_is_fine_with_the_dead_and_the_missing(self):
        child = processes.start(["true"])
        child.wait()
        self.assertEqual(processes.kill(child), 0)
        self.assertIsNone(processes.kill(None))

    def test_terminate_kills_who_does_not_listen(self):
        child = processes.start(
            [sys.executable, "-c", "import signal, time\n"
             "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
             "print('ready', flush=True)\n"
             "time.sleep(600)"], stdout=subprocess.PIPE)
        self.addCleanup(child.stdout.close)
        child.stdout.readline()
        self.assertEqual(processes.terminate(child, grace=0.1),
                         -signal.SIGKILL)

    def test_wait_for_names_what_did_not_come(self):
        with self.assertRaisesRegex(TimeoutError, "the moon"):
            processes.wait_for(lambda: False, 0.01, "the moon")

    def test_cpu_time_grows(self):
        self.assertGreater(processes.cpu_seconds(os.getpid()), 0)

    def test_each_sleep_and_each_byte_is_counted(self):
        child = processes.start(["cat"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(processes.kill, child)
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)

        def sleeps():
            with open("/proc/%d/stat" % child.pid) as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "S"

        def echo():
            child.stdin.write(b"x")
            child.stdout.read(1)
            processes.wait_for(sleeps, 30, "a child that waits")

        echo()
        switches = processes.context_switches(child.pid)
        moved = processes.bytes_moved(child.pid)
        for _ in range(10):
            echo()
        # It is asleep a moment before that is counted.
        self.assertGreaterEqual(
            processes.context_switches(child.pid) - switches, 9)
        self.assertGreaterEqual(processes.bytes_moved(child.pid) - moved, 20)
