"""What `holdfast profile new` finds out of back-ends that others have written,
and that a disk behind what it prints survives."""

import os
import random
import subprocess
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts

HOLDFAST = "launcher/cli/holdfast"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
KILLS = 5


def find(*words):
    """(exit status, the profile's text, what was said)."""
    done = subprocess.run(
        [parts.built(HOLDFAST), "profile", "new", *words],
        capture_output=True, encoding="utf-8", timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def fields(text):
    return [line for line in text.splitlines()
            if line and not line.startswith("#")]


class Found:
    """Makes the class of a device use what is found instead of a profile."""

    def start(self):
        self.profile = os.path.join(self._directory.name, "found.textproto")
        status, _, said = find("--output=" + self.profile, "--",
                               *self.command())
        if status != 0:
            raise RuntimeError(said)
        super().start()


class FoundStorageDaemon(Found, device.ProfiledStorageDaemon):
    pass


class FoundDevice(Found, device.ProfiledDevice):
    pass


class NewProfiles(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hfnew")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def image(self):
        image = self.directory + "/disk.img"
        disk.Disk(image, raw_mib=64, ext4_mib=0)
        return image

    def survives(self, make, **options):
        parts.blkio_library()
        source = random.Random(KILLS)
        with make(self.image(), **options) as back_end:
            run = blkio.kill_run(
                back_end, KILLS, lambda: source.uniform(0, 0.02), depth=32)
            log = back_end.log()
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), KILLS)
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])

    def test_a_storage_daemon_survives_by_what_was_found(self):
        self.survives(FoundStorageDaemon, standby=False)

    def test_a_device_survives_by_what_was_found(self):
        self.survives(FoundDevice)

    def test_a_storage_daemon_is_built_on_libvhost_user(self):
        for version, size in (("7.2", 60), ("11.1", 96)):
            status, text, said = find(
                "--", parts.storage_daemon(version), "--blockdev",
                "driver=file,node-name=d,filename=" + self.image(), "--export",
                "type=vhost-user-blk,id=e,node-name=d,writable=on")
            self.assertEqual(status, 0, said)
            self.assertEqual(fields(text)[1:], [
                "socket {", '  text: ",addr.type=fd,addr.str={fd}"',
                '  end_of: "type=vhost-user-blk"', '  unless: "addr."', "}",
                "handover: LISTENING_FD", "tracking: FORCED",
                "standby: false"], text)
            self.assertIn("%d bytes of configuration space" % size, text)
            self.assertIn("not found out: standby", said)

    def test_one_that_takes_a_path_alone(self):
        status, text, said = find(
            "--", parts.vsock_device(), "--guest-cid", "3", "--uds-path",
            self.directory + "/vsock", "--socket", "{path}")
        self.assertEqual(status, 0, said)
        self.assertEqual(fields(text)[1:], [
            "handover: LISTENING_PATH", "tracking: DECIDE", "standby: false"])
        self.assertIn("not found out: tracking", said)

    def test_what_cannot_be_known_is_left_open_and_refused(self):
        # Debian's: libvhost-user, of a type that no profile helps after a
        # crash; without that text nothing is known.
        status, text, said = find("--", VIRTIOFSD, "-o",
                                  "source=" + self.directory)
        self.assertEqual(status, 0, said)
        self.assertIn("handover: LISTENING_FD", fields(text))
        self.assertIn("# It ended with its connection.", text)
        undecided = os.path.join(self.directory, "undecided.textproto")
        with open(undecided, "w", encoding="utf-8") as f:
            f.write(text.replace("tracking: FORCED", "tracking: DECIDE"))
        done = subprocess.run(
            [parts.built(HOLDFAST), "run", "--print", "--profile=" + undecided,
             "--", VIRTIOFSD, "-o", "source=/"],
            capture_output=True, encoding="utf-8", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"undecided.textproto:\d+:\d+: .*DECIDE")

    def test_what_is_no_back_end_is_told_with_its_last_words(self):
        status, text, said = find("--", "cat")
        self.assertEqual((status, text), (1, ""))
        self.assertRegex(said, "/cat: does not answer as a vhost-user back-end")
        self.assertRegex(said, "'--fd={fd}', connected: it ended with status 1,"
                               " its last words: .*--help")
        status, text, said = find("--", "no-such-program")
        self.assertEqual((status, text), (1, ""))
        self.assertIn("no-such-program: no such program in PATH", said)

    def test_a_file_that_is_there_is_kept(self):
        there = os.path.join(self.directory, "there.textproto")
        with open(there, "w", encoding="utf-8") as f:
            f.write("mine")
        status, _, said = find("--output", there, "--", VIRTIOFSD, "-o",
                               "source=" + self.directory)
        self.assertEqual(status, 1)
        self.assertIn("exists already", said)
        with open(there, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")
