"""The back-ends that a guest's disk can have, behind one interface.

    with SomeDevice(image, ...) as device:
        Vm(..., arguments=device.qemu_arguments())
        recovery = device.kill()
"""

import json
import os
import signal
import tempfile
import time

from tests.harness import holdfastd, killer, parts, processes

START_SECONDS = 30


def kill_process(process):
    """SIGKILL to a child of ours, reaped; returns the Kill."""
    done = killer.Kill(time.monotonic(), process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return done


class Device:
    """A back-end in a process that can be killed.

    image: of the disk that it is; None if it is no disk.
    """

    name = ""
    qemu_device = "vhost-user-blk-pci,num-queues=1"
    # Which QEMU serves it to a guest when a test has no wish.
    qemu_version = "7.2"
    # How the guest calls the disk.
    guest_disk = "vda"
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
        return ["-chardev", "socket,id=dev,path=%s%s" % (self.socket, options),
                "-device", self.qemu_device + ",chardev=dev"]

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


class OverVfioUser:
    """For a Device that is a PCI function: how QEMU 11.1 is told of it."""

    qemu_version = "11.1"
    # How long QEMU waits for an answer; None: as it comes, 5 s.
    message_timeout_s = None

    def qemu_arguments(self):
        options = {"driver": "vfio-user-pci",
                   "socket": {"type": "unix", "path": self.socket}}
        if self.message_timeout_s:
            options["x-msg-timeout"] = self.message_timeout_s * 1000
        return ["-device", json.dumps(options)]


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
             *(["--image=" + self.image] if self.image else []),
             *self._options])
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
    policy = "devices/virtio_blk/virtio_blk.policy"
    # Whether holdfast-api runs beside it.
    api = False
    # Beside the image, in the same directory.
    more_images = ()

    def __init__(self, image, options=(), realtime_priority=0):
        super().__init__(image)
        self._options = options
        self._realtime_priority = realtime_priority
        self.daemon = holdfastd.Holdfastd(
            self._directory.name,
            [os.path.dirname(image)] if image else [],
            self._log, self.api)

    def start(self):
        self.daemon.start([self.program, self.policy])
        self.daemon.run(self.instance, self.program, self.socket,
                        "+".join([self.image or "-", *self.more_images]),
                        self.policy, self._options,
                        self._realtime_priority)
        self.wait_whole()

    def stop(self):
        self.daemon.stop()

    def status(self):
        return self.daemon.status(self.instance)

    def wait_whole(self):
        return self.daemon.wait_whole(self.instance)

    def wait_free(self):
        """Waits until the end of the VMM before was noticed."""
        processes.wait_for(lambda: not self.status()["connected"],
                           START_SECONDS, "an instance without a VMM")

    @property
    def killer(self):
        """For kills in a row: see killer.Killer."""
        return self.daemon.killer(self.instance)

    def kill(self):
        return self.daemon.kill_active(self.instance)


class ForgetfulDevice(HoldfastDevice):
    """The negative control: its successors ignore what was in flight."""

    name = "Holdfast without in-flight tables"
    program = "tests/recovery/forgetful_blk"


class DiskOverVfioUser(OverVfioUser, HoldfastDevice):
    """The same disk as a PCI function, which QEMU 11.1 serves to its guest."""

    name = "Holdfast, virtio-blk"
    policy = "devices/virtio_blk/virtio_blk_pci.policy"

    def __init__(self, image, options=()):
        super().__init__(image, ["--protocol=vfio-user", *options])


class NvmeDisk(OverVfioUser, HoldfastDevice):
    """An NVMe controller."""

    name = "Holdfast, NVMe"
    guest_disk = "nvme0n1"
    program = "devices/pci_nvme/holdfast-pci-nvme"
    policy = "devices/pci_nvme/pci_nvme.policy"

    def __init__(self, image, options=("--num-queues=2",)):
        super().__init__(image, options)


class DiedByItself(RuntimeError):
    """A process that nobody has killed."""


