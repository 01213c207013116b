"""tools/fetch-guest: the parts that need no network."""

import gzip
import importlib.util
import os
import struct
import subprocess
import tempfile
import unittest

FETCH = os.path.abspath("tools/fetch-guest")


def load_extractor():
    spec = importlib.util.spec_from_file_location(
        "extract_vmlinux", "tools/fetch/extract_vmlinux.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


extract = load_extractor()
ELF = b"\x7fELF" + bytes(range(256)) * 20


def bzimage(payload, setup_sectors=4, offset=64):
    """A file with the boot protocol's header and this payload."""
    start = (setup_sectors + 1) * 512
    image = bytearray(start + offset)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, offset, len(payload))
    return bytes(image) + payload


def compress(*command):
    data = subprocess.run(command, input=ELF, stdout=subprocess.PIPE,
                          check=True).stdout
    return data + struct.pack("<I", len(ELF))


class ExtractVmlinux(unittest.TestCase):

    def test_finds_the_elf_in_every_compression(self):
        payloads = {
            "gzip": gzip.compress(ELF) + b"\0\0\0\1",
            "xz": compress("xz", "--check=crc32", "-c"),
            "zstd": compress("zstd", "-qc"),
            "lz4": compress("lz4", "-lqc"),
        }
        for name, payload in payloads.items():
            with self.subTest(name):
                image = bzimage(payload) + b"trailing signature"
                self.assertEqual(
                    extract.decompress(extract.payload(image)), ELF)

    def test_zero_setup_sectors_mean_four(self):
        image = bytearray(bzimage(gzip.compress(ELF)))
        image[0x1F1] = 0
        self.assertEqual(extract.decompress(extract.payload(image)), ELF)

    def test_refuses_what_is_no_bzimage(self):
        with self.assertRaisesRegex(extract.BadImage, "no boot protocol"):
            extract.payload(bytes(4096))

    def test_refuses_a_payload_outside_the_file(self):
        with self.assertRaisesRegex(extract.BadImage, "outside the file"):
            extract.payload(bzimage(gzip.compress(ELF))[:-1])

    def test_refuses_a_payload_that_is_no_elf(self):
        with self.assertRaisesRegex(extract.BadImage, "did not yield"):
            extract.decompress(gzip.compress(b"hello"))
        with self.assertRaisesRegex(extract.BadImage, "unknown compression"):
            extract.decompress(b"hello")


class FetchGuest(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.cache = os.path.join(directory.name, "cache")

    def fetch(self, *arguments, **extra):
        env = dict(os.environ, HOLDFAST_CACHE=self.cache, **extra)
        return subprocess.run([FETCH, *arguments], check=False, env=env,
                              stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_prints_only_what_exists(self):
        self.assertEqual(self.fetch("--print-env").stdout, "")
        os.makedirs(self.cache + "/kernel-6.1/tree")
        open(self.cache + "/kernel-6.1/vmlinux", "w").close()
        self.assertEqual(
            self.fetch("--print-env").stdout.splitlines(),
            ["VM_KERNEL=%s/kernel-6.1/vmlinux" % self.cache,
             "VM_TREE=%s/kernel-6.1/tree" % self.cache])

    def test_keeps_what_is_there_without_asking_apt(self):
        for part in ("kernel-6.1", "kernel-6.12", "qemu-11.1", "libblkio",
                     "qsd-10.0", "dpdk-22.11", "vsock-0.3"):
            os.makedirs(os.path.join(self.cache, part))
        result = self.fetch(HOLDFAST_MIRROR="file:/nowhere")
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_names_what_failed_and_leaves_nothing_half_done(self):
        result = self.fetch("libblkio", HOLDFAST_MIRROR="file:/nowhere")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("could not fetch libblkio (Debian trixie)",
                      result.stderr)
        self.assertEqual(os.listdir(self.cache), [".lock"])

    def test_refuses_an_unknown_part(self):
        result = self.fetch("kernel-9.9")
        self.assertEqual(result.returncode, 1)
        self.assertIn("kernel-9.9", result.stderr)
