"""qemu-storage-daemon that tracks nothing, behind a keeper that passes its
requests on by shadow rings: killed under libblkio's strict eyes, and its keeper
with it. What such a program without them does to a client:
wrapped_blkio_test.py."""

import unittest

from tests.harness import effort, wrapped_kills

# Of every setting together.
KILLS = effort.kills(suite=120, long=2000)
# One kill of so many is the keeper's.
KEEPERS_SHARE = 3


class ShadowRings(unittest.TestCase):

    def check(self, kills, **options):
        wrapped_kills.check(self, kills, KEEPERS_SHARE, tracking="shadow",
                            **options)

    def test_with_a_standby(self):
        self.check(KILLS // 2)

    def test_without_a_standby(self):
        self.check(KILLS // 6, standby=False)

    def test_another_version(self):
        self.check(KILLS // 6, version="11.1")

    def test_one_request_at_a_time(self):
        self.check(KILLS // 6, depth=1)
