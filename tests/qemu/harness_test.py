"""The acceptance scenario on Debian's qemu-storage-daemon: without kills it is
clean, and a disk that fails is always noticed. So a clean run of another
back-end means something."""

import tempfile
import unittest

from tests.harness import device, scenario


class Unwatched(device.QsdDevice):
    """Nobody starts it again after a kill, and QEMU does not reconnect."""

    def __init__(self, image):
        super().__init__(image)
        self.chardev_options = ""

    def kill(self):
        return device.kill_process(self._process)


class Forgetful(device.QsdDevice):
    """Comes back with the disk's first MiB of content gone."""

    def kill(self):
        done = device.kill_process(self._process)
        with open(self.image, "r+b") as f:
            f.seek(1 << 20)
            f.write(bytes(8 << 20))
        self.start()
        return done


class Scenario(unittest.TestCase):

    def run_on(self, factory, **settings):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(factory, scenario.Settings(**settings),
                                   directory)
        print(outcome.as_dict())
        return outcome

    def test_without_kills_everything_is_clean(self):
        for qemu in ("7.2", "11.1"):
            with self.subTest(qemu):
                outcome = self.run_on(
                    lambda image, v=qemu: device.QsdDevice(image, v),
                    kills=0, control=5, qemu=qemu)
                self.assertEqual(outcome.problems, [])
                self.assertEqual(outcome.accel, outcome.as_dict()[
                    "accelerator"])
                self.assertGreater(outcome.verdict.files["operations"], 10)

    def test_a_disk_that_never_comes_back_is_noticed(self):
        outcome = self.run_on(Unwatched, kills=1, control=1, lost=5)
        self.assertIn("the guest did not come to its end", outcome.problems)
        self.assertRegex("\n".join(outcome.problems), "BLK-LOST")

    def test_a_disk_that_loses_content_is_noticed(self):
        outcome = self.run_on(Forgetful, kills=1, control=2, ext4=False)
        self.assertFalse(outcome.clean)
        self.assertGreater(outcome.verdict.blocks["bad_blocks"], 0)
