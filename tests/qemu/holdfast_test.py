"""The promise, on a stock guest and an unmodified QEMU without `reconnect`: its
disk process is killed again and again, and neither of them notices anything."""

import tempfile
import unittest

from tests.harness import device, effort, killer, scenario

KILLS = effort.kills(suite=200, long=2000)
# Seconds that a disk process lives when another one is ready, at most.
PAUSE = (0, 0.004)


class TwoQueues(device.HoldfastDevice):
    qemu_device = "vhost-user-blk-pci,num-queues=2"

    def __init__(self, image):
        super().__init__(image, ["--num-queues=2"])


class KilledDisk(unittest.TestCase):

    def run_on(self, factory=device.HoldfastDevice, **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                factory,
                scenario.Settings(kills=KILLS, pause=PAUSE, **settings),
                directory)
        print(outcome.as_dict())
        print(killer.describe(outcome.kills))
        return outcome

    def check(self, outcome):
        self.assertEqual(outcome.problems, [])
        self.assertEqual(len(outcome.kills), KILLS)
        # Each kill hit a serving process of its own.
        self.assertEqual(len({kill.pid for kill in outcome.kills}), KILLS)
        self.assertTrue(outcome.qemu_silent)
        self.assertTrue(outcome.fsck_clean)

    def test_qemu_of_debian_12(self):
        self.check(self.run_on(qemu="7.2"))

    def test_qemu_11(self):
        self.check(self.run_on(qemu="11.1"))

    def test_one_request_at_a_time(self):
        self.check(self.run_on(depth=1))

    def test_two_queues(self):
        outcome = self.run_on(TwoQueues, cpus=2)
        self.check(outcome)
        self.assertEqual(outcome.verdict.queues, 2)
