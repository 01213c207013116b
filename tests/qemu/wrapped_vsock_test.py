"""vhost-device-vsock, wrapped, in a stock guest on an unmodified QEMU: a
connection ends with the process, whoever connects again gets another one, and
neither the guest's kernel nor QEMU has anything to say."""

import os
import selectors
import socket
import tempfile
import threading
import unittest

from tests.harness import console, device, effort, initramfs, parts, vm

KILLS = effort.kills(suite=2, long=200)
PATIENCE = 60
PORT = 1234


class WrappedVsock(device.ProfiledStorageDaemon):

    name = "holdfast run --profile=vhost-device-vsock"
    profile = "vhost-device-vsock"
    qemu_device = "vhost-user-vsock-pci"
    unlimited = True

    def __init__(self):
        super().__init__(None, standby=False)
        self.backend = os.path.realpath(parts.vsock_device())
        self.host = os.path.join(self._directory.name, "host")

    def command(self):
        return [self.backend, "--guest-cid=3", "--uds-path=" + self.host]


class Echo:
    """The host's side of the guest's port: sends back what comes."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        self._listener.close()

    def _run(self):
        with selectors.DefaultSelector() as selector:
            for source in (self._listener, self._stop):
                selector.register(source, selectors.EVENT_READ)
            connections = []
            while True:
                for key, _ in selector.select():
                    if key.fileobj == self._stop:
                        for connection in connections:
                            connection.close()
                        return
                    if key.fileobj == self._listener:
                        connection, _ = self._listener.accept()
                        connections.append(connection)
                        selector.register(connection, selectors.EVENT_READ)
                    elif not self._answer(key.fileobj):
                        selector.unregister(key.fileobj)

    @staticmethod
    def _answer(connection):
        try:
            said = connection.recv(4096)
            connection.sendall(said)
        except OSError:
            return False
        return bool(said)


def boot(directory, back_end):
    kernel, tree = parts.kernel()
    guest = initramfs.build(
        os.path.join(directory, "vsock.cpio.gz"), tree,
        parts.built("tests/guest/vsock.sh"),
        [parts.built("tests/guest/vsock_talk")],
        modules=("virtio_pci", "vmw_vsock_virtio_transport"))
    qemu = parts.qemu(back_end.qemu_version)
    accel = vm.pick_accelerator(kernel, initramfs.hello(directory, tree), qemu)
    return vm.Vm(kernel, guest, qemu=qemu, accel=accel, shared_memory=True,
                 arguments=back_end.qemu_arguments())


class KilledVsock(unittest.TestCase):

    def expect(self, machine, text):
        self.assertTrue(machine.console.wait("^%s$" % text, PATIENCE),
                        "%s: %s" % (text, machine.console.lines()[-5:]))

    def test_who_talks_connects_again(self):
        with tempfile.TemporaryDirectory() as directory, \
                WrappedVsock() as back_end, \
                Echo("%s_%d" % (back_end.host, PORT)), \
                boot(directory, back_end) as machine:
            machine.wait_boot()
            for number in range(1, KILLS + 1):
                self.expect(machine, "VSOCK-HEARD %d" % number)
                back_end.kill()
                self.expect(machine, "VSOCK-OVER %d" % number)
            self.expect(machine, "VSOCK-HEARD %d" % (KILLS + 1))
            machine.send_line()
            self.expect(machine, "VMTEST-EXIT.*")
            machine.wait_exit(PATIENCE)
            self.assertEqual(machine.stderr(), "")
            verdict = console.Verdict(machine.console.lines())
        self.assertEqual(verdict.exit_status, 0)
        self.assertTrue(verdict.kernel_checked)
        self.assertEqual(verdict.kernel, [])
