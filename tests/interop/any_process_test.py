"""kill -9 of any one process of Holdfast under a strict client's load: no error,
everything whole again, nothing leaks."""

import os
import random
import signal
import tempfile
import time
import unittest

from tests.harness import blkio, device, disk, parts

# The parent of the core is killed in launcher/launcher_faults_test.cc.
VICTIMS = ("active", "standby", "store", "core")


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def descendants(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as f:
        found = [int(word) for word in f.read().split()]
    return found + [pid for child in found for pid in descendants(child)]


def store_of(holdfast):
    """The pid of holdfast-store, wherever in the tree it hangs."""
    for pid in descendants(holdfast.daemon.pid):
        with open("/proc/%d/comm" % pid, encoding="ascii") as f:
            if f.read().strip() == "holdfast-store":
                return pid
    raise AssertionError("no store")


class AnyProcess(unittest.TestCase):

    def kill_one(self, holdfast, victim):
        """One kill; returns when the instance is whole again."""
        status = holdfast.wait_whole()
        if victim == "active":
            os.kill(status["active_pid"], signal.SIGKILL)
        else:
            holdfast.daemon.ask("inject", holdfast.instance, "kill", victim)
        # What is dying may still be counted: let its death be noticed.
        time.sleep(0.05)
        holdfast.wait_whole()

    def test_in_any_order(self):
        parts.blkio_library()
        kills = int(os.environ.get("HOLDFAST_KILLS", "50"))
        source = random.Random(7)
        counts = dict.fromkeys(VICTIMS, 0)
        with tempfile.TemporaryDirectory(prefix="hfany") as directory:
            image = directory + "/disk.img"
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.HoldfastDevice(image) as holdfast, \
                    blkio.Client(holdfast.socket, depth=32,
                                 flushes_in_256=2) as client:
                client.wait_started()
                before = descriptors(store_of(holdfast))
                for _ in range(kills):
                    victim = source.choice(VICTIMS)
                    counts[victim] += 1
                    self.kill_one(holdfast, victim)
                    self.assertTrue(client.running(), victim)
                after = descriptors(store_of(holdfast))
                result = client.finish()
                if client.exit_status != 0:
                    print(holdfast.log())
        self.assertIsNotNone(result, client.output[-2000:])
        self.assertEqual(client.exit_status, 0, client.words())
        self.assertTrue(result["load"]["clean"])
        # A store that was started again holds what the first one held.
        self.assertLessEqual(abs(after - before), 2)
        print("kills %s; %d requests, all right; descriptors of the store %d, "
              "then %d" % (counts, result["load"]["operations"], before, after))


if __name__ == "__main__":
    unittest.main()
