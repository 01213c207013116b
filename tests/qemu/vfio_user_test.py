"""PCI registers over vfio-user in a stock guest on an unmodified QEMU 11.1: the
device is killed again and again, from the boot on, while the guest reads
registers with side effects and posts writes."""

import os
import tempfile
import time
import unittest

from tests.harness import (console, device, effort, initramfs, killer, parts,
                           scenario, vm)

KILLS = effort.kills(suite=3000, long=20000)
# Kills of the device while the guest boots and probes it.
BOOT_KILLS = 60
# Seconds that a process lives when another one is ready, at most.
PAUSE = 0.003
# How often a device that dies by itself does so before the guest is asked.
DEATHS = 10
# Seconds that the guest may take for 4096 turns before it is said to hang.
PATIENCE = 60


class Torture(device.OverVfioUser, device.HoldfastDevice):
    """tests/recovery/register_torture.cc under holdfastd."""

    program = "tests/recovery/register_torture"
    policy = "devices/pci_edu/pci_edu.policy"


class DiesAtReplies(Torture):
    """Dies by itself, just before or just after an answer is sent."""

    program = "tests/recovery/dies_at_replies"
    # It does not wait for a standby, which takes its time on a busy machine.
    message_timeout_s = 60


class AlwaysResends(Torture):
    """The negative control: its successors send such an answer again."""

    program = "tests/recovery/always_resends"


class NeverResends(Torture):
    """The negative control: its successors take such an answer for sent."""

    program = "tests/recovery/never_resends"


class LonelyTorture(device.OverVfioUser, device.StandaloneDevice):
    """Without a launcher: once dead it stays dead."""

    name = "registers, alone"
    program = Torture.program


class Run:
    """What came of one guest.

    Attributes:
      problems: everything that is wrong, in words.
      counted: what regverify counted: reads, writes, differences.
      kills: the Kills. deaths: of the device, its own ones included.
    """

    def __init__(self):
        self.problems = []
        self.counted = []
        self.kills = []
        self.deaths = 0


def run(back_end, kills=0, boot_kills=0, deaths=0, patience=PATIENCE):
    """Kills the device while a guest uses its registers; a device that dies by
    itself is left to it until it has died `deaths` times or the guest has
    noticed. Returns the Run."""
    kernel, tree = parts.kernel()
    done = Run()
    with tempfile.TemporaryDirectory() as directory, back_end as holdfast:
        guest = initramfs.build(
            os.path.join(directory, "registers.cpio.gz"), tree,
            parts.built("tests/guest/registers.sh"),
            [parts.built("tests/guest/regverify")], modules=())
        with vm.Vm(kernel, guest, qemu=parts.qemu("11.1"), shared_memory=True,
                   arguments=holdfast.qemu_arguments()) as machine:
            if boot_kills:
                holdfast.killer.start(boot_kills, *scenario.BOOT_PAUSE)
            machine.wait_boot()
            if boot_kills:
                done.kills += holdfast.killer.wait()
            if deaths:
                done.deaths = _let_die(machine, holdfast, deaths)
                if machine.stderr():
                    # Nothing is waited for any more.
                    done.problems.append("QEMU has complained")
            elif not _goes_on(machine, PATIENCE, 1):
                done.problems.append("the guest checks nothing")
            else:
                done.kills += _kill(machine, holdfast, kills)
            _judge(machine, done, patience)
            return done


def _kill(machine, holdfast, kills):
    """Ends early when the guest has found something."""
    if not isinstance(holdfast, device.HoldfastDevice):
        return [holdfast.kill() for _ in range(kills)]
    holdfast.killer.start(kills, 0, PAUSE)
    while not holdfast.killer.done(0.2):
        if machine.console.wait("^REG-FINDING", 0) or not machine.alive():
            return []
    return holdfast.killer.wait()


def _let_die(machine, holdfast, deaths):
    """How often it has died when it is often enough, or noticed."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and machine.alive() and not machine.stderr() \
            and not machine.console.wait("^REG-FINDING", 0):
        if holdfast.status()["recoveries"] >= deaths:
            break
        time.sleep(0.02)
    return holdfast.status()["recoveries"]


def _judge(machine, done, patience):
    problems = done.problems
    if not problems and not _goes_on(machine, patience, 2):
        problems.append("the guest hangs")
    if not machine.alive():
        problems.append("QEMU has ended")
    elif not problems and machine.status() != "running":
        problems.append("QEMU is " + machine.status())
    if not problems:
        machine.send_line()
        machine.console.wait("^VMTEST-EXIT", patience)
        machine.wait_exit(5)
    lines = machine.console.lines()
    problems += console.first([
        text for _, text in lines if text.startswith("REG-FINDING")])
    verdict = console.Verdict(lines)
    if verdict.exit_status != 0 or not verdict.kernel_checked:
        problems.append("the guest's exit status is %s" % verdict.exit_status)
    problems += ["the guest's kernel says: " + text for text in verdict.kernel]
    problems += console.first([
        "QEMU says: " + text for text in machine.stderr().splitlines()])
    counted = machine.console.matching(r"^REG-RESULT (\d+) (\d+) (\d+)")
    done.counted = [int(n) for n in counted[0].groups()] if counted else []


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
        done = run(Torture(None), KILLS - BOOT_KILLS, BOOT_KILLS)
        self.assertEqual(done.problems, [])
        self.assertEqual(len(done.kills), KILLS)
        self.assertTrue(killer.each_another(done.kills))
        reads, writes, differences = done.counted
        self.assertGreater(reads, 4096)
        self.assertEqual(differences, 0)
        print("%d of the kills from QEMU's start on; %d reads with side "
              "effects or of what they leave, %d posted writes: 0 differences"
              % (BOOT_KILLS, reads, writes))
        print(killer.describe(done.kills[BOOT_KILLS:]))

    def test_a_device_that_dies_for_good_is_noticed(self):
        done = run(LonelyTorture(None), 1, patience=20)
        # As it happens, QEMU 11.1 aborts, which it may still be busy with.
        self.assertRegex("\n".join(done.problems),
                         "REG-FINDING .* is ffffffff|QEMU (has ended|says)")


class DyingRegisters(unittest.TestCase):
    """Deaths at the worst instants, which chance would rarely find."""

    def test_deaths_around_an_answer_go_unnoticed(self):
        done = run(DiesAtReplies(None), deaths=DEATHS)
        self.assertEqual(done.problems, [])
        self.assertGreaterEqual(done.deaths, DEATHS)

    def check_noticed(self, back_end):
        done = run(back_end, deaths=DEATHS, patience=20)
        print("noticed after %d deaths: %s" % (done.deaths, done.problems))
        self.assertNotEqual(done.problems, [])
        self.assertLessEqual(done.deaths, DEATHS)

    def test_always_sending_again_is_noticed(self):
        self.check_noticed(AlwaysResends(None))

    def test_never_sending_again_is_noticed(self):
        self.check_noticed(NeverResends(None))
