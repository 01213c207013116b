"""A guest that does what it is told, a line at a time."""

import os
import re

from tests.harness import initramfs, parts, vm

PATIENCE = 60


class Shell:
    """Boots a guest with the given devices.

        with Shell(directory, arguments) as guest:
            status, words = guest.run("cat /sys/block/vda/size")
    """

    def __init__(self, directory, arguments, modules=initramfs.DISK_MODULES,
                 **kwargs):
        kernel, tree = parts.kernel()
        archive = initramfs.build(
            os.path.join(directory, "shell.cpio.gz"), tree,
            parts.built("tests/guest/shell.sh"), modules=modules)
        accel = vm.pick_accelerator(
            kernel, initramfs.hello(directory, tree), kwargs.get("qemu"))
        self.vm = vm.Vm(kernel, archive, accel=accel, shared_memory=True,
                        arguments=arguments, **kwargs)

    def __enter__(self):
        self.vm.start()
        try:
            self.vm.wait_boot()
            if not self.vm.console.wait("^SHELL-READY", PATIENCE):
                raise RuntimeError("the guest's shell did not start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.vm.__exit__()

    def run(self, line, patience=PATIENCE):
        """Executes a line; returns its status and what it printed."""
        start = len(self.vm.console.lines())
        self.vm.send_line(line)
        done = self.vm.console.wait(r"^SHELL-DONE \d+$", patience, start)
        if not done:
            raise TimeoutError("the guest does not come to the end of: " + line)
        words = []
        for _, text in self.vm.console.lines()[start:]:
            match = re.match(r"SHELL-DONE (\d+)$", text)
            if match:
                return int(match[1]), "\n".join(words)
            words.append(text)
        raise AssertionError("unreachable")

    def read(self, line):
        """What a line prints; it must succeed."""
        status, words = self.run(line)
        if status:
            raise AssertionError("%s: status %d: %s" % (line, status, words))
        return words
