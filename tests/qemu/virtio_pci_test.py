"""virtio-blk as a PCI function over vfio-user: the same device program, the
same guest, QEMU 11.1 as it is, and the device killed again and again."""

import os
import tempfile
import unittest

from tests.harness import device, scenario

KILLS = int(os.environ.get("HOLDFAST_KILLS", "40"))


class TwoQueues(device.DiskOverVfioUser):

    def __init__(self, image):
        super().__init__(image, ["--num-queues=2"])


class Alone(device.OverVfioUser, device.StandaloneDevice):
    """Without a launcher: once dead it stays dead."""

    def __init__(self, image):
        super().__init__(image, ["--protocol=vfio-user"])


class KilledDisk(unittest.TestCase):

    def run_on(self, factory, **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                factory, scenario.Settings(qemu="11.1", **settings), directory)
        print(outcome.as_dict())
        return outcome

    def check(self, outcome, kills):
        self.assertEqual(outcome.problems, [])
        self.assertEqual(len({kill.pid for kill in outcome.kills}), kills)
        self.assertTrue(outcome.qemu_silent)
        self.assertTrue(outcome.fsck_clean)

    def test_is_clean_without_kills(self):
        self.check(self.run_on(device.DiskOverVfioUser, kills=0), 0)

    def test_nobody_notices_kills(self):
        self.check(self.run_on(device.DiskOverVfioUser, kills=KILLS, period=0.2),
                   KILLS)

    def test_two_queues(self):
        outcome = self.run_on(TwoQueues, kills=KILLS, period=0.2, cpus=2)
        self.check(outcome, KILLS)
        self.assertEqual(outcome.verdict.queues, 2)

    def test_a_device_that_dies_for_good_is_noticed(self):
        outcome = self.run_on(Alone, kills=1, control=1, lost=5)
        self.assertNotEqual(outcome.problems, [])
