"""blkverify on the host, against a file: it must be content with a good disk and
notice each way in which a disk can be bad."""

import json
import os
import re
import subprocess
import tempfile
import unittest

from tests.harness import parts

BLOCK = 4096
MIB = 1 << 20
ZEROS = bytes(BLOCK)


class Run:
    """One run of blkverify that waits before its read-back, so that a test can
    change the disk."""

    def __init__(self, path, *arguments, seconds=1.0):
        self.path = path
        self.process = subprocess.Popen(
            [parts.built("tests/guest/blkverify"), "--device=" + path,
             "--span_mib=2", "--max_kib=64", "--seconds=%g" % seconds,
             "--nodirect", "--confirm_read_back", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def until(self, prefix):
        """Reads its lines up to one that starts with prefix."""
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith(prefix):
                return line.strip()
        raise AssertionError("no %s in %r" % (prefix, self.lines))

    def finish(self):
        """Lets it read back; returns the exit status and the result."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = json.loads(self.until("BLK-RESULT ").split(" ", 1)[1])
        return self.process.wait(), result


def block(path, number):
    with open(path, "rb") as f:
        f.seek(number * BLOCK)
        return f.read(BLOCK)


def put(path, number, data):
    with open(path, "r+b") as f:
        f.seek(number * BLOCK)
        f.write(data)


class BlkVerify(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.disk = os.path.join(directory.name, "disk")
        with open(self.disk, "wb") as f:
            f.truncate(2 * MIB)

    def damaged(self, damage):
        """The result of a run whose disk was damaged before the read-back."""
        with Run(self.disk) as run:
            run.until("BLK-CONFIRM")
            damage()
            status, result = run.finish()
            self.assertTrue(any(line.startswith("BLK-FINDING ")
                                for line in run.lines), run.lines)
        self.assertEqual(status, 1)
        self.assertFalse(result["clean"])
        return result

    def test_a_good_disk_is_clean(self):
        with Run(self.disk, "--max_kib=256") as run:
            run.until("BLK-CONFIRM")
            status, result = run.finish()
        self.assertEqual((status, result["clean"]), (0, True))
        self.assertGreater(result["operations"], 100)
        self.assertGreaterEqual(result["checked_blocks"], 2 * MIB // BLOCK)
        self.assertEqual(len([l for l in run.lines if re.match(
            r"SYNC \d+\.\d+$", l)]), 20)

    def test_notices_a_lost_first_write(self):
        result = self.damaged(lambda: put(self.disk, 7, ZEROS))
        self.assertEqual((result["bad_blocks"], result["empty"]), (1, 1))

    def test_notices_an_older_write(self):
        """A newer write is lost, or an older one was executed again."""
        with Run(self.disk, seconds=2) as run:
            run.until("BLK-PROGRESS")
            older = block(self.disk, 9)
            run.until("BLK-CONFIRM")
            self.assertNotEqual(block(self.disk, 9), older)
            put(self.disk, 9, older)
            status, result = run.finish()
        self.assertEqual(status, 1)
        # The copy may have caught a write half done.
        self.assertEqual(result["stale"] + result["torn"], 1)

    def test_notices_a_torn_write(self):
        result = self.damaged(lambda: put(
            self.disk, 11, block(self.disk, 11)[:512] +
            block(self.disk, 12)[512:]))
        self.assertEqual((result["bad_blocks"], result["torn"]), (1, 1))

    def test_notices_a_write_that_landed_twice(self):
        result = self.damaged(lambda: put(
            self.disk, 14, block(self.disk, 13)))
        self.assertEqual((result["bad_blocks"], result["misplaced"]), (1, 1))

    def test_notices_foreign_content(self):
        result = self.damaged(lambda: put(self.disk, 15, b"\xee" * BLOCK))
        self.assertEqual((result["bad_blocks"], result["foreign"]), (1, 1))

    def test_notices_content_of_an_earlier_run(self):
        with Run(self.disk, seconds=0.3) as run:
            run.until("BLK-CONFIRM")
            run.finish()
        old = block(self.disk, 16)
        result = self.damaged(lambda: put(self.disk, 16, old))
        self.assertEqual((result["bad_blocks"], result["foreign"]), (1, 1))

    def test_notices_a_device_that_became_shorter(self):
        result = self.damaged(lambda: os.truncate(self.disk, MIB))
        self.assertGreater(result["errors"], 0)

    def test_sigterm_ends_the_load_early(self):
        with Run(self.disk, seconds=600) as run:
            run.until("BLK-START")
            run.process.terminate()
            run.until("BLK-CONFIRM")
            self.assertEqual(run.finish()[0], 0)

    def test_says_what_it_cannot_open(self):
        done = subprocess.run(
            [parts.built("tests/guest/blkverify"), "--device=/no/such/disk"],
            check=False, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("/no/such/disk", done.stderr)


class FsLoad(unittest.TestCase):

    def start(self, directory, seconds):
        return subprocess.Popen(
            [parts.built("tests/guest/fsload"), "--directory=" + directory,
             "--files=8", "--seconds=%g" % seconds],
            stdout=subprocess.PIPE, text=True)

    def test_a_good_file_system_is_clean(self):
        with tempfile.TemporaryDirectory() as directory:
            process = self.start(directory, 0.5)
            output = process.communicate()[0]
        result = json.loads(output.split("FS-RESULT ")[1])
        self.assertEqual((process.returncode, result["clean"]), (0, True))
        self.assertGreater(result["checked_blocks"], 0)

    def test_notices_files_that_change(self):
        with tempfile.TemporaryDirectory() as directory:
            process = self.start(directory, 2)
            while process.poll() is None:
                for name in os.listdir(directory):
                    try:
                        put(os.path.join(directory, name), 0, ZEROS)
                    except FileNotFoundError:
                        pass
            output = process.communicate()[0]
        self.assertEqual(process.returncode, 1)
        self.assertRegex(output, "FS-FINDING read of file .* block 0 is empty")
