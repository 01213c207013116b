"""The killer of the tests with a guest, without one: a process under a launcher
is killed again and again."""

import os
import signal
import unittest

from tests.harness import device, killer

KILLS = 40


class Registers(device.HoldfastDevice):

    program = "tests/recovery/register_torture"
    policy = "devices/pci_edu/pci_edu.policy"


class KilledInARow(unittest.TestCase):

    def test_each_kill_is_of_another_process(self):
        with Registers(None) as registers:
            registers.killer.start(KILLS, 0, 0.002)
            kills = registers.killer.wait()
            self.assertEqual(len(kills), KILLS)
            self.assertTrue(killer.each_another(kills))
            times = [kill.time for kill in kills]
            self.assertEqual(times, sorted(times))
            status = registers.wait_whole()
            self.assertEqual(status["recoveries"], KILLS)
            self.assertNotEqual(status["active_pid"], kills[-1].pid)
            print(killer.describe(kills))
            # And again, one at a time.
            self.assertEqual(registers.kill().pid, status["active_pid"])

    def test_a_process_that_dies_by_itself_is_noticed(self):
        with Registers(None) as registers:
            registers.killer.start(1000, 0.03, 0.03)
            while not registers.killer.done(0):
                pid = registers.wait_whole()["active_pid"]
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            with self.assertRaisesRegex(RuntimeError, "killer: "):
                registers.killer.wait()

    def test_an_order_that_makes_no_sense_is_refused(self):
        with Registers(None) as registers:
            registers.killer.start(1, 2.0, 1.0)
            with self.assertRaisesRegex(RuntimeError, "COUNT MIN_US MAX_US"):
                registers.killer.wait()

    def test_a_killer_can_be_stopped(self):
        with Registers(None) as registers:
            registers.killer.start(1000000)
            self.assertFalse(registers.killer.done(0))
        with self.assertRaises(RuntimeError):
            registers.killer.wait()


class Description(unittest.TestCase):

    def test_says_how_fast_it_went(self):
        kills = [killer.Kill(number / 50, number, 10 + number)
                 for number in range(101)]
        self.assertEqual(
            killer.describe(kills),
            "101 kills, 50 a second; death seen to promotion: median 60 us, "
            "p99 109 us, max 110 us")
        self.assertEqual(killer.describe(kills[:1]), "1 kills")
