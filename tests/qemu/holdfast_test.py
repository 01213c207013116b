"""The promise, on a stock guest and an unmodified QEMU without `reconnect`: its
disk process is killed again and again, and neither of them notices anything."""

import tempfile
import unittest

from tests.harness import device, effort, scenario

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
        outcome.print()
        return outcome

    def test_qemu_of_debian_12(self):
        scenario.expect_unnoticed(self, self.run_on(qemu="7.2"), KILLS)

    def test_qemu_11(self):
        scenario.expect_unnoticed(self, self.run_on(qemu="11.1"), KILLS)

    def test_one_request_at_a_time(self):
        scenario.expect_unnoticed(self, self.run_on(depth=1), KILLS)

    def test_two_queues(self):
        outcome = self.run_on(TwoQueues, cpus=2)
        scenario.expect_unnoticed(self, outcome, KILLS)
        self.assertEqual(outcome.verdict.queues, 2)
