"""The rules of the house that a machine can check, on the sources themselves.

Runs on the checkout that the test was built from (its data is a link into it),
so it sees every file, also one that no target names.
"""

import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.realpath("CONTRIBUTING.md"))

HEADER_LINES = 250
SOURCE_LINES = 500

# System calls belong into files that say so in their name.
SYSTEM_HEADERS = re.compile(
    r'#include <(unistd\.h|fcntl\.h|poll\.h|sched\.h|signal\.h|sys/'
    r'(?!types\.h)\w+\.h)>')
# Test code, benchmarks and programs for tests may, too; base/ holds the
# wrappers that everybody uses.
MAY_CALL = re.compile(
    r'(_sys(_test)?\.(h|cc)|_test\.cc|_bench\.cc|_fuzz\.cc|_main\.cc)$'
    r'|/testing/|^tests/|^bench/|^base/(unique_fd\.h|log\.cc)$')


def tracked(*endings):
    listed = subprocess.run(
        ["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files"],
        capture_output=True, text=True, check=True).stdout.split("\n")
    return [f for f in listed if f.endswith(endings)
            and os.path.exists(os.path.join(ROOT, f))]


def lines(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read().split("\n")


def calls_where_it_must_not(path, text):
    return not MAY_CALL.search(path) and bool(SYSTEM_HEADERS.search(text))


class House(unittest.TestCase):

    def test_sources_keep_their_size(self):
        too_long = []
        for path in tracked(".h", ".cc"):
            limit = HEADER_LINES if path.endswith(".h") else SOURCE_LINES
            if re.search(r"_test\.cc$|/testing/", path):
                continue
            if len(lines(path)) > limit + limit // 10:
                too_long.append("%s: %d" % (path, len(lines(path))))
        self.assertEqual(too_long, [], "split by concept")

    def test_cpp_is_formatted(self):
        wrong = subprocess.run(
            ["clang-format-14", "--dry-run", "-Werror", "--style=file"] +
            tracked(".h", ".cc"), cwd=ROOT, capture_output=True, text=True,
            check=False)
        files = sorted({line.split(":")[0]
                        for line in wrong.stderr.split("\n") if ": error" in line})
        self.assertEqual(files, [], "run tools/fix --all")

    def test_system_calls_are_in_sys_files(self):
        wrong = [path for path in tracked(".h", ".cc")
                 if calls_where_it_must_not(path, "\n".join(lines(path)))]
        self.assertEqual(wrong, [])

    def test_the_check_for_system_calls_can_fail(self):
        self.assertTrue(calls_where_it_must_not(
            "statestore/lane.cc", "#include <sys/socket.h>\n"))
        self.assertFalse(calls_where_it_must_not(
            "statestore/lane_sys.cc", "#include <sys/socket.h>\n"))

    def test_nothing_is_left_unfinished(self):
        mark = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")
        found = ["%s:%d" % (path, i + 1)
                 for path in tracked(".h", ".cc", ".py", ".sh", ".bzl", ".md")
                 for i, line in enumerate(lines(path)) if mark.search(line)
                 and path != "tests/house/house_test.py"]
        self.assertEqual(found, [])

    def test_parsers_of_untrusted_bytes_have_a_fuzzer(self):
        paths = set(tracked(".cc"))
        missing = [path for path in paths if path.endswith("/codec.cc")
                   and path[:-3] + "_fuzz.cc" not in paths]
        self.assertEqual(missing, [])

    def test_packages_are_private_by_default(self):
        public = [path for path in tracked("BUILD.bazel")
                  if "default_visibility = [\"//visibility:public\"]"
                  in "\n".join(lines(path)) and path != "tools/bazel/BUILD.bazel"]
        self.assertEqual(public, [])

    def test_paths_in_the_documents_exist(self):
        wrong = []
        path = re.compile(r"`((?:base|statestore|sandbox|devices|launcher|"
                          r"tests|examples|tools|docs(?!/interop)|bench)/[\w./-]*\w/?)`")
        for document in tracked(".md"):
            for i, line in enumerate(lines(document)):
                for name in path.findall(line):
                    here = os.path.join(ROOT, name)
                    alike = [here, here + ".h", here + ".cc", here + "_sys.h",
                             here + ".py"]
                    if not any(os.path.exists(p) for p in alike):
                        wrong.append("%s:%d: %s" % (document, i + 1, name))
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
