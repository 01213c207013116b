"""An entropy device that knows nothing of a launcher, behind a keeper, in a
stock guest on an unmodified QEMU 11.1, which aborts when such a back-end comes
back: killed again and again while the guest reads."""

import os
import signal
import socket
import tempfile
import unittest

from tests.harness import device, effort, parts, processes
from tests.qemu import hello_test

KILLS = effort.kills(suite=30, long=1000)
# Seconds that the guest may take for 256 checks before it is said to hang.
PATIENCE = 60
PROGRAM = "devices/virtio_rng/holdfast-virtio-rng"


class WrappedRng(device.ProfiledDevice):
    """Stand-alone, as a back-end that knows nothing of us."""

    qemu_device = "vhost-user-rng-pci"
    qemu_version = "11.1"
    unlimited = True

    def __init__(self):
        super().__init__(None)
        self.backend = os.path.realpath(parts.built(PROGRAM))

    def command(self):
        return [self.backend]


class ReturningRng(device.Device):
    """What people have today: the program, started again at once by whoever
    watches it, and connected to QEMU again."""

    name = "holdfast-virtio-rng, restarted"
    qemu_device = WrappedRng.qemu_device
    qemu_version = WrappedRng.qemu_version
    chardev_options = "server=on,wait=on"
    process = None

    def start(self):
        """QEMU is to be there first: see connect."""

    def connect(self):
        """A new process of it, at QEMU's socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            processes.wait_for(lambda: self._connected(end), PATIENCE, "QEMU")
            self.process = processes.start(
                [parts.built(PROGRAM), "--fd=%d" % end.fileno()],
                pass_fds=[end.fileno()], stdout=self._log, stderr=self._log)

    def _connected(self, end):
        return end.connect_ex(self.socket) == 0

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connect()

    def stop(self):
        processes.kill(self.process)


class WrappedEntropy(unittest.TestCase):

    def test_nobody_notices(self):
        back_end = WrappedRng()
        problems, checked = hello_test.run(back_end, "random", KILLS)
        self.assertEqual(problems, [])
        print("%d kills, %d times 64 bytes: none twice, QEMU and the guest's "
              "kernel silent" % (KILLS, checked))

    def test_qemu_dies_when_the_back_end_comes_back(self):
        with tempfile.TemporaryDirectory() as directory, ReturningRng(
                None) as back_end, hello_test.boot(
                    directory, back_end, "random") as machine:
            back_end.connect()
            machine.wait_boot()
            self.assertTrue(hello_test.reads_on(machine, PATIENCE, 1))
            back_end.kill()
            self.assertEqual(machine.wait_exit(PATIENCE), -signal.SIGABRT)
            self.assertIn("Assertion", machine.stderr())
