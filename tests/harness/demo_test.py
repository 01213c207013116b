"""What the demo makes of its arguments and results."""

import contextlib
import io
import unittest

from tests.harness import demo, device, scenario


def result(**changes):
    outcome = scenario.Outcome(scenario.Settings(), device.Device.__new__(
        device.Device))
    outcome.device = "some device"
    return dict(outcome.as_dict(), **changes)


class Arguments(unittest.TestCase):

    def test_two_hundred_kills_unless_told_otherwise(self):
        options = demo.parse([])
        self.assertEqual((options.kills, options.period), (200, 0.4))

    def test_seconds_set_how_often(self):
        options = demo.parse(["--seconds", "20"])
        self.assertEqual((options.kills, options.period), (50, 0.4))

    def test_kills_are_spread_over_the_seconds(self):
        options = demo.parse(["--seconds", "20", "--kills", "10"])
        self.assertEqual((options.kills, options.period), (10, 2.0))

    def test_no_kills_at_all_is_a_control_run(self):
        self.assertEqual(demo.parse(["--kills", "0"]).kills, 0)

    def test_vfio_user_takes_a_qemu_that_speaks_it(self):
        self.assertEqual(demo.parse([]).qemu, "7.2")
        options = demo.parse(["--vfio-user"])
        self.assertEqual((options.qemu, options.vfio_user), ("11.1", "nvme"))

    def test_a_wrapped_program_is_compared_with_itself(self):
        ours, theirs = demo._sides(demo.parse(["--wrap", "--kills", "7"]))
        self.assertEqual(ours[0], device.WrappedStorageDaemon.name)
        self.assertIn("qemu-storage-daemon", theirs[0])
        self.assertEqual((ours[2], theirs[2]), (7, 7))

    def test_mistakes_are_refused(self):
        for wrong in (["--kills", "-3"], ["--kills", "x"], ["--depth", "0"],
                      ["--depth", "1000"], ["--seconds", "0"], ["--bogus"],
                      ["--vfio-user", "--qemu", "7.2"],
                      ["--vfio-user", "ide"],
                      ["--wrap", "--vfio-user"]):
            with self.subTest(wrong), \
                    contextlib.redirect_stderr(io.StringIO()) as words, \
                    self.assertRaises(SystemExit) as refused:
                demo.parse(wrong)
            self.assertEqual(refused.exception.code, 2)
            self.assertIn(wrong[0], words.getvalue())

    def test_arguments_alone_can_be_checked(self):
        self.assertEqual(demo.main(["--check", "--kills", "5"]), 0)


class Table(unittest.TestCase):

    def test_a_run_without_any_result_can_be_shown(self):
        text = demo.table([result()])
        self.assertRegex(text, "(?m)^verdict +CLEAN$")
        self.assertRegex(text, "(?m)^requests of the guest +-$")

    def test_damage_is_named_with_the_kill(self):
        text = demo.table([result(), result(clean=False,
                                            damaged_after_kill=34)])
        self.assertRegex(text, "(?m)^verdict +CLEAN +DAMAGED after kill 34$")

    def test_an_unclean_run_without_damage_is_not_clean(self):
        self.assertEqual(demo.verdict(result(clean=False)), "NOT CLEAN")

    def test_recoveries_are_shown_if_the_device_tells_them(self):
        text = demo.table([result(recovery_us={
            "min": 90.4, "median": 143.0, "p99": 900.0, "max": 1200.0})])
        self.assertRegex(text, r"90 / 143 / 1200")


class Schedule(unittest.TestCase):

    def test_equal_seeds_kill_at_equal_times(self):
        a, b, c = (scenario.Settings(kills=50, seed=s).schedule()
                   for s in (1, 1, 2))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_the_mean_is_the_period(self):
        pauses = scenario.Settings(kills=1000, period=2.0).schedule()
        self.assertEqual(len(pauses), 1000)
        self.assertGreaterEqual(min(pauses), 1.0)
        self.assertLessEqual(max(pauses), 3.0)
        self.assertAlmostEqual(sum(pauses) / 1000, 2.0, delta=0.1)
