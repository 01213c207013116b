"""What happens to a disk while a stock guest uses it: it grows, it is full, it is
cut, it may not be written, somebody else wants it, its VMM goes and comes back.
Each is told to whoever can act on it; no process dies of it."""

import ctypes
import json
import os
import re
import socket
import subprocess
import tempfile
import unittest

from tests.harness import faults, holdfastd, parts, processes, shell

MIB = 1 << 20
PROGRAM = "devices/virtio_blk/holdfast-virtio-blk"
POLICY = "devices/virtio_blk/virtio_blk.policy"
# As PCI functions, which QEMU 11.1 serves.
PCI_POLICY = "devices/virtio_blk/virtio_blk_pci.policy"
NVME = "devices/pci_nvme/holdfast-pci-nvme"
NVME_POLICY = "devices/pci_nvme/pci_nvme.policy"
_CLONE_NEWNS = 0x20000


def setUpModule():
    # What is mounted here goes with the test, however it ends.
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run([parts.installed("mount"), "--make-rprivate", "/"],
                   check=True)


def sparse(path, mib):
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
    return path


class Holdfast:
    """One launcher with a disk for each test, and a guest that has them all."""

    def __init__(self):
        self._made = tempfile.TemporaryDirectory(prefix="hflive")
        self.directory = self._made.name
        self.run_directory = self.path("run")
        os.mkdir(self.run_directory)
        self._log = open(self.path("log"), "wb")
        self.daemon = holdfastd.Holdfastd(
            self.run_directory, [self.directory, "/dev"], self._log)
        self.daemon.start([PROGRAM, POLICY, PCI_POLICY, NVME, NVME_POLICY])
        self._arguments = []
        self.names = []
        self._mounted = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def close(self):
        self.daemon.stop()
        self._log.close()
        for path in self._mounted:
            subprocess.run([parts.installed("umount"), path], check=True)
        self._made.cleanup()

    def run(self, name, image, *options):
        self.daemon.run(name, PROGRAM, self.socket(name), image, POLICY,
                        options)

    def socket(self, name):
        return os.path.join(self.run_directory, name + ".sock")

    def add(self, name, image, *options):
        """A disk of the guest: vda, vdb, ... in this order."""
        self.run(name, image, *options)
        self.daemon.wait_whole(name)
        self.names.append(name)
        self._arguments += [
            "-chardev", "socket,id=%s,path=%s" % (name, self.socket(name)),
            "-device", "vhost-user-blk-pci,num-queues=1,chardev=" + name]

    def add_function(self, name, program, policy, image, *options):
        self.daemon.run(name, program, self.socket(name), image, policy,
                        options)
        self.daemon.wait_whole(name)
        self.names.append(name)
        self._arguments += ["-device", json.dumps({
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": self.socket(name)}})]

    def boot(self, **kwargs):
        return shell.Shell(self.directory, self._arguments, **kwargs)

    def tmpfs(self, name, mib):
        os.mkdir(self.path(name))
        subprocess.run([parts.installed("mount"), "-t", "tmpfs", "-o",
                        "size=%dm" % mib, "none", self.path(name)], check=True)
        self._mounted.append(self.path(name))
        return self.path(name)


class Live(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.holdfast = Holdfast()
        cls.addClassCleanup(cls.holdfast.close)
        add, path = cls.holdfast.add, cls.holdfast.path
        cls.grown = sparse(path("grown.img"), 8)
        add("grows", cls.grown)
        cls.tmpfs = cls.holdfast.tmpfs("small", 8)
        add("full", sparse(cls.tmpfs + "/full.img", 64))
        cls.cut = sparse(path("cut.img"), 8)
        add("cut", cls.cut)
        with open(path("fixed.img"), "wb") as f:
            f.write(b"written before\n".ljust(MIB, b"."))
        add("fixed", path("fixed.img") + ",ro", "--read-only")
        cls.no_loop = cls.add_loop()
        cls.guest = cls.holdfast.boot().__enter__()
        # QEMU has no words for any of this.
        cls.addClassCleanup(cls.end_guest)

    @classmethod
    def add_loop(cls):
        """A disk on a block device; why not if there is none."""
        losetup = parts.installed("losetup")
        image = sparse(cls.holdfast.path("loop.img"), 8)
        made = subprocess.run([losetup, "--find", "--show", image],
                              capture_output=True, text=True, check=False)
        if made.returncode:
            return made.stderr.strip()
        try:
            cls.holdfast.add("block", made.stdout.strip() + ",block")
        finally:
            # It lives as long as somebody has it open.
            subprocess.run([losetup, "--detach", made.stdout.strip()],
                           check=True)
        return ""

    @classmethod
    def end_guest(cls):
        silent = cls.guest.vm.stderr()
        cls.guest.__exit__()
        assert not silent, "QEMU says: " + silent

    def setUp(self):
        self.before = self.statuses()

    def tearDown(self):
        self.assertEqual(self.died(), [])

    def died(self):
        """The disks whose process is not that of before; none may be."""
        return [name for name, status in self.statuses().items()
                if any(status[key] != self.before[name][key]
                       for key in ("active_pid", "epoch"))]

    def statuses(self):
        return {name: self.holdfast.daemon.wait_whole(name)
                for name in self.holdfast.names}

    def sectors(self, disk):
        return int(self.guest.read("cat /sys/block/%s/size" % disk))

    def fails(self, line):
        status, words = self.guest.run(line)
        self.assertNotEqual(status, 0, line)
        return words

    def write(self, disk, mib, seek, count=1):
        return ("dd if=/dev/zero of=/dev/%s bs=%dk seek=%d count=%d "
                "oflag=direct" % (disk, mib * 1024, seek, count))

    def test_a_disk_that_grows(self):
        """Live feature: size change with config interrupt."""
        self.assertEqual(self.sectors("vda"), 8 * MIB // 512)
        self.fails(self.write("vda", 1, 15))
        os.truncate(self.grown, 16 * MIB)
        self.holdfast.daemon.ask("resize", "grows")
        processes.wait_for(lambda: self.sectors("vda") == 16 * MIB // 512, 30,
                           "the guest's word of the new size", 0.1)
        self.guest.read(self.write("vda", 1, 15))
        self.assertIn("vda", self.guest.read("dmesg | grep 'new size'"))

    def test_notices_a_disk_that_says_nothing_and_one_that_dies(self):
        """Control: what the other tests look at would not be overlooked."""
        # It has grown, and nobody says so.
        size = os.path.getsize(self.cut)
        os.truncate(self.cut, size + 8 * MIB)
        self.assertEqual(self.sectors("vdc"), size // 512)
        os.truncate(self.cut, size)
        # The guest is served as before: only the process is another.
        self.holdfast.daemon.kill_active("fixed")
        self.assertEqual(self.died(), ["fixed"])
        self.assertEqual(self.guest.read("head -n 1 /dev/vdd"),
                         "written before")
        self.before = self.statuses()

    def test_a_full_disk(self):
        """Bad input: a full disk."""
        with open(self.tmpfs + "/ballast", "wb") as f:
            f.write(bytes(6 * MIB))
        words = self.fails(self.write("vdb", 1, 0, count=4))
        self.assertIn("Input/output error", words)
        self.assertRegex(self.holdfast.daemon.log(),
                         "write failed, the guest gets an I/O error: .*"
                         "No space left on device")
        os.unlink(self.tmpfs + "/ballast")
        self.guest.read(self.write("vdb", 1, 0, count=4))

    def test_an_image_that_was_cut(self):
        """Bad input: an I/O error."""
        os.truncate(self.cut, 4 * MIB)
        words = self.fails("dd if=/dev/vdc of=/dev/null bs=1M skip=6 count=1")
        self.assertIn("Input/output error", words)
        self.assertRegex(self.holdfast.daemon.log(),
                         "read failed, the guest gets an I/O error: .*cut")
        os.truncate(self.cut, 8 * MIB)
        self.guest.read("dd if=/dev/vdc of=/dev/null bs=1M skip=6 count=1")

    def test_a_read_only_image(self):
        """Bad input: a read-only image."""
        self.assertEqual(self.guest.read("cat /sys/block/vdd/ro"), "1")
        self.assertEqual(self.guest.read("head -n 1 /dev/vdd"),
                         "written before")
        self.assertRegex(self.fails(self.write("vdd", 1, 0)),
                         "(?i)read-only|not permitted")

    def test_an_image_in_use(self):
        """Bad input: an image in use."""
        with self.assertRaisesRegex(
                RuntimeError, re.escape(self.cut) + " is in use by pid") as no:
            self.holdfast.run("thief", self.cut)
        named = re.search(r"pid ([\d, pid]+):", str(no.exception))[1]
        ours = faults.descendants(self.holdfast.daemon.pid)
        for pid in re.findall(r"\d+", named):
            self.assertIn(int(pid), ours)
        self.guest.read(self.write("vdc", 1, 0))

    def test_a_block_device(self):
        """Live feature: a block device as the image."""
        if self.no_loop:
            self.skipTest("no loop device here: " + self.no_loop)
        self.assertEqual(self.sectors("vde"), 8 * MIB // 512)
        self.guest.read("echo through the loop | dd of=/dev/vde "
                        "conv=sync,fsync oflag=direct")
        with open(self.holdfast.path("loop.img"), "rb") as f:
            self.assertTrue(f.read(16).startswith(b"through the loop"))

    def test_a_second_vmm_waits(self):
        """Bad input: a second VMM."""
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(self.holdfast.socket("grows"))
            # GET_FEATURES.
            second.send(bytes([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
            processes.wait_for(
                lambda: "a second VMM waits" in self.holdfast.daemon.log(), 30,
                "a word about it")
            self.guest.read(self.write("vda", 1, 0))
            second.setblocking(False)
            with self.assertRaises(BlockingIOError):
                second.recv(1)


class OverVfioUser(unittest.TestCase):

    def test_disks_that_grow_and_shrink(self):
        """Live feature: size change of an NVMe namespace and of a PCI disk,
        while their processes die."""
        holdfast = Holdfast()
        self.addCleanup(holdfast.close)
        images = {"nvme0n1": sparse(holdfast.path("nvme.img"), 8),
                  "vda": sparse(holdfast.path("blk.img"), 8)}
        names = {"nvme0n1": "namespace", "vda": "disk"}
        holdfast.add_function("namespace", NVME, NVME_POLICY,
                              images["nvme0n1"])
        holdfast.add_function("disk", PROGRAM, PCI_POLICY, images["vda"],
                              "--protocol=vfio-user")
        with holdfast.boot(qemu=parts.qemu("11.1"),
                           modules=("virtio_pci", "virtio_blk",
                                    "nvme")) as guest:

            def expect(disk, mib):
                processes.wait_for(
                    lambda: int(guest.read("cat /sys/block/%s/size" % disk)) ==
                    mib * MIB // 512, 30, "the new size of " + disk, 0.1)

            for disk in images:
                expect(disk, 8)
            for mib, dies in ((16, False), (24, True), (4, False), (12, True)):
                for disk, image in images.items():
                    os.truncate(image, mib * MIB)
                    holdfast.daemon.ask("resize", names[disk])
                    if dies:
                        holdfast.daemon.kill_active(names[disk])
                for disk in images:
                    expect(disk, mib)
                    guest.read("dd if=/dev/zero of=/dev/%s bs=1M seek=%d "
                               "count=1 oflag=direct" % (disk, mib - 1))
            self.assertNotRegex(guest.read("dmesg"),
                                "(?i)i/o error|timeout|reset")
            self.assertEqual(guest.vm.stderr(), "")


class Comings(unittest.TestCase):
    """Disks whose VMMs come and go."""

    def setUp(self):
        self.holdfast = Holdfast()
        self.addCleanup(self.holdfast.close)

    def test_a_vmm_that_closes_and_comes_back(self):
        """Bad input: a VMM that closes and comes back."""
        self.holdfast.add("disk", sparse(self.holdfast.path("d.img"), 8))
        before = self.holdfast.daemon.status("disk")
        with self.holdfast.boot() as guest:
            guest.read("echo from the first guest | dd of=/dev/vda conv=sync "
                       "oflag=direct")
            # It goes without a word.
        with self.holdfast.boot() as guest:
            self.assertEqual(guest.read("head -n 1 /dev/vda"),
                             "from the first guest")
            self.assertEqual(guest.vm.stderr(), "")
        after = self.holdfast.daemon.status("disk")
        self.assertEqual(after["active_pid"], before["active_pid"])
        self.assertEqual(after["epoch"], before["epoch"])
