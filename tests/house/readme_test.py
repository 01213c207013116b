"""The README's commands for running it by hand are run, to the letter."""

import os
import re
import subprocess
import tempfile
import unittest

from tests.house import sources

# Bazel has built already what the README builds. What follows the events never
# ends by itself.
PREAMBLE = """
set -eu
mount -t tmpfs tmpfs /srv
mount -t tmpfs tmpfs /run
bazel() { echo "bazel $*"; }
"""
BETWEEN = """
launcher=$!
for try in $(seq 200); do
  ! bazel-bin/launcher/cli/holdfast list >/dev/null 2>&1 || break
  sleep 0.02
done
"""
# An ordered end, which leaves no control group behind.
AFTER = """
kill $launcher
wait $launcher
"""


def blocks(markdown):
    """The sh blocks of a document."""
    return re.findall(r"^```sh\n(.*?)^```$", markdown, re.M | re.S)


def script(terminals):
    """One script for the commands of two terminals."""
    first, second = terminals
    following = re.compile(r"^(\S+ events --follow)$", re.M)
    return (PREAMBLE + first.rstrip("\n") + " >holdfastd.log 2>&1 &\n" + BETWEEN
            + following.sub(r"timeout 2 \1 || [ $? = 124 ]", second) + AFTER)


class Readme(unittest.TestCase):

    def checkout(self):
        """A directory that looks like a built checkout."""
        directory = tempfile.TemporaryDirectory(prefix="hf")
        self.addCleanup(directory.cleanup)
        # A device's program lies outside what its own user may not enter.
        os.chmod(directory.name, 0o755)
        built = os.path.realpath("launcher/holdfastd")
        os.symlink(built[:-len("/launcher/holdfastd")],
                   os.path.join(directory.name, "bazel-bin"))
        for room in ("devices", "launcher", "sandbox", "statestore"):
            os.symlink(os.path.join(sources.ROOT, room),
                       os.path.join(directory.name, room))
        return directory.name

    def run_alone(self, text, directory):
        """Runs a script whose processes and mounts end with it."""
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "bash", "-c", text], cwd=directory, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def test_what_it_says_works(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, as the README says")
        terminals = blocks(sources.text("README.md"))
        self.assertEqual(len(terminals), 2)
        directory = self.checkout()
        done = self.run_alone(script(terminals), directory)
        with open(os.path.join(directory, "holdfastd.log")) as f:
            said = done.stdout + f.read()
        self.assertEqual(done.returncode, 0, said)
        for wanted in ("disk0 is started", "killed the active process", "disk0 promoted"):
            self.assertIn(wanted, done.stdout, said)

    def test_a_wrong_option_would_be_noticed(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, as the README says")
        first, second = blocks(sources.text("README.md"))
        wrong = script([first.replace("--policy-dir", "--policies"), second])
        done = self.run_alone(wrong.replace("seq 200", "seq 2"),
                              self.checkout())
        self.assertNotEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
