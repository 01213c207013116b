"""Back-ends that `holdfast run --profile` has wrapped, as people start them:
killed under libblkio's strict eyes, which never see a disconnect."""

import random
import tempfile
import unittest

from tests.harness import blkio, device, disk, parts

KILLS = 10


class WrappedByAProfile(unittest.TestCase):

    def kill(self, make, **options):
        parts.blkio_library()
        source = random.Random(KILLS)
        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with make(image, **options) as back_end:
                run = blkio.kill_run(
                    back_end, KILLS, lambda: source.uniform(0, 0.02), depth=32,
                    flushes_in_256=2)
                status, log = back_end.status(), back_end.log()
        self.assertEqual(run.problems, [], log[-3000:])
        self.assertEqual(len(run.kills), KILLS)
        self.assertGreaterEqual(status["backend_lives"], KILLS)
        load = run.result["load"]
        self.assertTrue(load["clean"] and load["read_back"])
        print("%s %s: %d kills, %d requests" % (
            make.name, options, KILLS, load["operations"]))

    def test_a_storage_daemon_with_a_standby(self):
        self.kill(device.ProfiledStorageDaemon)

    def test_a_storage_daemon_that_locks_its_image(self):
        self.kill(device.ProfiledStorageDaemon, standby=False)

    def test_a_program_with_a_descriptor_for_an_option(self):
        self.kill(device.ProfiledDevice)

    def test_what_the_launcher_refuses_is_said(self):
        class Elsewhere(device.ProfiledStorageDaemon):
            """A program of a directory that holdfastd was not given."""

            def command(self):
                return ["/bin/true", "{fd}"]

        with tempfile.TemporaryDirectory(prefix="hfprof") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=1, ext4_mib=0)
            back_end = Elsewhere(image)
            # Debian's are beside it.
            back_end.backend = back_end.program
            with self.assertRaisesRegex(
                    RuntimeError, r"backend.binary: .*--allow-binary-dir"):
                with back_end:
                    pass
