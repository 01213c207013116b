"""The back-ends that a guest's disk can have, behind one interface.

    with SomeDevice(image, ...) as device:
        Vm(..., arguments=device.qemu_arguments())
        recovery = device.kill()
"""

import json
import os
import signal
import subprocess
import tempfile
import time

from tests.harness import parts, processes

START_SECONDS = 30


class Kill:
    """One kill of the active disk process.

    Attributes:
      time: of the SIGKILL, time.monotonic().
      pid: of the killed process.
      recovery_us: from the death, seen by the supervisor, until it had promoted
        the standby; None if there is no supervisor.
    """

    def __init__(self, when, pid, recovery_us=None):
        self.time = when
        self.pid = pid
        self.recovery_us = recovery_us


def kill_process(process):
    """SIGKILL to a child of ours, reaped; returns the Kill."""
    done = Kill(time.monotonic(), process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return done


class Device:
    """A vhost-user-blk back-end in a process that can be killed."""

    name = ""
    # Options of QEMU's chardev; "" if QEMU must never see a disconnect.
    chardev_options = ""
    # Seconds that it needs after a kill before another one means anything.
    settle = 0.0

    def __init__(self, image):
        self.image = image
        self._directory = tempfile.TemporaryDirectory(prefix="hfdev")
        self.socket = os.path.join(self._directory.name, "blk.sock")
        self.log_path = os.path.join(self._directory.name, "log")
        self._log = open(self.log_path, "wb")

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        self._log.close()
        self._directory.cleanup()

    def qemu_arguments(self):
        options = "," + self.chardev_options if self.chardev_options else ""
        return ["-chardev", "socket,id=blk,path=%s%s" % (self.socket, options),
                "-device", "vhost-user-blk-pci,chardev=blk,num-queues=1"]

    def log(self):
        """What the back-end has printed."""
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf8", "replace")

    def start(self):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def kill(self):
        """Kills the active disk process once and returns the Kill."""
        raise NotImplementedError

    def _start_process(self, command):
        return processes.start(command, stdout=self._log, stderr=self._log)

    def _wait_socket(self, process):
        def ready():
            if process.poll() is not None:
                raise RuntimeError("%s ended with status %d: %s" % (
                    self.name, process.returncode, self.log()[-2000:]))
            return os.path.exists(self.socket)
        processes.wait_for(ready, START_SECONDS, "socket of " + self.name)


class QsdDevice(Device):
    """What people have today: qemu-storage-daemon, started again at once by
    whoever watches it, and QEMU reconnects."""

    def __init__(self, image, version="7.2", reconnect_ms=20, direct=False):
        super().__init__(image)
        self._cache = ",cache.direct=on" if direct else ""
        self.name = "qemu-storage-daemon " + version
        self._program = parts.storage_daemon(version)
        self._process = None
        # QEMU 7.2 knows whole seconds only.
        if version == "7.2":
            reconnect_ms = 1000
            self.chardev_options = "reconnect=1"
        else:
            self.chardev_options = "reconnect-ms=%d" % reconnect_ms
        self.settle = 2 * reconnect_ms / 1000

    def _command(self):
        return [
            self._program, "--blockdev",
            "driver=file,node-name=disk,aio=threads,locking=off,filename=%s%s" %
            (self.image, self._cache),
            "--export", "type=vhost-user-blk,id=export,node-name=disk,"
            "addr.type=unix,addr.path=%s,writable=on,num-queues=1" %
            self.socket]

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = self._start_process(self._command())
        self._wait_socket(self._process)

    def stop(self):
        processes.kill(self._process)

    def kill(self):
        done = kill_process(self._process)
        self._process = self._start_process(self._command())
        return done


class StandaloneDevice(Device):
    """The device program alone: it serves, and once dead it stays dead."""

    name = "holdfast-virtio-blk, alone"
    program = "devices/virtio_blk/holdfast-virtio-blk"

    def __init__(self, image, options=()):
        super().__init__(image)
        self._options = options
        self._process = None

    def start(self):
        self._process = self._start_process(
            [parts.built(self.program), "--socket-path=" + self.socket,
             "--image=" + self.image, *self._options])
        self._wait_socket(self._process)

    def stop(self):
        processes.kill(self._process)

    def kill(self):
        return kill_process(self._process)


class HoldfastDevice(Device):
    """virtio-blk under holdfastd: QEMU must never see that it died."""

    name = "Holdfast"
    instance = "disk"
    program = StandaloneDevice.program

    def __init__(self, image, options=()):
        super().__init__(image)
        # The store and the children are users of their own.
        os.chmod(self._directory.name, 0o755)
        self._options = options
        self._daemon = None
        self._control = None
        self._last_event = 0

    def start(self):
        binary = os.path.realpath(parts.built(self.program))
        policy = os.path.realpath(
            parts.built("devices/virtio_blk/virtio_blk.policy"))
        fragments = os.path.dirname(os.path.realpath(
            parts.built("sandbox/policies/common.policy")))
        run_dir = self._directory.name
        self._daemon = self._start_process([
            parts.built("launcher/holdfastd"), "--run-dir=" + run_dir,
            "--store=" + os.path.realpath(
                parts.built("statestore/store/holdfast-store")),
            "--store-policy=" + os.path.realpath(
                parts.built("statestore/store/store.policy")),
            "--allow-binary-dir=" + os.path.dirname(binary),
            "--allow-resource-dir=" + os.path.dirname(self.image),
            "--policy-dir=" + os.path.dirname(policy),
            "--policy-dir=" + fragments])
        core = os.path.join(run_dir, "core.sock")
        processes.wait_for(lambda: self._check_daemon() and
                           os.path.exists(core), START_SECONDS, core)
        self._control = processes.start(
            [parts.built("tests/harness/core_ctl"), "--socket=" + core],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True)
        self.ask("run", self.instance, binary, self.socket, self.image,
                 policy, *self._options)
        self.wait_whole()

    def stop(self):
        if self._control:
            processes.kill(self._control)
            self._control.stdin.close()
            self._control.stdout.close()
        if self._daemon:
            processes.terminate(self._daemon)

    def _check_daemon(self):
        if self._daemon.poll() is not None:
            raise RuntimeError("holdfastd ended with status %d: %s" % (
                self._daemon.returncode, self.log()[-2000:]))
        return True

    @property
    def daemon_pid(self):
        return self._daemon.pid

    def ask(self, *words):
        """One command of core_ctl; raises with the core's words."""
        self._control.stdin.write(" ".join(words) + "\n")
        self._control.stdin.flush()
        line = self._control.stdout.readline()
        if not line:
            raise RuntimeError("core_ctl died: " + self.log()[-2000:])
        answer = json.loads(line)
        if not answer["ok"]:
            raise RuntimeError("%s: %s; log: %s" % (
                " ".join(words), answer["error"], self.log()[-2000:]))
        return answer["answer"]

    def status(self):
        return self.ask("status", self.instance)

    def wait_whole(self, timeout=START_SECONDS):
        """Waits for an active child and a standby that is ready."""
        return processes.wait_for(
            lambda: self._whole(), timeout, "a whole instance")

    def _whole(self):
        status = self.status()
        return status if status["active_pid"] and status[
            "standby_ready"] else None

    def _await_event(self, kind):
        """The next event of this type; those before it are passed over."""
        while True:
            answer = self.ask("events", str(self._last_event))
            for event in answer["events"]:
                self._last_event = event["sequence"]
                if event["type"] == kind and event[
                        "instance"] == self.instance:
                    return event
            self._last_event = max(self._last_event, answer["last"])

    def kill(self):
        """kill -9 of the active child, from outside, as anybody would."""
        status = self.wait_whole()
        self._skip_events()
        when = time.monotonic()
        os.kill(status["active_pid"], signal.SIGKILL)
        event = self._await_event("promoted")
        return Kill(when, status["active_pid"], event["microseconds"])

    def _skip_events(self):
        """Everything up to here is old: the first promotion among it."""
        answer = self.ask("events", "0")
        while answer["last"] > self._last_event:
            self._last_event = answer["last"]
            if len(answer["events"]) < 128:
                break
            answer = self.ask("events", str(self._last_event))


class ForgetfulDevice(HoldfastDevice):
    """The negative control: its successors ignore what was in flight."""

    name = "Holdfast without in-flight tables"
    program = "tests/recovery/forgetful_blk"
