"""Where the parts of a guest are: built ones, fetched ones, Debian's.

A part is named by an environment variable (what tools/fetch-guest --print-env
prints), else looked up where fetch-guest puts it. A missing part skips a test
with the reason, or fails it where VM_REQUIRED=1 (in CI).
"""

import glob
import os
import shutil
import unittest


class Missing(unittest.SkipTest):
    """A part is not there, and nobody insists on it."""


def cache():
    """The directory that tools/fetch-guest fills."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("HOLDFAST_CACHE") or os.path.join(home, "holdfast")


def _missing(what, remedy):
    message = "%s is missing: %s" % (what, remedy)
    if os.environ.get("VM_REQUIRED") == "1":
        raise FileNotFoundError(message)
    raise Missing(message)


def fetched(variable, path, part):
    """A file of tools/fetch-guest."""
    found = os.environ.get(variable) or os.path.join(cache(), path)
    if not os.path.exists(found):
        _missing(found, "run tools/fetch-guest " + part)
    return found


def kernel(version="6.1"):
    """The kernel of the guest (ELF) and the tree of its modules."""
    suffix = "" if version == "6.1" else "_" + version.replace(".", "")
    part = "kernel" if version == "6.1" else "kernel-" + version
    return (fetched("VM_KERNEL" + suffix, "kernel-%s/vmlinux" % version, part),
            fetched("VM_TREE" + suffix, "kernel-%s/tree" % version, part))


def kernel_image(tree):
    """The same kernel as Debian ships it: firmware starts it as a program."""
    images = glob.glob(os.path.join(tree, "boot/vmlinuz-*"))
    return images[0] if images else _missing(
        tree + "/boot/vmlinuz-*", "run tools/fetch-guest kernel")


def firmware():
    """UEFI firmware: its code, and its variables as they are at first."""
    files = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
    for name in files:
        if not os.path.exists(name):
            _missing(name, "run tools/setup")
    return files


def blkio_library():
    return fetched("BLKIO_LIBRARY", "libblkio/libblkio.so.1", "libblkio")


def installed(program):
    """A program of Debian, by its path."""
    # A test's PATH may lack the directories of the administrator's programs.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    if not found:
        _missing(program, "run tools/setup")
    return found


def qemu(version="7.2"):
    """QEMU of Debian 12 (7.2) or the fetched one (11.1)."""
    if version == "7.2":
        return installed("qemu-system-x86_64")
    return fetched("QEMU_111", "qemu-11.1/bin/qemu-system-x86_64", "qemu")


def storage_daemon(version="7.2"):
    if version == "7.2":
        return installed("qemu-storage-daemon")
    if version == "10.0":
        return fetched("QSD_100", "qsd-10.0/usr/bin/qemu-storage-daemon", "qsd")
    return fetched("QSD_111", "qemu-11.1/bin/qemu-storage-daemon", "qemu")


def testpmd():
    """dpdk-testpmd, which is a network's back-end and a front-end."""
    return fetched("TESTPMD", "dpdk-22.11/bin/dpdk-testpmd", "dpdk")


def vsock_device():
    return fetched("VSOCK_DEVICE", "vsock-0.3/usr/bin/vhost-device-vsock",
                   "vsock")


def built(label_path):
    """A program that Bazel built, in a test or beside the tree.

    label_path: "tests/guest/blkverify".
    """
    for root in (os.environ.get("HOLDFAST_BIN"), os.getcwd(),
                 os.path.join(os.getcwd(), "bazel-bin")):
        if root and os.access(os.path.join(root, label_path), os.R_OK):
            return os.path.abspath(os.path.join(root, label_path))
    raise FileNotFoundError(
        "%s is not built: bazel build -c opt //%s" %
        (label_path, ":".join(label_path.rsplit("/", 1))))
