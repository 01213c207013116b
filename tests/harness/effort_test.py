"""How much a test does, and that a long one says how far it is."""

import contextlib
import io
import os
import unittest
from unittest import mock

from tests.harness import effort


def told(progress, *counts):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for count in counts:
            progress.tell(count)
    return out.getvalue().splitlines()


class Kills(unittest.TestCase):

    def kills(self, **environment):
        with mock.patch.dict(os.environ, environment, clear=True):
            return effort.kills(suite=10, long=1000)

    def test_the_suite_is_shorter_than_the_long_mode(self):
        self.assertEqual(self.kills(), 10)
        self.assertEqual(self.kills(HOLDFAST_LONG="0"), 10)
        self.assertEqual(self.kills(HOLDFAST_LONG="1"), 1000)

    def test_a_number_of_ones_own(self):
        self.assertEqual(self.kills(HOLDFAST_KILLS="7"), 7)
        self.assertEqual(self.kills(HOLDFAST_KILLS="7", HOLDFAST_LONG="1"), 7)
        self.assertEqual(self.kills(HOLDFAST_KILLS="0"), 1)


class SaysHowFarItIs(unittest.TestCase):

    def test_when_the_time_has_come(self):
        lines = told(effort.Progress(900, seconds=0), 3, 4)
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"^\d\d:\d\d:\d\d 3 of 900 kills, \d+ a "
                         "second$")
        self.assertIn(" 4 of 900 kills", lines[1])

    def test_not_before(self):
        self.assertEqual(told(effort.Progress(900, seconds=1e6), 3, 4), [])


if __name__ == "__main__":
    unittest.main()
