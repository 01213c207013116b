"""What is missing skips a test, or fails it where it is required."""

import os
import tempfile
import unittest
from unittest import mock

from tests.harness import parts


class Fetched(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.cache = directory.name
        environment = {"HOLDFAST_CACHE": self.cache, "HOME": self.cache}
        patch = mock.patch.dict(os.environ, environment, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

    def make(self, *names):
        for name in names:
            path = os.path.join(self.cache, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()

    def test_missing_skips_with_the_remedy(self):
        with self.assertRaisesRegex(unittest.SkipTest,
                                    "tools/fetch-guest kernel"):
            parts.kernel()
        with self.assertRaisesRegex(unittest.SkipTest, "tools/setup"):
            parts.installed("no-such-program")

    def test_missing_fails_where_it_is_required(self):
        os.environ["VM_REQUIRED"] = "1"
        for part in (parts.kernel, parts.blkio_library,
                     lambda: parts.qemu("11.1"),
                     lambda: parts.installed("no-such-program")):
            with self.assertRaises(FileNotFoundError):
                part()

    def test_is_found_in_the_cache(self):
        self.make("kernel-6.1/vmlinux", "kernel-6.1/tree/x")
        self.assertEqual(parts.kernel(), (
            self.cache + "/kernel-6.1/vmlinux", self.cache + "/kernel-6.1/tree"
        ))

    def test_a_kernel_is_there_in_both_forms(self):
        self.make("kernel-6.1/vmlinux", "kernel-6.1/tree/boot/vmlinuz-6.1.0")
        self.assertEqual(
            parts.kernel_image(parts.kernel()[1]),
            self.cache + "/kernel-6.1/tree/boot/vmlinuz-6.1.0")
        with self.assertRaisesRegex(unittest.SkipTest, "vmlinuz"):
            parts.kernel_image(self.cache)

    def test_the_environment_goes_before_the_cache(self):
        self.make("kernel-6.1/tree/x", "mine")
        os.environ["VM_KERNEL"] = self.cache + "/mine"
        self.assertEqual(parts.kernel()[0], self.cache + "/mine")

    def test_another_kernel_has_another_name(self):
        with self.assertRaisesRegex(unittest.SkipTest,
                                    "tools/fetch-guest kernel-6.12"):
            parts.kernel("6.12")

    def test_the_cache_lies_where_fetch_guest_puts_it(self):
        os.environ.pop("HOLDFAST_CACHE")
        self.assertEqual(parts.cache(), self.cache + "/.cache/holdfast")
        os.environ["XDG_CACHE_HOME"] = "/x"
        self.assertEqual(parts.cache(), "/x/holdfast")
