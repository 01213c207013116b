"""An NVMe disk over vfio-user, on an unmodified QEMU and a stock guest with its
own driver: killed again and again, and nobody notices anything."""

import os
import tempfile
import unittest

from tests.harness import device, effort, scenario

KILLS = effort.kills(suite=2000, long=10000)
# Of them, from QEMU's start on, while the guest's driver finds the disk.
BOOT_KILLS = min(KILLS, 60)
MSI_KILLS = effort.kills(suite=200, long=2000)
# Without share=on; each command takes several round trips through QEMU.
MESSAGE_KILLS = effort.kills(suite=20, long=200)
# While EDK2's driver reads the kernel and the kernel unpacks itself.
FIRMWARE_KILLS = MSI_KILLS * 3 // 4
# Seconds that a disk process lives when another one is ready, at most.
PAUSE = (0, 0.004)


class NvmeOfTwoNamespaces(device.NvmeDisk):
    """The second one has 64 KiB that the guest copies."""

    SECOND = os.urandom(1 << 16)

    def __init__(self, image):
        super().__init__(image)
        self.second = os.path.join(os.path.dirname(image), "second.img")
        self.more_images = (self.second,)

    def start(self):
        with open(self.second, "wb") as f:
            f.write(self.SECOND)
            f.truncate(16 << 20)
        super().start()

    def stop(self):
        super().stop()
        with open(self.second, "rb") as f:
            self.copied = f.read(1 << 17) == 2 * self.SECOND


class MsiNvme(device.NvmeDisk):

    name = "Holdfast, NVMe with MSI and shadow doorbells"
    program = "tests/recovery/nvme_msi"

    def __init__(self, image):
        super().__init__(image, ["--num-queues=2", "--shadow-doorbells"])


class KilledNvme(unittest.TestCase):

    def run_on(self, factory=device.NvmeDisk, **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                factory,
                scenario.Settings(control=1, qemu="11.1", **settings),
                directory)
        outcome.print()
        return outcome

    def test_two_queues_and_two_namespaces(self):
        devices = []

        def make(image):
            devices.append(NvmeOfTwoNamespaces(image))
            return devices[0]

        outcome = self.run_on(make, kills=KILLS, boot_kills=BOOT_KILLS,
                              pause=PAUSE, cpus=2, append="second=nvme0n2")
        self.assertTrue(devices[0].copied)
        scenario.expect_unnoticed(self, outcome, KILLS)
        self.assertGreater(outcome.boot_kills, 0)
        self.assertEqual(outcome.verdict.queues, 2)
        self.assertRegex("\n".join(outcome.verdict.interrupts),
                         "(?m)^BLK-IRQ msix$")

    def test_firmware_starts_from_it_and_message_interrupts_of_the_older_kind(
            self):
        # One guest for these and for shadow doorbells: none has to do with the
        # others.
        outcome = self.run_on(MsiNvme, kills=MSI_KILLS, pause=PAUSE,
                              boot_kills=FIRMWARE_KILLS, firmware=True)
        scenario.expect_unnoticed(self, outcome, MSI_KILLS)
        self.assertGreater(outcome.boot_kills, 0)
        self.assertRegex("\n".join(outcome.verdict.interrupts),
                         "(?m)^BLK-IRQ msi$")

    def test_memory_that_only_qemu_can_reach(self):
        outcome = self.run_on(kills=MESSAGE_KILLS, shared_memory=False, depth=8,
                              max_kib=64)
        scenario.expect_unnoticed(self, outcome, MESSAGE_KILLS)
