"""The acceptance scenario: a guest writes and verifies while its disk process
is killed again and again."""

import os
import random
import time

from tests.harness import console, disk, initramfs, killer, parts, stalls, vm

# A load that has come to its end reads back everything, unmounts and powers
# off; on a busy machine under TCG this takes a while.
FINISH_SECONDS = 180
# Between two kills while a guest boots, which it must come to an end of.
BOOT_PAUSE = (0, 0.1)


class Settings:
    """How to run the scenario.

    Attributes:
      kills: how often; 0 for a control run without any.
      period: mean seconds between two kills.
      control: seconds of load before the first kill, to know what the machine
        itself causes.
      depth, max_kib: of the guest's load.
      lost: seconds after which the guest gives a request up.
      ext4: whether the disk also has a mounted file system.
      stop_at_damage: end the run as soon as the guest reports damage.
      cpus: of the guest; as many queues of the disk it can use.
      shared_memory: whether the device can map the guest's memory; else a
        vfio-user device asks QEMU for every byte of it.
      qemu: version. kernel: version. seed: of the times of the kills.
      pause: (least, most) seconds from a standby's being ready to the next
        kill, instead of `period`: as fast as it goes. The device has a killer.
      boot_kills: so many of the kills begin with QEMU, with BOOT_PAUSE.
      append: to the command line of the guest's kernel.
      firmware: UEFI firmware reads the kernel from the disk and starts it.
    """

    def __init__(self, kills=20, period=0.5, control=3.0, depth=32,
                 max_kib=256, lost=30, ext4=True, stop_at_damage=True,
                 cpus=1, shared_memory=True, qemu="7.2", kernel="6.1", seed=1,
                 pause=None, boot_kills=0, append="", firmware=False):
        self.kills = kills
        self.period = period
        self.control = control
        self.depth = depth
        self.max_kib = max_kib
        self.lost = lost
        self.ext4 = ext4
        self.stop_at_damage = stop_at_damage
        self.cpus = cpus
        self.shared_memory = shared_memory
        self.qemu = qemu
        self.kernel = kernel
        self.seed = seed
        self.pause = pause
        self.boot_kills = boot_kills
        self.append = append
        self.firmware = firmware

    def schedule(self):
        """The pauses before each kill, in seconds: equal seeds, equal kills."""
        source = random.Random(self.seed)
        return [self.period * source.uniform(0.5, 1.5)
                for _ in range(self.kills)]

    def command_line(self, guest_disk):
        # The host ends the load; the guest's own limit only bounds it.
        return "depth=%d max_kib=%d seconds=%d lost_s=%d disk=%s %s" % (
            self.depth, self.max_kib,
            self.control + 1.5 * self.period * self.kills + 600, self.lost,
            guest_disk, self.append)


class Outcome:
    """What a run showed; as_dict() is what --json prints."""

    def __init__(self, settings, device):
        self.settings = settings
        self.device = device.name
        self.accel = ""
        self.kills = []
        self.boot_kills = 0
        self.damaged_after = None
        self.problems = []
        self.gaps = []
        self.control_gap = 0.0
        self.verdict = None
        self.qemu_silent = None
        self.fsck_clean = None
        self.load_average = 0.0

    def print(self):
        print(self.as_dict())
        print(killer.describe(self.kills[self.boot_kills:]))

    @property
    def clean(self):
        return not self.problems

    def stalls(self):
        return stalls.per_kill([kill.time for kill in self.kills], self.gaps)

    def recoveries_us(self):
        return [kill.recovery_us for kill in self.kills
                if kill.recovery_us is not None]

    def as_dict(self):
        def milliseconds(values):
            return {key: round(value * 1000, 3)
                    for key, value in stalls.summary(values).items()}
        return {
            "device": self.device,
            "qemu": self.settings.qemu,
            "kernel": self.settings.kernel,
            "accelerator": self.accel,
            "load_average": round(self.load_average, 1),
            "depth": self.settings.depth,
            "clean": self.clean,
            "kills": len(self.kills),
            "boot_kills": self.boot_kills,
            "qemu_silent": self.qemu_silent,
            "fsck_clean": self.fsck_clean,
            "damaged_after_kill": self.damaged_after,
            "stall_ms": milliseconds(self.stalls()),
            "control_gap_ms": round(self.control_gap * 1000, 3),
            "recovery_us": stalls.summary(self.recoveries_us()),
            "lost_requests": self.verdict and self.verdict.lost,
            "kernel_lines": self.verdict and len(self.verdict.kernel),
            "blocks": self.verdict and self.verdict.blocks,
            "files": self.verdict and self.verdict.files,
            "problems": self.problems,
        }


def expect_unnoticed(case, outcome, kills):
    """Fails a unittest.TestCase if anybody has noticed any of the kills."""
    case.assertEqual(outcome.problems, [])
    case.assertEqual(len(outcome.kills), kills)
    case.assertTrue(killer.each_another(outcome.kills))
    case.assertTrue(outcome.qemu_silent)
    case.assertTrue(outcome.fsck_clean)


DAMAGE = r"^(BLK|FS)-(FINDING|LOST)|I/O error|^(BLK|FS)-RESULT|^VMTEST-"


