"""The model of QEMU (devices/vfio_user/testing/qemu_model.h) sends what an
unmodified QEMU 11.1 sends: recorded here, compared with the same goldens."""

import contextlib
import json
import os
import socket
import tempfile
import unittest

from tests.harness import device, parts, processes, wiretap

# Until QEMU has plugged the device in and reset the machine.
PATIENCE = 60
GOLDEN = "devices/vfio_user/golden/qemu_%s.txt"
TABLE = 0xfe001000  # Of vectors, where this test places it.


class HelloPci(device.StandaloneDevice):
    name = "hello_pci, alone"
    program = "examples/hello_pci/hello_pci"


class PciEdu(device.StandaloneDevice):
    name = "pci_edu, alone"
    program = "devices/pci_edu/holdfast-pci-edu"


@contextlib.contextmanager
def tapped_qemu(back_end, *arguments):
    """What a QEMU with the device sends, line by line."""
    with back_end, wiretap.Wiretap(back_end.socket) as tap:
        qemu = processes.start([
            parts.qemu("11.1"), *arguments, "-display", "none", "-nodefaults",
            "-machine", "q35,memory-backend=memory", "-m", "64M",
            "-object", "memory-backend-memfd,id=memory,size=64M,share=on",
            "-device", json.dumps({
                "driver": "vfio-user-pci",
                "socket": {"type": "unix", "path": tap.socket}})])

        def lines(count):
            processes.wait_for(
                lambda: len(tap.lines) >= count or qemu.poll() is not None,
                PATIENCE, "QEMU's %d messages" % count)
            return tap.lines[:count]
        try:
            yield lines
        finally:
            processes.kill(qemu)


def golden(name):
    with open(GOLDEN % name) as f:
        return f.read().splitlines()


class Qtest:
    """A guest whose processor is this test (-accel qtest)."""

    # Where the only device that is plugged in is: slot 1 of bus 0.
    FUNCTION = 0x80000800

    def __init__(self, listener):
        end, _ = listener.accept()
        self._stream = end.makefile("rw")
        end.close()

    def close(self):
        self._stream.close()

    def command(self, *words):
        self._stream.write(" ".join(map(str, words)) + "\n")
        self._stream.flush()
        answer = self._stream.readline()
        if not answer.startswith("OK"):
            raise AssertionError("%s: %s" % (words, answer))

    def config(self, offset, value, size):
        self.command("outl", 0xcf8, self.FUNCTION | offset & ~3)
        self.command("out" + " bw l"[size], 0xcfc + (offset & 3), value)


class QemuModel(unittest.TestCase):

    def _expect(self, back_end, name):
        want = golden("realize_" + name)
        with tapped_qemu(back_end, "-S") as lines:
            self.assertEqual(lines(len(want)), want)

    def test_of_a_device_with_an_interrupt_line(self):
        self._expect(PciEdu(None), "intx")

    def test_of_a_device_with_message_vectors(self):
        self._expect(HelloPci(None), "msix")

    def test_of_its_firmware(self):
        want = golden("realize_msix") + golden("firmware_msix")
        with tapped_qemu(HelloPci(None)) as lines:
            self.assertEqual(lines(len(want)), want)

    def test_of_vectors(self):
        before = len(golden("realize_msix")) + 3
        want = golden("vectors_msix")
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="hfq"))
            path = os.path.join(directory, "qtest")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(1)
            lines = stack.enter_context(tapped_qemu(
                HelloPci(None), "-accel", "qtest",
                "-qtest", "unix:" + path, "-qtest-log", "none"))
            lines(before - 3)
            guest = stack.enter_context(contextlib.closing(Qtest(listener)))
            guest.config(0x10, 0xfe000000, 4)
            guest.config(0x24, TABLE, 4)
            guest.config(0x04, 0x6, 2)
            guest.config(0x62, 0xc000, 2)
            guest.command("writel", TABLE, 0xfee00000)
            guest.command("writel", TABLE + 8, 0x41)
            guest.command("writel", TABLE + 12, 0)
            guest.config(0x62, 0x8000, 2)
            guest.command("writel", TABLE + 12, 1)
            guest.command("writel", TABLE + 12, 0)
            guest.config(0x62, 0, 2)
            self.assertEqual(lines(before + len(want))[before:], want)


if __name__ == "__main__":
    unittest.main()
