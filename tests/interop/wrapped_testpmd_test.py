"""dpdk-testpmd as a network's back-end, wrapped, and DPDK's own virtio-user as
the front-end, which does not reconnect: packets go on after each kill, and the
link never goes down."""

import os
import re
import subprocess
import tempfile
import unittest

from tests.harness import device, effort, parts, processes

KILLS = effort.kills(suite=2, long=100)
PATIENCE = 60
# Of both: small, without huge pages, and without a file that they would share.
SMALL = ["-l", "0,1", "--no-huge", "-m", "128", "--no-pci", "--no-shconf",
         "--no-telemetry"]
FORWARD = ["--total-num-mbufs=4096", "--stats-period=1"]


class WrappedTestpmd(device.ProfiledStorageDaemon):
    """A port that takes whatever comes."""

    name = "holdfast run --profile=dpdk-testpmd"
    profile = "dpdk-testpmd"
    unlimited = True

    def __init__(self):
        super().__init__(None)
        self.backend = os.path.realpath(parts.testpmd())

    def command(self):
        return [self.backend, *SMALL, "--file-prefix=hfback",
                "--vdev=net_vhost0", "--", "--forward-mode=rxonly", *FORWARD]


class Sender:
    """virtio-user: sends as fast as it goes."""

    def __init__(self, path, log):
        self._log = open(log, "w+b")
        self._process = processes.start(
            [parts.testpmd(), *SMALL, "--file-prefix=hffront",
             "--vdev=net_virtio_user0,path=%s,queues=1" % path, "--",
             "--forward-mode=txonly", *FORWARD],
            stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        processes.kill(self._process)
        self._log.close()

    def said(self):
        with open(self._log.name, "rb") as f:
            return f.read().decode("utf8", "replace")

    def sent(self):
        """Packets, as it says once a second."""
        if self._process.poll() is not None:
            raise RuntimeError("it has ended: " + self.said()[-2000:])
        counts = re.findall(r"TX-packets: (\d+)", self.said())
        return int(counts[-1]) if counts else 0

    def goes_on(self, packets=10000):
        """Waits until it has sent so many more."""
        before = self.sent()
        processes.wait_for(lambda: self.sent() > before + packets, PATIENCE,
                           "packets")


class KilledTestpmd(unittest.TestCase):

    def test_traffic_goes_on_and_the_link_stays(self):
        with tempfile.TemporaryDirectory(prefix="hfnet") as directory:
            with WrappedTestpmd() as back_end, Sender(
                    back_end.socket, directory + "/log") as sender:
                for _ in range(KILLS):
                    sender.goes_on()
                    back_end.kill()
                sender.goes_on()
                status, said = back_end.status(), sender.said()
        self.assertGreaterEqual(status["backend_lives"], KILLS + 1)
        self.assertNotIn("link state change", said)
        self.assertNotIn("disconnect", said)
        print("%d kills" % KILLS)

    def test_without_a_keeper_it_is_over(self):
        with tempfile.TemporaryDirectory(prefix="hfnet") as directory:
            path = directory + "/socket"
            with open(directory + "/back-end", "wb") as log:
                def start():
                    return processes.start(
                        [parts.testpmd(), *SMALL, "--file-prefix=hfback",
                         "--vdev=net_vhost0,iface=" + path, "--",
                         "--forward-mode=rxonly", *FORWARD],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                back_end = start()
                try:
                    processes.wait_for(lambda: os.path.exists(path), PATIENCE,
                                       "the back-end")
                    with Sender(path, directory + "/log") as sender:
                        sender.goes_on()
                        device.kill_process(back_end)
                        back_end = start()
                        processes.wait_for(
                            lambda: "link state change" in sender.said(),
                            PATIENCE, "a link that goes down")
                finally:
                    processes.kill(back_end)
