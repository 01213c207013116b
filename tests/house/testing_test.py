"""The rules about tests."""

import os
import re
import unittest

from tests.house import sources

# A test waits for what it wants to see, in short steps: by PollUntil()
# (base/testing/poll.h), wait_for() (tests/harness/processes.py) or a loop. A
# long sleep is too short on a busy machine, and too long on all others.
# Exceptions, which may only become fewer:
MAY_SLEEP = {
    "launcher/launcher_faults_test.cc": "two moments to forget what ended",
    "tests/interop/any_process_test.py": "a death may not be noticed yet",
    "tests/interop/blkio_client_test.py": "lets a load run",
    "tests/harness/processes_test.py": "is what is killed",
}
SLEEP = re.compile(r"\b(usleep|sleep|milliseconds|time\.sleep)\(([\d'.]+)\)")
LONGEST_STEP_S = 0.02
UNITS = {"usleep": 1e-6, "milliseconds": 1e-3, "sleep": 1, "time.sleep": 1}

SKIP = re.compile(r"GTEST_SKIP\(\)(?!\s*<<\s*\S)|skipTest\(\s*(\"\"\s*)?\)"
                  r"|@unittest\.skip(If|Unless)?\s*(\(\s*\)|$)")

NOT_UNDER = re.compile(r"\"no-(san|asan|ubsan|tsan)\"")


def sleeps_long(line):
    """Whether a line sleeps for a number that is more than a step."""
    found = SLEEP.search(line)
    return bool(found) and (
        found.group(1) != "milliseconds" or "sleep" in line) and float(
            found.group(2).replace("'", "")) * UNITS[found.group(1)] \
        > LONGEST_STEP_S


def without_reason(build):
    """Lines of a BUILD file that keep a test from a sanitizer and say no why.

    The reason stands behind the tag, above it, or above the list of tags.
    """
    lines = build.split("\n")
    wrong = []
    for i, line in enumerate(lines):
        if NOT_UNDER.search(line):
            tags = i
            while tags > 0 and "tags = [" not in lines[tags]:
                tags -= 1
            if not any("#" in text for text in (
                    line, lines[i - 1], lines[max(0, tags - 1)])):
                wrong.append(i + 1)
    return wrong


def replays_nothing(build, name):
    """Whether `build` does not run the fuzzer `name` on a corpus as a test."""
    rule = re.search(r"fuzz_test\(\n\s*name = \"%s\",(.*?)\n\)" % name, build,
                     re.S)
    return not rule or not re.search(r"corpus = (glob\(|\[)", rule.group(1))


class Testing(unittest.TestCase):

    def test_every_fuzzer_is_run_on_a_corpus(self):
        fuzzers = sources.tracked("_fuzz.cc")
        wrong = []
        for path in fuzzers:
            directory, name = os.path.split(path[:-len(".cc")])
            build = directory + "/BUILD.bazel"
            if not sources.exists(build) or replays_nothing(
                    sources.text(build), name):
                wrong.append(path)
        self.assertEqual(wrong, [], "fuzz_test() with a corpus")
        self.assertGreater(len(fuzzers), 5)

    def test_notices_a_fuzzer_without_a_corpus(self):
        rule = "fuzz_test(\n    name = \"a_fuzz\",\n    src = \"a_fuzz.cc\",\n"
        self.assertTrue(replays_nothing(rule + ")\n", "a_fuzz"))
        self.assertFalse(replays_nothing(
            rule + "    corpus = glob([\"corpus/*\"]),\n)\n", "a_fuzz"))
        self.assertTrue(replays_nothing("", "a_fuzz"))

    def test_no_seed_is_larger_than_it_must_be(self):
        large = [path for path in sources.tracked("")
                 if re.search(r"corpus/", path)
                 and os.path.getsize(os.path.join(sources.ROOT, path)) > 65536]
        self.assertEqual(large, [])

    def test_every_skip_says_why(self):
        wrong = sources.find(
            SKIP, (".cc", ".h", ".py"),
            lambda path, line: path.startswith("tests/house/"))
        self.assertEqual(wrong, [])
        self.assertTrue(SKIP.search("  GTEST_SKIP();"))
        self.assertTrue(SKIP.search("    self.skipTest()"))
        self.assertFalse(SKIP.search("GTEST_SKIP() << \"needs root\";"))

    def test_tests_wait_for_what_they_want(self):
        slept = sources.find(
            SLEEP, (".cc", ".h", ".py"),
            lambda path, line: not sources.TEST_CODE.search(path)
            or path in MAY_SLEEP or path.startswith("tests/house/")
            or not sleeps_long(line))
        self.assertEqual(slept, [], "use the helper")

    def test_notices_a_long_sleep(self):
        for line in ("usleep(100'000);", "  time.sleep(0.5)", "sleep(1);",
                     "std::this_thread::sleep_for(milliseconds(50));"):
            self.assertTrue(sleeps_long(line), line)
        for line in ("usleep(200);", "time.sleep(0.02)", "time.sleep(pause)",
                     "PollUntil(done, milliseconds(5000))"):
            self.assertFalse(sleeps_long(line), line)

    def test_what_no_sanitizer_sees_says_why(self):
        wrong = ["%s:%d" % (path, line)
                 for path in sources.tracked("BUILD.bazel", ".bzl")
                 for line in without_reason(sources.text(path))]
        self.assertEqual(wrong, [])

    def test_notices_a_test_kept_from_sanitizers_without_a_reason(self):
        self.assertEqual(without_reason(
            "cc_test(\n    name = \"a\",\n    tags = [\"no-san\"],\n)\n"), [3])
        self.assertEqual(without_reason(
            "cc_test(\n    # It maps 16 TiB.\n    tags = [\"no-san\"],\n)\n"),
            [])

    def test_libraries_for_tests_say_so(self):
        wrong = [path for path in sources.tracked("testing/BUILD.bazel")
                 if "testonly = True" not in sources.text(path)]
        self.assertEqual(wrong, [])

    def test_no_time_is_asserted(self):
        # Durations may be bounded from below (it has waited), never from above.
        wrong = sources.find(
            r"(EXPECT|ASSERT)_L[TE]\([^;]*(absl::Now\(\)|elapsed|Elapsed|"
            r"duration)|assertLess(Equal)?\([^)]*(elapsed|time\.monotonic|"
            r"seconds)",
            ("_test.cc", "_test.py"),
            lambda path, line: path.startswith("tests/house/"))
        self.assertEqual(wrong, [], "measure and print it")


if __name__ == "__main__":
    unittest.main()
