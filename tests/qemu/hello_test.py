"""Entropy devices, a newcomer's among them, in a stock guest on an unmodified
QEMU: killed again and again while the guest reads from them."""

import os
import random
import tempfile
import time
import unittest

from tests.harness import console, device, initramfs, parts, vm

KILLS = int(os.environ.get("HOLDFAST_KILLS", "50"))
# Seconds that the guest may take for 256 checks before it is said to hang.
PATIENCE = 60


class Hello(device.HoldfastDevice):
    """examples/hello_virtio: greets, and numbers the greetings."""

    program = "examples/hello_virtio/hello_virtio"
    policy = "examples/hello_virtio/hello_virtio.policy"
    qemu_device = "vhost-user-rng-pci"


class ForgetfulHello(Hello):
    program = "devices/testing/broken/loses_state"


class LonelyHello(device.StandaloneDevice):
    """Without a launcher: once dead it stays dead."""

    program = Hello.program
    qemu_device = Hello.qemu_device


class Rng(Hello):
    program = "devices/virtio_rng/holdfast-virtio-rng"
    policy = "devices/virtio_rng/virtio_rng.policy"


class RngOverVfioUser(device.OverVfioUser, Rng):
    """The same program as a PCI function, which QEMU 11.1 serves."""

    policy = "devices/virtio_rng/virtio_rng_pci.policy"

    def __init__(self, image):
        super().__init__(image, ["--protocol=vfio-user"])


def run(back_end, check, kills, patience=PATIENCE):
    """Kills the device while a guest reads from it.

    Returns everything that is wrong, in words, and how much was checked.
    """
    with tempfile.TemporaryDirectory() as directory, back_end as holdfast:
        with boot(directory, back_end, check) as machine:
            machine.wait_boot()
            return _kill_and_judge(machine, holdfast, check, kills, patience)


def boot(directory, back_end, check):
    """A guest that reads from the device and checks what it reads."""
    kernel, tree = parts.kernel()
    guest = initramfs.build(
        os.path.join(directory, "rng.cpio.gz"), tree,
        parts.built("tests/guest/rng.sh"),
        [parts.built("tests/guest/greetings.awk")],
        modules=("virtio_pci", "virtio-rng"))
    qemu = parts.qemu(back_end.qemu_version)
    accel = vm.pick_accelerator(kernel, initramfs.hello(directory, tree), qemu)
    return vm.Vm(kernel, guest, qemu=qemu, accel=accel, shared_memory=True,
                 arguments=back_end.qemu_arguments(), append="check=" + check)


def _kill_and_judge(machine, holdfast, check, kills, patience):
    source = random.Random(3)
    if not reads_on(machine, PATIENCE, 1):
        return ["the guest reads nothing"], 0
    for _ in range(kills):
        time.sleep(source.uniform(0, 0.1))
        holdfast.kill()
    # Before that it may check what lies in its pipe.
    backlog = 24 if check == "greetings" else 3
    problems = [] if reads_on(machine, patience, backlog) else [
        "the guest hangs"]
    if not problems:
        machine.send_line()
        machine.console.wait("^VMTEST-EXIT", patience)
        machine.wait_exit(5)
    lines = machine.console.lines()
    problems += [text for _, text in lines if text.startswith("RNG-FINDING")]
    verdict = console.Verdict(lines)
    if verdict.exit_status != 0 or not verdict.kernel_checked:
        problems.append("the guest's exit status is %s" % verdict.exit_status)
    problems += ["the guest's kernel says: " + text for text in verdict.kernel]
    if machine.stderr():
        problems.append("QEMU says: " + machine.stderr())
    checked = machine.console.matching(r"^RNG-RESULT (\d+)")
    return problems, int(checked[0][1]) if checked else 0


def reads_on(machine, patience, checks):
    """Whether the guest gets anything from now on."""
    start = len(machine.console.lines())
    for _ in range(checks):
        if not machine.console.wait("^RNG-CHECKED", patience, start):
            return False
        start = 1 + max(number for number, (_, text) in enumerate(
            machine.console.lines()) if text.startswith("RNG-CHECKED"))
    return True


class KilledEntropy(unittest.TestCase):

    def test_a_newcomers_device_counts_on(self):
        holdfast = Hello(None)
        problems, checked = run(holdfast, "greetings", KILLS)
        self.assertEqual(problems, [])
        self.assertGreater(checked, 256)
        print("%d kills, %d greetings: none missing, none twice" % (
            KILLS, checked))

    def test_virtio_rng_never_repeats_itself(self):
        problems, checked = run(Rng(None), "random", KILLS)
        self.assertEqual(problems, [])
        print("%d kills, %d times 64 bytes: none twice" % (KILLS, checked))

    def test_virtio_rng_over_vfio_user(self):
        # Read on as a PCI function, and still nothing twice.
        problems, checked = run(RngOverVfioUser(None), "random", KILLS)
        self.assertEqual(problems, [])
        print("%d kills, %d times 64 bytes: none twice" % (KILLS, checked))

    def test_a_device_that_forgets_is_noticed(self):
        problems, _ = run(ForgetfulHello(None), "greetings", 2)
        self.assertRegex("\n".join(problems), "RNG-FINDING after .* hello #")

    def test_a_device_that_dies_for_good_is_noticed(self):
        problems, _ = run(LonelyHello(None), "greetings", 1, patience=5)
        self.assertIn("the guest hangs", problems)
