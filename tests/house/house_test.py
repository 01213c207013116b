"""The shape of the house: names, rooms, visibility, and what stays out."""

import glob
import os
import re
import subprocess
import unittest

from tests.house import sources

# System calls belong into files that say so in their name.
SYSTEM_HEADERS = re.compile(
    r'#include <(unistd\.h|fcntl\.h|poll\.h|sched\.h|signal\.h|sys/'
    r'(?!types\.h)\w+\.h)>')
# Test code, benchmarks and programs for tests may, too; base/ holds the
# wrappers that everybody uses.
MAY_CALL = re.compile(
    r'(_sys(_test)?\.(h|cc)|_test\.cc|_bench\.cc|_fuzz\.cc|_main\.cc)$'
    r'|/testing/|^tests/|^bench/|^base/(unique_fd\.h|log\.cc)$')

# What only this or that machine has.
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(work|root|home|Users)/\w")
# Where packages come from is the machine's business.
HOST = re.compile(r"https?://(?!(www\.)?(apache|gnu|kernel)\.org)[\w-]+\.\w"
                  r"|\b(deb|security|snapshot)\.debian\.org"
                  r"|registry\.npmjs|pypi\.org|proxy\.golang")

CONFLICT = re.compile(r"^(<{7}|>{7}) ")

# What a file may not say, by the rooms that may not say it.
FORBIDDEN = [
    (r"\babsl::Mutex|absl/synchronization", r"",
     "ThreadSanitizer cannot see into Debian's Abseil: std::mutex"),
    (r"std::string_view\b", r"", "absl::string_view"),
    (r"#include \"absl/log/", r"", "base/log.h: Debian's Abseil has no log"),
    (r"\b(throw |catch \()", r"", "absl::Status"),
    (r"(?<!static_)\b(CHECK|DCHECK|assert|abort|terminate)\s*\(",
     r"^(base|statestore|sandbox|devices|launcher)/",
     "guest, peer and child input is absl::Status"),
    (r"\b(const )?int \w*fd(?=[,)])", r"\.h$",
     "UniqueFd, BorrowedFd: the type says who owns a descriptor"),
]
# What prints a last word, wraps a descriptor, or follows the kernel's headers.
MAY_SAY = {
    "base/unique_fd.h": r"int fd",
}


def calls_where_it_must_not(path, text):
    return not MAY_CALL.search(path) and bool(SYSTEM_HEADERS.search(text))


def guard(path):
    return "HOLDFAST_%s_" % re.sub(r"\W", "_", path.upper())


def forbidden(path, text):
    """What `text`, C++ of `path`, says and must not, with what is better."""
    found = []
    for pattern, rooms, better in FORBIDDEN:
        if not re.search(rooms, path):
            continue
        for line in sources.without_comments(text).split("\n"):
            if re.search(pattern, line) and not (
                    path in MAY_SAY and re.search(MAY_SAY[path], line)):
                found.append("%s: %s (%s)" % (path, line.strip(), better))
    return found


def buildifier():
    cache = os.environ.get("HOLDFAST_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME")
        or os.path.join(os.path.expanduser("~"), ".cache"), "holdfast")
    found = glob.glob(os.path.join(cache, "npm/node_modules/.bin/buildifier"))
    return found[0] if found else None


