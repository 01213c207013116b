"""The model of QEMU (devices/vfio_user/testing/qemu_model.h) sends what an
unmodified QEMU 11.1 sends: recorded here, compared with the same goldens."""

import json
import unittest

from tests.harness import device, parts, processes, wiretap

# Until QEMU has plugged the device in and reset the machine.
PATIENCE = 60
GOLDEN = "devices/vfio_user/golden/qemu_realize_%s.txt"


class HelloPci(device.StandaloneDevice):
    name = "hello_pci, alone"
    program = "examples/hello_pci/hello_pci"


class PciEdu(device.StandaloneDevice):
    name = "pci_edu, alone"
    program = "devices/pci_edu/holdfast-pci-edu"


def record(back_end, count):
    """The first `count` messages of a QEMU whose guest does not run."""
    with back_end, wiretap.Wiretap(back_end.socket) as tap:
        qemu = processes.start([
            parts.qemu("11.1"), "-S", "-display", "none", "-nodefaults",
            "-machine", "q35,memory-backend=memory", "-m", "64M",
            "-object", "memory-backend-memfd,id=memory,size=64M,share=on",
            "-device", json.dumps({
                "driver": "vfio-user-pci",
                "socket": {"type": "unix", "path": tap.socket}})])
        try:
            processes.wait_for(
                lambda: len(tap.lines) >= count or qemu.poll() is not None,
                PATIENCE, "QEMU's %d messages" % count)
        finally:
            processes.kill(qemu)
        return tap.lines[:count]


class QemuModel(unittest.TestCase):

    def _expect(self, back_end, name):
        with open(GOLDEN % name) as f:
            golden = f.read().splitlines()
        self.assertEqual(record(back_end, len(golden)), golden)

    def test_of_a_device_with_an_interrupt_line(self):
        self._expect(PciEdu(None), "intx")

    def test_of_a_device_with_message_vectors(self):
        self._expect(HelloPci(None), "msix")


if __name__ == "__main__":
    unittest.main()
