"""The archive that the kernel unpacks, read back by the cpio program."""

import os
import subprocess
import tempfile
import unittest

from tests.harness import initramfs


class Archive(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def unpack(self, archive):
        subprocess.run(["cpio", "-i", "--quiet", "--no-preserve-owner"],
                       input=archive.bytes(), cwd=self.directory, check=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def test_files_directories_and_links_come_out_as_they_went_in(self):
        archive = initramfs.Archive()
        archive.directory("bin")
        for size in range(9):  # Every padding.
            archive.file("bin/%d" % size, b"x" * size, 0o640)
        archive.symlink("link", "bin/3")
        self.unpack(archive)
        for size in range(9):
            with open(self.path("bin/%d" % size), "rb") as f:
                self.assertEqual(f.read(), b"x" * size)
        self.assertEqual(os.stat(self.path("bin/1")).st_mode & 0o777, 0o640)
        self.assertEqual(os.readlink(self.path("link")), "bin/3")

    def test_lists_the_console_device(self):
        archive = initramfs.Archive()
        archive.device("dev/console", 5, 1)
        listed = subprocess.run(["cpio", "-itv", "--quiet"],
                                input=archive.bytes(), check=True,
                                stdout=subprocess.PIPE).stdout.decode()
        self.assertRegex(listed, r"^crw-------.* 5, +1 .* dev/console")