class House(unittest.TestCase):

    def test_cpp_is_formatted(self):
        wrong = subprocess.run(
            ["clang-format-14", "--dry-run", "-Werror", "--style=file"] +
            sources.tracked(".h", ".cc"), cwd=sources.ROOT,
            capture_output=True, text=True, check=False)
        files = sorted({line.split(":")[0] for line in wrong.stderr.split("\n")
                        if ": error" in line})
        self.assertEqual(files, [], "run tools/fix --all")

    def test_build_files_are_formatted(self):
        program = buildifier()
        if program is None:
            self.skipTest("no buildifier (tools/setup --tools installs it)")
        wrong = subprocess.run(
            [program, "-mode=check"] +
            sources.tracked("BUILD.bazel", ".bzl", "WORKSPACE"),
            cwd=sources.ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(wrong.stdout + wrong.stderr, "",
                         "run tools/fix --all")

    def test_system_calls_are_in_sys_files(self):
        wrong = [path for path in sources.tracked(".h", ".cc")
                 if calls_where_it_must_not(path, sources.text(path))]
        self.assertEqual(wrong, [])

    def test_the_check_for_system_calls_can_fail(self):
        self.assertTrue(calls_where_it_must_not(
            "statestore/lane.cc", "#include <sys/socket.h>\n"))
        self.assertFalse(calls_where_it_must_not(
            "statestore/lane_sys.cc", "#include <sys/socket.h>\n"))

    def test_nothing_is_said_that_must_not_be(self):
        wrong = []
        for path in sources.tracked(".h", ".cc"):
            if not sources.TEST_CODE.search(path) and "_bench" not in path:
                wrong += forbidden(path, sources.text(path))
        self.assertEqual(wrong, [])

    def test_the_check_for_what_must_not_be_said_can_fail(self):
        for path, text in [("devices/a.cc", "  CHECK(b);"),
                           ("launcher/a.cc", "std::string_view b;"),
                           ("sandbox/a.h", "void B(int fd);"),
                           ("base/a.cc", "absl::Mutex b;")]:
            self.assertEqual(len(forbidden(path, text)), 1, text)
        self.assertEqual(forbidden("devices/a.cc", "// CHECK(b)"), [])
        self.assertEqual(forbidden("base/a.cc", "static_assert(b);"), [])

    def test_headers_are_guarded_by_their_path(self):
        wrong = [path for path in sources.tracked(".h")
                 if "#ifndef %s\n#define %s\n" % (guard(path), guard(path))
                 not in sources.text(path)]
        self.assertEqual(wrong, [])

    def test_nothing_is_left_unfinished(self):
        wrong = sources.find(
            r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b",
            (".h", ".cc", ".py", ".sh", ".bzl", ".bazel", ".md", ".proto"))
        self.assertEqual(wrong, [])

    def test_no_merge_was_left_half_done(self):
        self.assertEqual(sources.find(CONFLICT, ("",)), [])

    def test_the_check_for_half_a_merge_can_fail(self):
        self.assertTrue(CONFLICT.search("<" * 7 + " HEAD"))
        self.assertFalse(CONFLICT.search("=" * 7))

    def test_no_machine_is_named(self):
        wrong = [where for where in sources.find(MACHINE_PATH, ("",))
                 + sources.find(HOST, ("",))
                 if not where.startswith("tests/house/")]
        self.assertEqual(wrong, [])

    def test_the_check_for_machines_can_fail(self):
        self.assertTrue(MACHINE_PATH.search("cd /home/me/holdfast"))
        self.assertFalse(MACHINE_PATH.search("$lib/root/usr"))
        self.assertTrue(HOST.search("deb http://mirror.example.net/debian"))

    def test_a_device_fits_on_a_page(self):
        for path in ["examples/hello_virtio/hello_virtio.cc",
                     "examples/hello_pci/hello_pci.h"]:
            self.assertLessEqual(sources.text(path).count("\n"), 45, path)

    def test_every_device_has_the_tests_of_a_device(self):
        needs = {"virtio_": "holdfast_device(",
                 "pci": "holdfast_pci_device_tests(",
                 "platform": "holdfast_platform_device_tests("}
        plain = [path for path in sources.tracked("BUILD.bazel")
                 for bus, macro in needs.items()
                 if path.startswith(("devices/", "examples/"))
                 and bus in path.split("/")[1] and path.count("/") == 2
                 and not path.startswith("devices/virtio_pci/")
                 and macro not in sources.text(path)]
        self.assertEqual(plain, [])

    def test_parsers_of_untrusted_bytes_have_a_fuzzer(self):
        paths = set(sources.tracked(".cc"))
        missing = [path for path in paths if path.endswith("/codec.cc")
                   and path[:-3] + "_fuzz.cc" not in paths]
        self.assertEqual(missing, [])

    def test_packages_are_private_by_default(self):
        # Or for their room's group, which the root BUILD.bazel names.
        wrong = [path for path in sources.tracked("BUILD.bazel")
                 if not re.search(
                     r"^package\([^)]*default_visibility = \[\s*\"//(?!visibility:"
                     r"public)", sources.text(path), re.M | re.S)
                 and path != "tools/bazel/BUILD.bazel"]
        self.assertEqual(wrong, [])

    def test_every_source_is_in_a_target(self):
        wrong = []
        for path in sources.tracked(".cc", ".h", ".proto", ".py"):
            directory, name = os.path.split(path)
            while directory and not sources.exists(directory + "/BUILD.bazel"):
                directory, parent = os.path.split(directory)
                name = parent + "/" + name
            build = sources.text(os.path.join(directory, "BUILD.bazel"))
            stem = re.sub(r"(_(test|bench|fuzz))?\.\w+$", "", name)
            if '"%s"' % name not in build and '"%s"' % stem not in build \
                    and "glob(" not in build \
                    and not path.startswith("tools/bazel/"):
                wrong.append(path)
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
