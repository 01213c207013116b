"""tools/bazel/test_summary.py: nothing that failed is counted as passed."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

SUMMARY = os.path.abspath("tools/bazel/test_summary.py")
PASSED = '<testcase name="a" status="run"/>'
FAILED = '<testcase name="b" status="run"><failure message="m"/></testcase>'
SKIPPED = '<testcase name="c" status="run"><skipped message="m"/></testcase>'


class Summary(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.events = []

    def ran(self, label, status, cases, milliseconds=1000):
        """Adds the events of a test; `cases` None: it left no report."""
        result = {"testAttemptDurationMillis": str(milliseconds)}
        if cases is not None:
            path = os.path.join(self.directory, "%d.xml" % len(self.events))
            with open(path, "w") as f:
                f.write("<testsuites><testsuite>%s</testsuite></testsuites>"
                        % cases)
            result["testActionOutput"] = [
                {"name": "test.xml", "uri": "file://" + path}]
        self.events += [
            {"id": {"testResult": {"label": label, "run": 1, "shard": 1}},
             "testResult": result},
            {"id": {"testSummary": {"label": label}},
             "testSummary": {"overallStatus": status}}]

    def summary(self):
        path = os.path.join(self.directory, "events.json")
        with open(path, "w") as f:
            f.write("".join(json.dumps(e) + "\n" for e in self.events))
        done = subprocess.run([sys.executable, SUMMARY, path], check=False,
                              stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.rstrip("\n").split("\n")

    def test_counts_cases(self):
        self.ran("//a:a", "PASSED", PASSED + SKIPPED)
        self.ran("//b:b", "PASSED", PASSED)
        status, lines = self.summary()
        self.assertEqual((status, lines[-1]),
                         (0, "2 passed, 0 failed, 1 skipped"))

    def test_a_failed_case_fails(self):
        self.ran("//a:a", "FAILED", PASSED + FAILED)
        status, lines = self.summary()
        self.assertEqual((status, lines[-1]),
                         (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_test_that_died_without_a_report_fails(self):
        self.ran("//a:a", "PASSED", PASSED)
        self.ran("//b:b", "TIMEOUT", None)
        status, lines = self.summary()
        self.assertEqual((status, lines[-1]),
                         (1, "1 passed, 1 failed, 0 skipped"))

    def test_all_cases_passed_and_yet_it_failed(self):
        # A sanitizer's report, or a crash on the way out.
        self.ran("//a:a", "FAILED", PASSED)
        self.assertEqual(self.summary()[1][-1],
                         "1 passed, 1 failed, 0 skipped")

    def test_what_does_not_build_fails(self):
        self.ran("//a:a", "PASSED", PASSED)
        self.events.append({"id": {"targetCompleted": {"label": "//b:b"}},
                            "completed": {}})
        self.assertEqual(self.summary()[0], 1)

    def test_nothing_at_all_is_no_success(self):
        self.assertEqual(self.summary(), (1, [
            "tests took 0 s one after the other; the slowest:",
            "0 passed, 0 failed, 0 skipped"]))

    def test_names_the_slowest_first(self):
        self.ran("//a:fast", "PASSED", PASSED, 500)
        self.ran("//a:slow", "PASSED", PASSED, 65000)
        lines = self.summary()[1]
        self.assertEqual(lines[-4:-1], [
            "tests took 66 s one after the other; the slowest:",
            "   65.0 s  //a:slow", "    0.5 s  //a:fast"])


if __name__ == "__main__":
    unittest.main()
