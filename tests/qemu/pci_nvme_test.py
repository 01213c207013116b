"""An NVMe disk over vfio-user, on an unmodified QEMU and a stock guest with its
own driver: killed again and again, and nobody notices anything."""

import os
import tempfile
import unittest

from tests.harness import device, scenario

KILLS = int(os.environ.get("HOLDFAST_KILLS", "25"))


class KilledNvme(unittest.TestCase):

    def run_on(self, **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                device.NvmeDisk,
                scenario.Settings(period=0.3, qemu="11.1", **settings),
                directory)
        print(outcome.as_dict())
        return outcome

    def check(self, outcome, kills):
        self.assertEqual(outcome.problems, [])
        self.assertEqual(len(outcome.kills), kills)
        self.assertEqual(len({kill.pid for kill in outcome.kills}), kills)
        self.assertTrue(outcome.qemu_silent)
        self.assertTrue(outcome.fsck_clean)

    def test_two_queues(self):
        outcome = self.run_on(kills=KILLS, cpus=2)
        self.check(outcome, KILLS)
        self.assertEqual(outcome.verdict.queues, 2)

    def test_is_clean_without_kills(self):
        self.check(self.run_on(kills=0), 0)
