"""An unmodified qemu-storage-daemon behind a keeper, a stock guest, and an
unmodified QEMU without `reconnect`: its processes are killed again and again,
and neither guest nor QEMU notices anything."""

import tempfile
import unittest

from tests.harness import device, effort, scenario

KILLS = effort.kills(suite=200, long=1000)
# Seconds between two kills, on average.
PERIOD = 0.1


class KilledStorageDaemon(unittest.TestCase):

    def run_on(self, version):
        with tempfile.TemporaryDirectory() as directory:
            outcome = scenario.run(
                lambda image: device.WrappedStorageDaemon(
                    image, version, direct=True),
                scenario.Settings(kills=KILLS, period=PERIOD, qemu=version),
                directory)
        print(outcome.as_dict())
        scenario.expect_unnoticed(self, outcome, KILLS)

    def test_debian_12(self):
        self.run_on("7.2")

    def test_qemu_11(self):
        self.run_on("11.1")
