"""What a file includes is a direct dependency of its target.

clang's layering check (tools/check clang) says the same and knows what is
really compiled, but takes minutes.
"""

import re
import unittest

from tests.house import build_files, sources

INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)


def undeclared(targets, text):
    """Includes of our headers that no direct dependency exports.

    Args:
      targets: all of them (build_files.Target).
      text: of a file, by its path; None, if it is none of ours.
    """
    exported = {t.name: set(map(build_files.path, t.hdrs)) for t in targets}
    ours = set().union(*exported.values())
    found = []
    for target in targets:
        may = set(map(build_files.path, target.files))
        for dependency in target.deps:
            may |= exported.get(dependency, set())
        for file in map(build_files.path, target.files):
            found += ["%s: %s includes %s" % (target.name, file, header)
                      for header in INCLUDE.findall(text(file) or "")
                      if header in ours and header not in may]
    return found


class Includes(unittest.TestCase):

    def test_are_direct_dependencies(self):
        targets = [target for file in sources.tracked("BUILD.bazel")
                   for target in build_files.targets_of(file)]
        self.assertGreater(len(targets), 100)
        self.assertEqual(undeclared(
            targets,
            lambda file: sources.text(file) if sources.exists(file) else None),
            [])

    def test_a_dependency_of_a_dependency_is_noticed(self):
        files = {
            "a/BUILD.bazel": """
load("@rules_cc//cc:cc_library.bzl", "cc_library")
load("//a:defs.bzl", "three")
package(default_visibility = ["//visibility:private"])
cc_library(name = "one", hdrs = ["one.h"])
[cc_library(name = n, hdrs = [n + ".h"], deps = select({
    "//:opt": [":one"], "//conditions:default": []})) for n in ["two"]]
three(name = "three", deps = ["//a:two"])
""",
            "a/defs.bzl": """
load("@rules_cc//cc:cc_library.bzl", "cc_library")
def three(name, **kwargs):
    cc_library(name = name, srcs = glob(["*.x"]) + [name + ".cc"], **kwargs)
""",
            "a/two.h": '#include "a/one.h"\n',
            "a/three.cc": '#include "a/two.h"\n#include "a/one.h"\n',
        }
        targets = build_files.targets_of("a/BUILD.bazel", files.get)
        self.assertEqual([t.name for t in targets],
                         ["//a:one", "//a:two", "//a:three"])
        self.assertEqual(undeclared(targets, files.get),
                         ["//a:three: a/three.cc includes a/one.h"])


if __name__ == "__main__":
    unittest.main()
