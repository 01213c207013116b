"""The disk image of a test: a raw partition and one with ext4."""

import os
import struct
import subprocess

from tests.harness import parts

MIB = 1 << 20
_SECTOR = 512
_RAW_START_MIB = 1
_TYPE_LINUX = 0x83


class Disk:
    """An image with two partitions, the second one ext4.

    raw_mib, ext4_mib: their sizes; ext4_mib=0: the whole disk is raw, without
    any partition.
    """

    def __init__(self, path, raw_mib=96, ext4_mib=64):
        self.path = path
        self._ext4_mib = ext4_mib
        self._ext4_start_mib = _RAW_START_MIB + raw_mib
        with open(path, "wb") as f:
            if not ext4_mib:
                f.truncate(raw_mib * MIB)
                return
            f.write(partition_table([(_RAW_START_MIB, raw_mib),
                                     (self._ext4_start_mib, ext4_mib)]))
            f.truncate((self._ext4_start_mib + ext4_mib) * MIB)
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


def partition_table(partitions):
    """A master boot record: (start, size) of each partition in MiB."""
    sector = bytearray(_SECTOR)
    for number, (start, size) in enumerate(partitions):
        # No valid cylinder numbers: everybody reads the sector numbers.
        struct.pack_into(
            "<B3sB3sII", sector, 446 + 16 * number, 0, b"\xfe\xff\xff",
            _TYPE_LINUX, b"\xfe\xff\xff", start * MIB // _SECTOR,
            size * MIB // _SECTOR)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)