class WrappedStorageDaemon(HoldfastDevice):
    """qemu-storage-daemon as it is, behind a keeper.

    standby: whether the next one has been started ahead. tracking: of the
    keeper; without a table requests are done twice or never. polls and
    synchronous: what is said of the program.
    """

    name = "Holdfast around qemu-storage-daemon"
    program = "devices/keeper/holdfast-keeper"
    policy = "devices/keeper/keeper.policy"

    def __init__(self, image, version="7.2", standby=True, tracking="forced",
                 direct=False, realtime_priority=0, polls=False,
                 synchronous=True):
        super().__init__(image, realtime_priority=realtime_priority)
        self.backend = os.path.realpath(parts.storage_daemon(version))
        self._standby = standby
        self._polls = polls
        self._synchronous = synchronous
        self._tracking = tracking
        self._cache = ",cache.direct=on" if direct else ""
        self._killed = 0
        self._keeper_killed = False

    def start(self):
        self.daemon.start([self.program, self.policy, self.backend])
        options = (["standby"] * self._standby + ["polls"] * self._polls +
                   ["synchronous"] * self._synchronous +
                   ["realtime=%d" % self._realtime_priority])
        self.daemon.wrap(
            self.instance, self.program, self.socket, self.policy,
            self._tracking, options, self.command())
        self.wait_whole()

    def command(self):
        """What a life is started by; {fd}: the number of its socket."""
        return [
            self.backend, "--blockdev",
            "driver=file,node-name=disk,aio=threads,locking=off,filename=%s%s"
            % (self.image, self._cache),
            "--export", "type=vhost-user-blk,id=export,node-name=disk,"
            "addr.type=fd,addr.str={fd},writable=on,num-queues=1"]

    def living(self):
        """The pid of a back-end that was not killed yet, once there is one and
        the next is ready."""
        def found():
            status = self.status()
            ready = status["backend_spare_pid"] or not self._standby
            pid = status["backend_pid"]
            return pid != self._killed and ready and pid
        return processes.wait_for(found, START_SECONDS, "a back-end")

    def kill(self):
        """Kills the back-end, when there is one that was not killed yet."""
        self._killed = self.living()
        done = killer.Kill(time.monotonic(), self._killed, victim="back-end")
        try:
            os.kill(self._killed, signal.SIGKILL)
        except ProcessLookupError as error:
            # A keeper that is killed while it speaks gives its back-end up.
            if self._keeper_killed:
                return self.kill()
            raise DiedByItself("nobody has killed back-end %d: %s" % (
                self._killed, self.log()[-2000:])) from error
        return done

    def kill_keeper(self):
        self._keeper_killed = True
        return super().kill()


class ProfiledStorageDaemon(WrappedStorageDaemon):
    """The same as people start it: by the profile, over the command line."""

    name = "holdfast run --profile=qemu-storage-daemon"
    program = "launcher/cli/holdfast-keeper"
    policy = "launcher/cli/policies/keeper.policy"
    profile = "qemu-storage-daemon"
    api = True
    # Whether lives may be lost as often as a test wants.
    unlimited = False

    def files(self):
        """What the launcher is to be allowed."""
        return [self.program, self.policy, self.backend]

    def start(self):
        self.daemon.start(self.files())
        self.daemon.wait_api()
        words = ["--profile=" + self.profile, "--name=" + self.instance,
                 "--socket-path=" + self.socket]
        if not self._standby:
            words.append("--no-standby")
        words += ["--", *self.command()]
        if self.unlimited:
            words = [self._write_spec(words)]
        self.daemon.command("run", *words)
        self.wait_whole()

    def _write_spec(self, words):
        """The same as a spec, with a word about restarts; its path."""
        path = os.path.join(self._directory.name, "spec.textproto")
        with open(path, "w", encoding="utf-8") as f:
            f.write(self.daemon.command("run", "--print", *words))
            f.write("restart { budget: 0 backoff_base_ms: 0 }\n")
        return path

    def command(self):
        # The socket is the profile's to name; where there is no standby the
        # lock stays.
        locking = "locking=" + ("off" if self._standby else "on")
        return [word.replace("addr.type=fd,addr.str={fd},", "")
                .replace("locking=off", locking) for word in super().command()]


class ProfiledDevice(ProfiledStorageDaemon):
    """Our own disk, stand-alone, as a back-end that knows nothing of us."""

    name = "holdfast run --profile=vhost-user"
    profile = "vhost-user"

    def __init__(self, image):
        super().__init__(image, standby=False)
        self.backend = os.path.realpath(
            parts.built("devices/virtio_blk/holdfast-virtio-blk"))

    def command(self):
        return [self.backend, "--image=" + self.image]


class PathDevice(ProfiledDevice):
    """The same, listening at a path."""

    name = "holdfast run --profile=vhost-user-path"
    profile = "vhost-user-path"


class _Restarted(OverVfioUser, StandaloneDevice):
    """What people have today: a vfio-user server, started again at once by
    whoever watches it. No VMM comes back to it."""

    def kill(self):
        done = super().kill()
        os.unlink(self.socket)
        self.start()
        return done


class RestartedDisk(_Restarted):

    name = "virtio-blk, restarted"

    def __init__(self, image):
        super().__init__(image, ["--protocol=vfio-user"])


class RestartedNvme(_Restarted):

    name = "NVMe server, restarted"
    guest_disk = NvmeDisk.guest_disk
    program = NvmeDisk.program
