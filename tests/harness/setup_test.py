"""tools/setup against a fake Debian: what it calls, and what it says."""

import os
import shutil
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
        case " $* " in *" --print-uris "*) cat "$FAKE/plan"; exit 0 ;; esac
        echo "${words[*]}" >>"$FAKE/calls"
        cat "$FAKE/warnings"
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

    def __init__(self, installed=(), broken=(), unknown=(), uid="0",
                 system="Debian GNU/Linux 12 (bookworm)", warnings="",
                 plan=""):
        self._directory = tempfile.TemporaryDirectory()
        self.path = self._directory.name
        self.rest_of_path = ":" + os.environ["PATH"]
        for name, body in FAKES.items():
            self.write(name, body)
            os.chmod(os.path.join(self.path, name), stat.S_IRWXU)
        self.write("installed", "".join(p + "\n" for p in installed))
        self.write("broken", "".join(p + "\n" for p in broken))
        self.write("unknown", "".join(p + "\n" for p in unknown))
        self.write("uid", uid)
        self.write("os-release", 'PRETTY_NAME="%s"\n' % system)
        self.write("warnings", warnings)
        self.write("plan", plan)
        self.write("calls", "")

    def write(self, name, text):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(text)

    def read(self, name):
        with open(os.path.join(self.path, name)) as f:
            return f.read().splitlines()

    def remove_sudo(self):
        """Leaves a PATH with the ordinary tools and without any sudo."""
        os.unlink(os.path.join(self.path, "sudo"))
        for tool in ("awk", "bash", "cat", "dirname", "env", "grep", "mktemp",
                     "realpath", "rm", "sed", "tail"):
            os.symlink(shutil.which(tool), os.path.join(self.path, tool))
        self.rest_of_path = ""

    def setup(self, *arguments):
        env = dict(os.environ, FAKE=self.path, HOLDFAST_CACHE=self.path,
                   OS_RELEASE=os.path.join(self.path, "os-release"),
                   PATH=self.path + self.rest_of_path)
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

    def test_says_so_when_it_is_neither_root_nor_has_sudo(self):
        debian = self.debian(uid="1000", installed=["g++"])
        debian.remove_sudo()
        result = debian.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("must be root (or have sudo) to install: "
                      "bazel-bootstrap", result.stderr)
        self.assertEqual(debian.read("calls"), [])

    def test_says_so_on_another_system(self):
        debian = self.debian(system="Ubuntu 24.04.1 LTS")
        result = debian.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("needs Debian 12; this is: Ubuntu 24.04.1 LTS",
                      result.stderr)
        self.assertEqual(debian.read("calls"), [])

    def test_another_system_that_has_everything_will_do(self):
        everything = self.debian()
        everything.setup()
        debian = self.debian(system="Ubuntu 24.04.1 LTS",
                             installed=everything.read("installed"))
        self.assertEqual(debian.setup().returncode, 0)

    def test_names_the_network_when_apt_only_warned(self):
        debian = self.debian(
            unknown=["clang-14"],
            warnings="W: Failed to fetch http://x/InRelease  Could not "
                     "resolve 'x'\n")
        result = debian.setup()
        self.assertEqual(result.returncode, 1)
        self.assertIn("apt knows no package clang-14; apt could not fetch its "
                      "lists: no network?", result.stderr)

    def test_says_how_much_comes_with_it(self):
        uri = "'http://x/%d.deb' %d.deb 2000000 SHA256:0\n"
        debian = self.debian(plan="".join(uri % (i, i) for i in range(200)))
        self.assertIn("with what they need: 200 packages, 400 MB to download",
                      debian.setup().stdout)

    def test_refuses_an_unknown_argument(self):
        result = self.debian().setup("--frobnicate")
        self.assertEqual(result.returncode, 1)
        self.assertIn("--frobnicate", result.stderr)
