"""PCI registers over vfio-user in a stock guest on an unmodified QEMU 11.1: the
device is killed again and again, from the boot on, while the guest reads
registers with side effects and posts writes."""

import os
import random
import tempfile
import time
import unittest

from tests.harness import console, device, initramfs, parts, vm

KILLS = int(os.environ.get("HOLDFAST_KILLS", "150"))
# Kills of the device while the guest boots and probes it.
BOOT_KILLS = 20
# Seconds that the guest may take for 4096 turns before it is said to hang.
PATIENCE = 60


class Torture(device.OverVfioUser, device.HoldfastDevice):
    """tests/recovery/register_torture.cc under holdfastd."""

    program = "tests/recovery/register_torture"
    policy = "devices/pci_edu/pci_edu.policy"


class LonelyTorture(device.OverVfioUser, device.StandaloneDevice):
    """Without a launcher: once dead it stays dead."""

    name = "registers, alone"
    program = Torture.program


def run(back_end, kills, boot_kills=0, patience=PATIENCE):
    """Kills the device while a guest uses its registers.

    Returns everything that is wrong, in words, and what regverify counted:
    reads, writes, differences.
    """
    kernel, tree = parts.kernel()
    with tempfile.TemporaryDirectory() as directory, back_end as holdfast:
        guest = initramfs.build(
            os.path.join(directory, "registers.cpio.gz"), tree,
            parts.built("tests/guest/registers.sh"),
            [parts.built("tests/guest/regverify")], modules=())
        with vm.Vm(kernel, guest, qemu=parts.qemu("11.1"), shared_memory=True,
                   arguments=holdfast.qemu_arguments()) as machine:
            source = random.Random(5)
            for _ in range(boot_kills):
                time.sleep(source.uniform(0, 0.3))
                holdfast.kill()
            machine.wait_boot()
            return _kill_and_judge(machine, holdfast, source, kills, patience)


def _kill_and_judge(machine, holdfast, source, kills, patience):
    problems = [] if _goes_on(machine, PATIENCE, 1) else [
        "the guest checks nothing"]
    for _ in range(kills if not problems else 0):
        time.sleep(source.uniform(0, 0.02))
        holdfast.kill()
    if not problems and not _goes_on(machine, patience, 2):
        problems.append("the guest hangs")
    if not machine.alive():
        problems.append("QEMU has ended")
    elif machine.status() != "running":
        problems.append("QEMU is " + machine.status())
    if not problems:
        machine.send_line()
        machine.console.wait("^VMTEST-EXIT", patience)
        machine.wait_exit(5)
    lines = machine.console.lines()
    problems += [text for _, text in lines if text.startswith("REG-FINDING")]
    verdict = console.Verdict(lines)
    if verdict.exit_status != 0 or not verdict.kernel_checked:
        problems.append("the guest's exit status is %s" % verdict.exit_status)
    problems += ["the guest's kernel says: " + text for text in verdict.kernel]
    if machine.stderr():
        problems.append("QEMU says: " + machine.stderr())
    counted = machine.console.matching(r"^REG-RESULT (\d+) (\d+) (\d+)")
    return problems, [int(n) for n in counted[0].groups()] if counted else []


def _goes_on(machine, patience, words):
    """Whether the guest checks anything from now on."""
    start = len(machine.console.lines())
    for _ in range(words):
        if not machine.console.wait("^REG-CHECKED", patience, start):
            return False
        start = 1 + max(number for number, (_, text) in enumerate(
            machine.console.lines()) if text.startswith("REG-CHECKED"))
    return True


class KilledRegisters(unittest.TestCase):

    def test_every_access_is_done_once(self):
        problems, counted = run(Torture(None), KILLS, BOOT_KILLS)
        self.assertEqual(problems, [])
        reads, writes, differences = counted
        self.assertGreater(reads, 4096)
        self.assertEqual(differences, 0)
        print("%d kills, %d of them during the boot; %d reads with side "
              "effects or of what they leave, %d posted writes: 0 differences"
              % (KILLS + BOOT_KILLS, BOOT_KILLS, reads, writes))

    def test_a_device_that_dies_for_good_is_noticed(self):
        problems, _ = run(LonelyTorture(None), 1, patience=20)
        # As it happens, QEMU 11.1 aborts.
        self.assertRegex("\n".join(problems),
                         "REG-FINDING .* is ffffffff|QEMU has ended")
