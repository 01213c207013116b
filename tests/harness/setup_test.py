"""tools/setup against a fake Debian: what it calls, and what it says."""

import os
import stat
import subprocess
import tempfile
import unittest

SETUP = os.path.abspath("tools/setup")

# Answers for the installed packages listed in $FAKE/installed; apt-get appends
# its arguments to $FAKE/calls and installs all but $FAKE/broken.
FAKES = {
    "dpkg-query": """#!/bin/bash
        while IFS= read -r p; do printf '%s installed\\n' "$p"; done \
            <"$FAKE/installed"
        exit 1""",
    "apt-get": """#!/bin/bash
        words=() ; for w in "$@"; do
          case $w in -*|*=*) ;; *) words+=("$w") ;; esac; done
        echo "${words[*]}" >>"$FAKE/calls"
        [ "${words[0]}" = install ] || exit 0
        for p in "${words[@]:1}"; do
          if grep -qx "$p" "$FAKE/broken"; then echo "E: no $p" >&2; exit 100
          fi
          echo "$p" >>"$FAKE/installed"
        done""",
    "apt-cache": """#!/bin/bash
        ! grep -qx "$2" "$FAKE/unknown" """,
    "id": """#!/bin/bash
        cat "$FAKE/uid" """,
    "sudo": """#!/bin/bash
        echo sudo >>"$FAKE/calls"
        shift; exec "$@" """,
}


class FakeDebian:
    """A PATH whose package tools are fakes."""

    def __init__(self, installed=(), broken=(), unknown=(), uid="0"):
        self._directory = tempfile.TemporaryDirectory()
        self.path = self._directory.name
        for name, body in FAKES.items():
            self.write(name, body)
            os.chmod(os.path.join(self.path, name), stat.S_IRWXU)
        self.write("installed", "".join(p + "\n" for p in installed))
        self.write("broken", "".join(p + "\n" for p in broken))
        self.write("unknown", "".join(p + "\n" for p in unknown))
        self.write("uid", uid)
        self.write("calls", "")

    def write(self, name, text):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(text)

    def read(self, name):
        with open(os.path.join(self.path, name)) as f:
            return f.read().splitlines()

    def setup(self, *arguments):
        env = dict(os.environ, FAKE=self.path, HOLDFAST_CACHE=self.path,
                   PATH=self.path + ":" + os.environ["PATH"])
        return subprocess.run([SETUP, *arguments], check=False, env=env,
                              stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def close(self):
        self._directory.cleanup()


class Setup(unittest.TestCase):

    def debian(self, **kwargs):
        fake = FakeDebian(**kwargs)
        self.addCleanup(fake.close)
        return fake

    def test_installs_what_is_missing_then_has_nothing_to_do(self):
        debian = self.debian(installed=["g++", "python3"])
        first = debian.setup()
        self.assertEqual((first.returncode, first.stderr), (0, ""))
        update, install = debian.read("calls")
        self.assertEqual(update, "update")
        self.assertIn("bazel-bootstrap", install.split())
        self.assertIn("qemu-system-x86", install.split())
        self.assertNotIn("python3", install.split())

        second = debian.setup()
        self.assertEqual((second.returncode, second.stdout), (0, ""))
        self.assertEqual(len(debian.read("calls")), 2)

    def test_names_the_package_that_could_not_be_installed(self):
        result = self.debian(broken=["zstd"]).setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("E: no zstd", result.stderr)
        self.assertRegex(result.stderr, "still missing: .*zstd")
        self.assertNotRegex(result.stderr, "still missing: .*bazel")

    def test_names_the_package_that_apt_does_not_know(self):
        debian = self.debian(unknown=["clang-14"])
        result = debian.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("apt knows no package clang-14", result.stderr)
        self.assertEqual(debian.read("calls"), ["update"])

    def test_uses_sudo_when_not_root(self):
        debian = self.debian(uid="1000")
        self.assertEqual(debian.setup().returncode, 0)
        self.assertEqual(debian.read("calls")[0], "sudo")

    def test_refuses_an_unknown_argument(self):
        result = self.debian().setup("--frobnicate")
        self.assertEqual(result.returncode, 1)
        self.assertIn("--frobnicate", result.stderr)
