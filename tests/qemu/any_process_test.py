"""kill -9 of any process of Holdfast while a stock guest writes: the guest
notices nothing, everything is whole again, nothing is left behind."""

import os
import tempfile
import unittest

from tests.harness import faults, scenario

KILLS = int(os.environ.get("HOLDFAST_KILLS", "54"))


class Watched(faults.AnyProcessDevice):
    """Looks for leaks before it is stopped."""

    def stop(self):
        self.leaks = self.growth()
        super().stop()


class AnyProcess(unittest.TestCase):

    def test_in_any_order(self):
        devices = []

        def make(image):
            devices.append(Watched(image))
            return devices[0]

        with tempfile.TemporaryDirectory(prefix="hfany") as directory:
            outcome = scenario.run(
                make, scenario.Settings(kills=KILLS, period=0.1), directory)
        holdfast = devices[0]
        print(holdfast.counts, outcome.as_dict())
        self.assertEqual(outcome.problems, [])
        self.assertEqual(len(outcome.kills), KILLS)
        self.assertGreaterEqual(min(holdfast.counts.values()), KILLS // 6)
        self.assertEqual(holdfast.leaks, [])
        self.assertEqual(holdfast.left, [])
        self.assertEqual(holdfast.files_left, [])
        self.assertEqual(holdfast.cgroups_left, [])
