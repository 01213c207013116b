"""What counts as a leak, and who is found."""

import os
import signal
import subprocess
import tempfile
import unittest

from tests.harness import faults, processes


class Leaks(unittest.TestCase):

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)

    def footprint(self, *pids):
        pids = pids or (os.getpid(),)
        return faults.Footprint({"core": pids[0]}, pids, self._directory.name)

    def test_nothing_has_changed(self):
        self.assertEqual(self.footprint().growth(self.footprint()), [])

    def test_descriptors_are_found(self):
        before = self.footprint()
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        self.assertRegex(before.growth(self.footprint())[0],
                         r"core holds \d+ descriptors, not \d+")
        for fd in opened:
            os.close(fd)

    def test_a_memfd_is_found(self):
        before = self.footprint()
        fd = os.memfd_create("leak")
        self.assertEqual(before.growth(self.footprint()),
                         ["memfds %s, not %s" % (
                             sorted(before.memfds + ["/memfd:leak (deleted)"]),
                             before.memfds)])
        os.close(fd)

    def test_a_filter_that_is_kept_is_none(self):
        before = self.footprint()
        fd = os.memfd_create("holdfast-filter")
        self.assertEqual(before.growth(self.footprint()), [])
        os.close(fd)

    def test_a_file_is_found(self):
        before = self.footprint()
        with open(self._directory.name + "/old.sock", "wb"):
            pass
        self.assertEqual(before.growth(self.footprint()),
                         ["files: ['old.sock'], not []"])

    def test_a_process_is_found(self):
        before = self.footprint()
        with subprocess.Popen(["sleep", "60"]) as other:
            processes.wait_for(
                lambda: faults.stat(other.pid)[0] == "sleep", 10, "exec")
            growth = before.growth(self.footprint(os.getpid(), other.pid))
            other.kill()
        self.assertIn("'sleep'", growth[0])


class Orphans(unittest.TestCase):

    def test_an_orphan_becomes_our_child(self):
        faults.become_reaper()
        done = subprocess.run(
            ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], check=True,
            capture_output=True, text=True)
        orphan = int(done.stdout)
        self.assertIn(orphan, faults.descendants(os.getpid()))
        os.kill(orphan, signal.SIGKILL)
        os.waitpid(orphan, 0)
        self.assertNotIn(orphan, faults.descendants(os.getpid()))

    def test_a_process_outside_has_no_control_group_of_a_launcher(self):
        self.assertEqual(faults.own_cgroups(os.getpid()), set())

    def test_what_is_gone_has_no_name_and_no_children(self):
        with subprocess.Popen(["true"]) as gone:
            pass
        self.assertEqual(faults.stat(gone.pid), ("", ""))
        self.assertEqual(faults.children(gone.pid), [])
