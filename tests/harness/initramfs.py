"""Builds an initramfs out of Debian's static busybox, kernel modules, the
project's static programs and shell scripts."""

import gzip
import lzma
import os
import stat
import subprocess

from tests.harness import parts

DISK_MODULES = ("virtio_pci", "virtio_blk")


class Archive:
    """A cpio archive in the "newc" format, as the kernel wants it."""

    def __init__(self):
        self._chunks = []
        self._inode = 0

    def _add(self, name, mode, data=b"", device=(0, 0)):
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device,
                  len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % f for f in fields)
        for chunk in (header + encoded, data):
            self._chunks.append(chunk + bytes(-len(chunk) % 4))

    def directory(self, name):
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        self._add(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def bytes(self):
        self._add("TRAILER!!!", 0)
        return b"".join(self._chunks)


def module_files(tree, names):
    """The .ko files of modules and of what they need, in loading order.

    Modules that are built into the kernel have none.
    """
    version = os.listdir(os.path.join(tree, "lib/modules"))[0]
    files = []
    for name in names:
        shown = subprocess.run(
            [parts.installed("modprobe"), "-d", tree, "-S", version,
             "--show-depends", name],
            check=True, stdout=subprocess.PIPE, text=True).stdout
        for line in shown.splitlines():
            action, _, path = line.partition(" ")
            if action == "insmod" and path.strip() not in files:
                files.append(path.strip())
    return files


def _unpacked_module(path):
    with open(path, "rb") as f:
        data = f.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    return data


def _read(path):
    with open(path, "rb") as f:
        return f.read()


def build(out, tree, script, programs=(), modules=DISK_MODULES):
    """Writes an initramfs.

    out: the file. tree: of the kernel's modules. script: becomes /run.sh.
    programs: static ones, put into /bin under their own names.
    """
    archive = Archive()
    for name in ("bin", "dev", "lib", "lib/modules", "mnt", "proc", "run",
                 "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin"):
        archive.directory(name)
    # The kernel opens it before devtmpfs is mounted.
    archive.device("dev/console", 5, 1)
    busybox = parts.installed("busybox")
    archive.file("bin/busybox", _read(busybox))
    applets = subprocess.run([busybox, "--list-full"], check=True,
                             stdout=subprocess.PIPE, text=True).stdout.split()
    for applet in applets:
        if applet != "bin/busybox":
            archive.symlink(applet, "/bin/busybox")
    order = []
    for path in module_files(tree, modules):
        name = os.path.basename(path).split(".ko")[0] + ".ko"
        archive.file("lib/modules/" + name, _unpacked_module(path), 0o644)
        order.append(name + "\n")
    archive.file("lib/modules/order", "".join(order).encode(), 0o644)
    for program in programs:
        archive.file("bin/" + os.path.basename(program), _read(program))
    archive.file("init", _read(parts.built("tests/guest/init.sh")))
    archive.file("run.sh", _read(script))
    with gzip.open(out, "wb", compresslevel=1) as f:
        f.write(archive.bytes())
    return out


def hello(directory, tree):
    """The guest that only boots."""
    return build(os.path.join(directory, "hello.cpio.gz"), tree,
                 parts.built("tests/guest/hello.sh"))


def disk(directory, tree):
    """The guest that loads a disk."""
    return build(os.path.join(directory, "disk.cpio.gz"), tree,
                 parts.built("tests/guest/disk.sh"),
                 [parts.built("tests/guest/blkverify"),
                  parts.built("tests/guest/fsload")])
