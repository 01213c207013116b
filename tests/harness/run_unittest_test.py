"""The runner must fail whenever a case did, and count what was skipped."""

import os
import subprocess
import tempfile
import textwrap
import unittest
from xml.etree import ElementTree

RUNNER = os.path.abspath("tests/harness/run_unittest.sh")


def run(body):
    """Runs a test file; returns its exit status and the outcome of its cases."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "inner_test.py")
        xml = os.path.join(directory, "test.xml")
        with open(path, "w") as f:
            f.write("import unittest\n" + textwrap.dedent(body))
        status = subprocess.run(
            [RUNNER, path], check=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, XML_OUTPUT_FILE=xml)).returncode
        cases = ElementTree.parse(xml).getroot().iter("testcase")
        return status, sorted(c[0].tag if len(c) else "ok" for c in cases)


class RunUnittest(unittest.TestCase):

    def test_reports_every_kind_of_outcome(self):
        status, cases = run("""
            class T(unittest.TestCase):
                def test_good(self): pass
                def test_bad(self): self.fail("x")
                def test_broken(self): raise KeyError("x")
                def test_away(self): self.skipTest("not here")
            """)
        self.assertEqual(status, 1)
        self.assertEqual(cases, ["error", "failure", "ok", "skipped"])

    def test_passes_when_all_pass_or_skip(self):
        status, cases = run("""
            class T(unittest.TestCase):
                def test_good(self): pass
                def test_away(self): self.skipTest("not here")
            """)
        self.assertEqual(status, 0)
        self.assertEqual(cases, ["ok", "skipped"])

    def test_fails_when_a_subtest_fails(self):
        status, cases = run("""
            class T(unittest.TestCase):
                def test_sub(self):
                    with self.subTest("a"): self.fail("x")
            """)
        self.assertEqual(status, 1)
        self.assertEqual(cases, ["failure"])

    def test_fails_when_there_is_nothing_to_run(self):
        self.assertEqual(run("x = 1")[0], 1)
