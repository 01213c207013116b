"""The disk image of a test: a raw partition, one with ext4, and perhaps one that
firmware starts from."""

import os
import struct
import subprocess

from tests.harness import parts

MIB = 1 << 20
_SECTOR = 512
_RAW_START_MIB = 1
_TYPE_LINUX = 0x83
_TYPE_EFI = 0xef


class Disk:
    """An image with two partitions, the second one ext4.

    raw_mib, ext4_mib: their sizes; ext4_mib=0: the whole disk is raw, without
    any partition.
    efi: files, by name, of a third one that UEFI firmware reads, efi_mib large.
    """

    def __init__(self, path, raw_mib=96, ext4_mib=64, efi=None, efi_mib=40):
        self.path = path
        self._ext4_mib = ext4_mib
        self._ext4_start_mib = _RAW_START_MIB + raw_mib
        with open(path, "wb") as f:
            if not ext4_mib:
                f.truncate(raw_mib * MIB)
                return
            partitions = [(_RAW_START_MIB, raw_mib, _TYPE_LINUX),
                          (self._ext4_start_mib, ext4_mib, _TYPE_LINUX)]
            end_mib = self._ext4_start_mib + ext4_mib
            if efi:
                partitions.append((end_mib, efi_mib, _TYPE_EFI))
            f.write(partition_table(partitions))
            f.truncate((end_mib + (efi_mib if efi else 0)) * MIB)
        if efi:
            _make_fat(path, end_mib, efi_mib, efi)
        # Two options that make fsck see more: checksums of metadata are on by
        # default, and no part of the inode tables is left for later.
        subprocess.run(
            [parts.installed("mkfs.ext4"), "-q", "-F", "-E",
             "offset=%d,lazy_itable_init=0,lazy_journal_init=0" %
             (self._ext4_start_mib * MIB), path, "%dk" % (ext4_mib * 1024)],
            check=True, stdin=subprocess.DEVNULL)

    def fsck(self):
        """Checks the ext4, changing nothing. Returns "" or what is wrong."""
        if not self._ext4_mib:
            return ""
        partition = self.path + ".ext4"
        try:
            with open(self.path, "rb") as whole, open(partition, "wb") as part:
                whole.seek(self._ext4_start_mib * MIB)
                for _ in range(self._ext4_mib):
                    part.write(whole.read(MIB))
            result = subprocess.run(
                [parts.installed("fsck.ext4"), "-f", "-n", partition],
                check=False, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        finally:
            os.unlink(partition)
        return result.stdout if result.returncode else ""


def _make_fat(path, start_mib, size_mib, files):
    subprocess.run(
        [parts.installed("mkfs.vfat"), "--offset",
         str(start_mib * MIB // _SECTOR), path, str(size_mib * 1024)],
        check=True, stdout=subprocess.DEVNULL)
    for name, source in files.items():
        subprocess.run(
            [parts.installed("mcopy"), "-i",
             "%s@@%d" % (path, start_mib * MIB), source, "::" + name],
            check=True)


def partition_table(partitions):
    """A master boot record: (start, size) in MiB and type of each partition."""
    sector = bytearray(_SECTOR)
    for number, (start, size, kind) in enumerate(partitions):
        # No valid cylinder numbers: everybody reads the sector numbers.
        struct.pack_into(
            "<B3sB3sII", sector, 446 + 16 * number, 0, b"\xfe\xff\xff",
            kind, b"\xfe\xff\xff", start * MIB // _SECTOR,
            size * MIB // _SECTOR)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)
