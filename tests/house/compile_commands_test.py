"""compile_commands.json: every source, and arguments that clang takes."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

WRITER = os.path.abspath("tools/bazel/compile_commands.py")


def action(source, *more):
    """A compile action of g++ as Bazel prints it, into a directory not made."""
    return {"arguments": [
        "/usr/bin/gcc", "-Wall", "-Werror", "-std=c++17", "-MD", "-MF",
        "out/a.d", "-frandom-seed=out/a.o", "-fno-canonical-system-headers",
        "-Wno-free-nonheap-object", "-Wunused-but-set-parameter",
        "-iquote", ".", *more, "-c", source, "-o", "out/a.o"]}


class CompileCommands(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = os.path.realpath(directory.name)

    def write(self, actions, *sources):
        """What the writer answers and says, and the file's entries."""
        done = subprocess.run(
            [sys.executable, WRITER, *sources], cwd=self.root, check=False,
            input=json.dumps({"actions": actions}), stdout=subprocess.PIPE,
            text=True)
        with open(os.path.join(self.root, "compile_commands.json")) as f:
            return done.returncode, done.stdout, json.load(f)

    def test_every_source_once_and_nothing_generated(self):
        status, said, entries = self.write(
            [action("a/b.cc"), action("a/b.cc", "-DAGAIN"), action("c.cc"),
             action("bazel-out/k8/bin/p.pb.cc"), {"arguments": ["ar", "x"]}],
            "a/b.cc", "c.cc")
        self.assertEqual([e["file"] for e in entries], ["a/b.cc", "c.cc"])
        self.assertNotIn("-DAGAIN", entries[0]["arguments"])
        self.assertEqual((status, said), (0, "2 sources, 0 missing\n"))

    def test_a_source_in_no_target_is_named(self):
        status, said, _ = self.write([action("c.cc")], "a/b.cc", "c.cc")
        self.assertEqual(
            (status, said), (1, "in no target: a/b.cc\n1 sources, 1 missing\n"))

    def test_of_nothing_is_no_success(self):
        self.assertEqual(self.write([])[0], 1)

    def test_clang_takes_an_entry(self):
        for name, text in [("a.h", "inline int A() { return 1; }\n"),
                           ("a.cc", '#include "a.h"\nint b = A();\n')]:
            with open(os.path.join(self.root, name), "w") as f:
                f.write(text)
        _, _, (entry,) = self.write([action("a.cc")])
        done = subprocess.run(
            ["clang-14", "-fsyntax-only", *entry["arguments"][1:]],
            cwd=entry["directory"], check=False, stderr=subprocess.PIPE,
            text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
