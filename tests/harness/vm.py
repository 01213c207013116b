"""Boots a guest under QEMU and follows its console."""

import json
import os
import shutil
import socket
import subprocess
import tempfile

from tests.harness import console, parts, processes

# The slowest boot seen, on a very busy machine, took 52 s.
BOOT_SECONDS = 120
# A stock kernel under working KVM is at its init in less than 2 s.
KVM_PROBE_SECONDS = 8


# What the guest's kernel is told always. On a busy host a guest without KVM
# misses the ticks that the kernel waits for when it tries its timer, and panics;
# and it finds that its clocks run apart, which it says in the log that is to be
# empty.
KERNEL_LINE = "console=ttyS0 panic=-1 no_timer_check tsc=reliable quiet "


class Vm:
    """One QEMU process.

    kernel: starts with `initramfs` and `append`. None: UEFI firmware looks for
    something to start on the disks.

    Its standard error is kept apart from the console: QEMU must not have a
    word to say about a device that recovers.
    """

    def __init__(self, kernel, initramfs, qemu=None, accel="tcg", memory_mib=512,
                 cpus=1, arguments=(), append="", shared_memory=False, log=None):
        self._directory = tempfile.TemporaryDirectory(prefix="hfvm")
        self._log = log
        self._qmp_path = os.path.join(self._directory.name, "qmp")
        # With CMPXCHG16B the TCG of QEMU 7.2 corrupts a 6.12 guest that runs
        # on a busy host; the flag is never needed.
        cpu = "host,-arch-capabilities" if accel == "kvm" else "max,-cx16"
        machine = "q35"
        if shared_memory:
            machine += ",memory-backend=mem"
            arguments = (
                "-object", "memory-backend-memfd,id=mem,share=on,size=%dM" %
                memory_mib, *arguments)
        if kernel:
            starts = ["-kernel", kernel, "-initrd", initramfs, "-append",
                      (KERNEL_LINE + append).strip()]
        else:
            starts = self._firmware()
        self.command = [
            qemu or parts.qemu(), "-accel", accel, "-M", machine, "-cpu", cpu,
            "-m", str(memory_mib), "-smp", str(cpus), "-nodefaults", "-no-user-config",
            "-display", "none", "-serial", "stdio", "-no-reboot",
            "-qmp", "unix:%s,server=on,wait=off" % self._qmp_path,
            *starts, *arguments]
        self.process = None
        self.console = None
        self._stderr = None

    def _firmware(self):
        code, variables = parts.firmware()
        own = os.path.join(self._directory.name, "variables")
        shutil.copyfile(variables, own)
        return ["-drive", "if=pflash,format=raw,readonly=on,file=" + code,
                "-drive", "if=pflash,format=raw,file=" + own]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        self._stderr.close()
        self._directory.cleanup()

    def start(self):
        self._stderr = open(os.path.join(self._directory.name, "stderr"),
                            "w+b")
        self.process = processes.start(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._stderr)
        self.console = console.Console(self.process.stdout, self._log)
        return self

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def wait_boot(self, timeout=BOOT_SECONDS):
        """Waits for the guest's init; raises with the reason if it fails."""
        if not self.console.wait("^VMTEST-INIT", timeout):
            raise RuntimeError("the guest did not boot; console: %r, QEMU: %r"
                               % (self.console.lines()[-5:], self.stderr()))

    def send_line(self, text=""):
        """Types a line on the guest's console."""
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def stderr(self):
        """What QEMU has written to standard error so far."""
        with open(self._stderr.name, "rb") as f:
            return f.read().decode("utf8", "replace")

    def monitor_ready(self):
        """Whether the monitor can be asked already."""
        return os.path.exists(self._qmp_path)

    def status(self):
        """QMP's query-status: "running", "paused", ..."""
        with Qmp(self._qmp_path) as qmp:
            return qmp.command("query-status")["return"]["status"]

    def wait_exit(self, timeout):
        """Waits for QEMU's end; returns its exit status or None."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        """Ends QEMU if it runs. All console lines are there afterwards."""
        if self.process is None:
            return
        processes.kill(self.process)
        self.console.join()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None


class Qmp:
    """QEMU's monitor. Events that arrive between answers are kept."""

    def __init__(self, path, timeout=10):
        self.events = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
            self._file = self._socket.makefile("rw")
            json.loads(self._file.readline())
            self.command("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def command(self, name, **arguments):
        request = {"execute": name, "arguments": arguments}
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "event" not in answer:
                return answer
            self.events.append(answer)


def pick_accelerator(kernel, initramfs, qemu=None):
    """ "kvm" if a stock kernel boots under it in time, else "tcg".

    /dev/kvm proves nothing: some hosts offer a KVM that emulates a stock
    guest kernel instruction by instruction and gives up in the end. The
    answer is kept until the machine reboots. VM_ACCEL overrides.
    """
    if os.environ.get("VM_ACCEL"):
        return os.environ["VM_ACCEL"]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if os.path.isdir("/sys/module/kvm_pvm"):
        return "tcg"
    with open("/proc/sys/kernel/random/boot_id") as f:
        memo = os.path.join(parts.cache(), "accel-" + f.read().strip())
    if os.path.exists(memo):
        with open(memo) as f:
            return f.read().strip()
    with Vm(kernel, initramfs, qemu=qemu, accel="kvm") as vm:
        booted = vm.console.wait("^VMTEST-INIT", KVM_PROBE_SECONDS)
    answer = "kvm" if booted else "tcg"
    os.makedirs(parts.cache(), exist_ok=True)
    with open(memo, "w") as f:
        f.write(answer + "\n")
    return answer


def load_average():
    """Of the last minute: belongs beside every measured time."""
    return os.getloadavg()[0]
