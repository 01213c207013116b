"""virtio-blk as a PCI function over vfio-user: the same device program, the
same guest, QEMU 11.1 as it is, and the device killed again and again."""

import tempfile
import unittest

from tests.harness import device, effort, scenario

KILLS = effort.kills(suite=500, long=5000)
# Of them, from QEMU's start on, while the guest's driver finds the disk.
BOOT_KILLS = min(KILLS, 60)
PIN_KILLS = effort.kills(suite=200, long=5000)
# Without share=on; each request takes several round trips through QEMU.
MESSAGE_KILLS = effort.kills(suite=10, long=200)
# Seconds that a disk process lives when another one is ready, at most.
PAUSE = (0, 0.004)


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
        outcome.print()
        return outcome

    def test_is_clean_without_kills(self):
        outcome = self.run_on(device.DiskOverVfioUser, kills=0, control=1)
        scenario.expect_unnoticed(self, outcome, 0)

    def test_nobody_notices_kills(self):
        outcome = self.run_on(device.DiskOverVfioUser, kills=KILLS,
                              boot_kills=BOOT_KILLS, pause=PAUSE)
        scenario.expect_unnoticed(self, outcome, KILLS)
        self.assertGreater(outcome.boot_kills, 0)

    def test_nobody_notices_kills_with_interrupts_by_pin(self):
        # The level of the pin, and a status that is cleared by reading it.
        outcome = self.run_on(device.DiskOverVfioUser, kills=PIN_KILLS,
                              pause=PAUSE, append="pci=nomsi")
        scenario.expect_unnoticed(self, outcome, PIN_KILLS)
        self.assertRegex("\n".join(outcome.verdict.interrupts), "IO-APIC")
        self.assertNotRegex("\n".join(outcome.verdict.interrupts), "msi")

    def test_two_queues(self):
        outcome = self.run_on(TwoQueues, kills=KILLS, boot_kills=BOOT_KILLS,
                              pause=PAUSE, cpus=2)
        scenario.expect_unnoticed(self, outcome, KILLS)
        self.assertGreater(outcome.boot_kills, 0)
        self.assertEqual(outcome.verdict.queues, 2)
        self.assertRegex("\n".join(outcome.verdict.interrupts),
                         "(?m)^BLK-IRQ msix$")

    def test_memory_that_only_qemu_can_reach(self):
        outcome = self.run_on(device.DiskOverVfioUser, kills=MESSAGE_KILLS,
                              control=1, shared_memory=False, depth=8,
                              max_kib=64)
        scenario.expect_unnoticed(self, outcome, MESSAGE_KILLS)

    def test_a_device_that_dies_for_good_is_noticed(self):
        outcome = self.run_on(Alone, kills=1, control=1, lost=5)
        self.assertNotEqual(outcome.problems, [])