def run(device_factory, settings, directory, strict=True, log=None,
        on_kill=lambda number, kill: None):
    """Boots the guest on a device, kills the device on schedule, checks all.

    device_factory: takes the image's path and returns a device.Device.
    directory: for the image and the initramfs.
    strict: QEMU's standard error must stay empty.
    on_kill: called with the number, from 1, and the Kill.
    """
    kernel, tree = parts.kernel(settings.kernel)
    qemu = parts.qemu(settings.qemu)
    guest = initramfs.disk(directory, tree)
    accel = vm.pick_accelerator(kernel, initramfs.hello(directory, tree), qemu)
    path = os.path.join(directory, "disk.img")
    unstarted = device_factory(path)
    command_line = settings.command_line(unstarted.guest_disk)
    efi = None
    if settings.firmware:
        efi = _efi_files(directory, parts.kernel_image(tree), guest,
                         command_line)
        kernel = None
    image = disk.Disk(path, ext4_mib=64 if settings.ext4 else 0, efi=efi)
    with unstarted as device:
        outcome = Outcome(settings, device)
        outcome.accel = accel
        with vm.Vm(kernel, guest, qemu=qemu, accel=accel, shared_memory=settings.shared_memory,
                   cpus=settings.cpus, arguments=device.qemu_arguments(), log=log,
                   append=command_line) as machine:
            if settings.boot_kills:
                device.killer.start(settings.boot_kills, *BOOT_PAUSE)
            machine.wait_boot()
            _load_and_kill(machine, device, settings, outcome, on_kill)
            _finish(machine, outcome, strict)
        if outcome.problems:
            outcome.problems += _tail(device)
    problem = image.fsck()
    outcome.fsck_clean = not problem
    if problem:
        outcome.problems.append("fsck: " + "\n".join(
            console.first(problem.strip().split("\n"), most=12)))
    return outcome


def _efi_files(directory, kernel, guest, command_line):
    """What the firmware's shell starts by itself: a kernel."""
    script = os.path.join(directory, "startup.nsh")
    with open(script, "w") as f:
        f.write("fs0:\r\nlinux.efi initrd=\\initrd %s%s\r\n" % (
            vm.KERNEL_LINE, command_line))
    return {"startup.nsh": script, "linux.efi": kernel, "initrd": guest}


def _load_and_kill(machine, device, settings, outcome, on_kill):
    started = machine.console.wait(
        "^BLK-START|^VMTEST-(EXIT|FAILED)", vm.BOOT_SECONDS)
    if not started or "BLK-START" not in started[1].string:
        outcome.problems.append("the guest did not start its load")
        return
    first = len(machine.console.lines())
    if settings.pause:
        _kill_in_a_row(machine, device.killer, settings, outcome, started[0])
        outcome.load_average = vm.load_average()
        return
    time.sleep(settings.control)
    for number, pause in enumerate(settings.schedule(), 1):
        time.sleep(pause + device.settle)
        if settings.stop_at_damage and machine.console.wait(
                DAMAGE, 0, first):
            outcome.damaged_after = number - 1
            break
        if not machine.alive():
            outcome.problems.append("QEMU died after kill %d" % (number - 1))
            break
        kill = device.kill()
        outcome.kills.append(kill)
        on_kill(number, kill)
    time.sleep(settings.period)
    outcome.load_average = vm.load_average()


def _kill_in_a_row(machine, its_killer, settings, outcome, loaded):
    """its_killer: of the device. loaded: when the load began."""
    first = len(machine.console.lines())
    outcome.kills = its_killer.wait()
    outcome.boot_kills = sum(kill.time < loaded for kill in outcome.kills)
    its_killer.start(settings.kills - settings.boot_kills, *settings.pause)
    while not its_killer.done(0.2):
        if not machine.alive():
            outcome.problems.append("QEMU died")
            return
        if machine.console.wait(DAMAGE, 0, first):
            return
    outcome.kills = outcome.kills + its_killer.wait()


def _finish(machine, outcome, strict):
    """Ends the load, waits for the guest's verdict and reads it."""
    if machine.alive():
        status = machine.status()
        if status != "running":
            outcome.problems.append("QEMU says that the guest is " + status)
        machine.send_line()
    # A request that never completes is given up by the load; the guest then
    # cannot end, because its process waits in the kernel.
    machine.console.wait(r"^VMTEST-EXIT|^BLK-LOST", FINISH_SECONDS)
    machine.wait_exit(5)
    machine.stop()
    lines = machine.console.lines()
    outcome.verdict = console.Verdict(lines)
    outcome.problems += outcome.verdict.problems(outcome.settings.ext4)
    if outcome.damaged_after is None and outcome.verdict.findings:
        outcome.damaged_after = len(outcome.kills)
    outcome.qemu_silent = not machine.stderr()
    if strict and not outcome.qemu_silent:
        outcome.problems.append("QEMU says: " + machine.stderr().strip())
    _measure(lines, outcome)


def _measure(lines, outcome):
    try:
        outcome.gaps = console.stalls(lines)
    except ValueError as error:
        outcome.problems.append(str(error))
        return
    if outcome.kills:
        before = [length for start, length in outcome.gaps
                  if start + length < outcome.kills[0].time]
    else:
        before = [length for _, length in outcome.gaps]
    outcome.control_gap = max(before, default=0.0)


def _tail(device):
    text = device.log().strip()
    return ["the device's log ends: " + text[-1500:]] if text else []
