"""The device program by itself, as a person runs it: libblkio drives it, VMMs
come and go, and what is wrong with the command line is said in one line."""

import json
import os
import subprocess
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts


class Standalone(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hfalone")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.image = os.path.join(self.directory, "disk.img")
        disk.Disk(self.image, raw_mib=16, ext4_mib=0)
        self.program = parts.built(device.StandaloneDevice.program)

    def serve(self, *options):
        back_end = device.StandaloneDevice(self.image, options)
        back_end.__enter__()
        self.addCleanup(back_end.__exit__)
        return back_end

    def log(self, back_end):
        with open(back_end.log_path, encoding="utf-8") as log:
            return log.read()

    def run_program(self, *arguments):
        return subprocess.run([self.program, *arguments], timeout=60,
                              capture_output=True, text=True, check=False)

    def expect_mistake(self, status, said, *arguments):
        done = self.run_program(*arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        for text in said:
            self.assertIn(text, done.stderr)

    def load(self, back_end, **flags):
        """A run of the client to its end."""
        parts.blkio_library()
        with blkio.Client(back_end.socket, seconds=1, span_mib=32,
                          **flags) as client:
            return client, client.finish(now=False)

    def test_serves_one_client_after_the_other(self):
        back_end = self.serve("--num-queues=2")
        self.assertIn("without recovery", self.log(back_end))
        for depth in (1, 32, 32):
            client, result = self.load(back_end, depth=depth)
            self.assertEqual(client.exit_status, 0, client.output)
            self.assertTrue(result["load"]["clean"])
            self.assertTrue(result["load"]["read_back"])
        # Nothing to complain about.
        self.assertNotIn("E holdfast", self.log(back_end))

    def test_a_client_that_is_killed_leaves_the_device_to_the_next(self):
        parts.blkio_library()
        back_end = self.serve()
        for _ in range(5):
            with blkio.Client(back_end.socket, depth=32) as client:
                client.wait_started()  # And dies by SIGKILL.
        client, result = self.load(back_end, depth=32)
        self.assertEqual(client.exit_status, 0, client.output)
        self.assertTrue(result["load"]["clean"])

    def test_a_device_that_dies_is_the_end(self):
        parts.blkio_library()
        back_end = self.serve()
        run = blkio.kill_run(back_end, 1, lambda: 0.2, lost_s=2)
        self.assertNotEqual(run.problems, [])

    def test_a_read_only_image_stays_as_it_is(self):
        os.chmod(self.image, 0o444)
        with open(self.image, "rb") as f:
            before = f.read()
        back_end = self.serve("--read-only")
        client, _ = self.load(back_end)
        self.assertNotEqual(client.exit_status, 0)
        with open(self.image, "rb") as f:
            self.assertEqual(f.read(), before)
        self.assertNotIn("E holdfast", self.log(back_end))

    def test_says_what_is_wrong(self):
        socket = "--socket-path=" + os.path.join(self.directory, "s")
        self.expect_mistake(
            1, ["--image=/no/such.img", "No such file or directory"], socket,
            "--image=/no/such.img")
        self.expect_mistake(1, ["no image: give --image=PATH"], socket)
        self.expect_mistake(2, ["--compat-version=9: this binary serves 1 to"],
                            socket, "--compat-version=9")
        self.expect_mistake(1, ["--fd=99: not a Unix stream socket"],
                            "--fd=99", "--image=" + self.image)

    def test_an_image_in_use_is_refused(self):
        self.serve()
        self.expect_mistake(
            1, ["--image=" + self.image, "is in use by pid "],
            "--socket-path=" + os.path.join(self.directory, "2"),
            "--image=" + self.image)

    def test_an_image_that_all_only_read_is_shared_with_a_launcher(self):
        self.serve("--read-only")
        with device.HoldfastDevice(self.image + ",ro") as launched:
            self.assertTrue(launched.status()["active_pid"])
            # Another one comes in beside them, but nobody who writes.
            self.serve("--read-only")
            self.expect_mistake(
                1, ["--image=" + self.image, "is in use by pid "],
                "--socket-path=" + os.path.join(self.directory, "2"),
                "--image=" + self.image)
            with self.assertRaisesRegex(RuntimeError, "is in use by pid"):
                launched.daemon.run(
                    "writer", launched.program, launched.socket + "2",
                    self.image, launched.policy)

    def test_an_image_that_a_launcher_writes_is_refused(self):
        with device.HoldfastDevice(self.image):
            for options in ([], ["--read-only"]):
                self.expect_mistake(
                    1, ["--image=" + self.image, "is in use by pid "],
                    "--socket-path=" + os.path.join(self.directory, "2"),
                    "--image=" + self.image, *options)

    def test_capabilities_are_qemus_json(self):
        done = self.run_program("--print-capabilities")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        capabilities = json.loads(done.stdout)
        # docs/interop/vhost-user.json: VHostUserBackendCapabilities, and the
        # features that it knows for block devices.
        self.assertEqual(capabilities["type"], "block")
        self.assertEqual(sorted(capabilities["features"]),
                         ["blk-file", "read-only"])
        self.assertEqual(set(capabilities) - {"holdfast"},
                         {"type", "features"})
