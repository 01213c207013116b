"""The guest boots on every QEMU and kernel that the project promises."""

import tempfile
import unittest

from tests.harness import initramfs, parts, processes, vm


class Boot(unittest.TestCase):

    def boot(self, qemu_version, kernel_version):
        kernel, tree = parts.kernel(kernel_version)
        qemu = parts.qemu(qemu_version)
        with tempfile.TemporaryDirectory() as directory:
            guest = initramfs.hello(directory, tree)
            accel = vm.pick_accelerator(kernel, guest, qemu)
            with vm.Vm(kernel, guest, qemu=qemu, accel=accel) as machine:
                machine.wait_boot()
                exited = machine.console.wait(r"^VMTEST-EXIT (\d+)", 60)
                self.assertIsNotNone(exited, machine.console.lines())
                self.assertEqual(exited[1][1], "0")
                self.assertEqual(machine.wait_exit(60), 0)
                self.assertEqual(machine.stderr(), "")
                self.assertEqual(
                    machine.console.matching("INSMOD-FAILED"), [])

    def test_qemu_of_debian_12(self):
        self.boot("7.2", "6.1")

    def test_qemu_11(self):
        self.boot("11.1", "6.1")

    def test_qemu_of_debian_12_with_a_newer_kernel(self):
        self.boot("7.2", "6.12")

    def test_qemu_11_with_a_newer_kernel(self):
        self.boot("11.1", "6.12")

    def test_a_guest_that_does_not_boot_is_told_with_the_reason(self):
        kernel, tree = parts.kernel()
        with tempfile.TemporaryDirectory() as directory:
            guest = initramfs.hello(directory, tree)
            with vm.Vm(kernel, guest, arguments=["-device", "no-such"]) as m:
                with self.assertRaisesRegex(RuntimeError, "no-such"):
                    m.wait_boot()


class Monitor(unittest.TestCase):

    def test_tells_whether_the_guest_runs(self):
        kernel, tree = parts.kernel()
        with tempfile.TemporaryDirectory() as directory:
            guest = initramfs.hello(directory, tree)
            with vm.Vm(kernel, guest, arguments=["-S"]) as machine:
                processes.wait_for(machine.monitor_ready, 30, "QEMU's monitor")
                self.assertEqual(machine.status(), "prelaunch")
