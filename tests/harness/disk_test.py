"""The image: other programs must see what the harness says is in it."""

import os
import subprocess
import tempfile
import unittest

from tests.harness import disk, parts


class Image(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "disk.img")

    def test_partitions_are_where_sfdisk_finds_them(self):
        disk.Disk(self.path, raw_mib=8, ext4_mib=16)
        table = subprocess.run(
            [parts.installed("sfdisk"), "--dump", self.path], check=True,
            stdout=subprocess.PIPE, text=True).stdout
        self.assertRegex(table, r"start= +2048, size= +16384, type=83")
        self.assertRegex(table, r"start= +18432, size= +32768, type=83")

    def test_firmware_finds_its_files(self):
        source = self.path + ".source"
        with open(source, "w") as f:
            f.write("found")
        image = disk.Disk(self.path, 8, 16, efi={"startup.nsh": source},
                          efi_mib=8)
        table = subprocess.run(
            [parts.installed("sfdisk"), "--dump", self.path], check=True,
            stdout=subprocess.PIPE, text=True).stdout
        self.assertRegex(table, r"start= +51200, size= +16384, type=ef")
        self.assertEqual(subprocess.run(
            [parts.installed("mtype"), "-i", self.path + "@@25M",
             "::startup.nsh"], check=True, stdout=subprocess.PIPE).stdout,
                         b"found")
        self.assertEqual(image.fsck(), "")

    def test_a_new_file_system_is_clean(self):
        self.assertEqual(disk.Disk(self.path, 8, 16).fsck(), "")

    def test_a_damaged_file_system_is_not(self):
        image = disk.Disk(self.path, 8, 16)
        with open(self.path, "r+b") as f:
            f.seek(9 * disk.MIB + 8192)
            f.write(os.urandom(65536))
        self.assertNotEqual(image.fsck(), "")

    def test_a_raw_disk_has_no_partitions(self):
        image = disk.Disk(self.path, 8, 0)
        self.assertEqual(os.path.getsize(self.path), 8 * disk.MIB)
        self.assertEqual(image.fsck(), "")
