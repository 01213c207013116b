"""The three versions of qemu-storage-daemon that Debian has, behind a keeper:
killed under libblkio's strict eyes, and their keepers in between."""

import unittest

from tests.harness import effort, wrapped_kills

VERSIONS = ("7.2", "10.0", "11.1")
# Of all three together.
KILLS = effort.kills(suite=60, long=2000)
# One kill of so many is the keeper's.
KEEPERS_SHARE = 5


class ThreeVersions(unittest.TestCase):

    def test_are_killed(self):
        for i, version in enumerate(VERSIONS):
            with self.subTest(version):
                wrapped_kills.check(self, (KILLS + i) // len(VERSIONS),
                                    KEEPERS_SHARE, version=version)
