"""virtio-blk run by hand, without the launcher: a good disk for every QEMU, and
one that dies for good when it is killed."""

import tempfile
import unittest

from tests.harness import device, scenario


class Standalone(unittest.TestCase):

    def run_on(self, options=(), **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                lambda image: device.StandaloneDevice(image, options),
                scenario.Settings(**settings), directory)
        print(outcome.as_dict())
        return outcome

    def test_is_clean_without_kills(self):
        for qemu in ("7.2", "11.1"):
            with self.subTest(qemu):
                outcome = self.run_on(kills=0, control=5, qemu=qemu)
                self.assertEqual(outcome.problems, [])

    def test_killed_it_stays_dead_and_the_guest_notices(self):
        """What the launcher is for: the negative control of recovery."""
        outcome = self.run_on(kills=1, control=1, lost=5)
        self.assertRegex("\n".join(outcome.problems), "BLK-LOST")
