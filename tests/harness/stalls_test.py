"""The arithmetic of stalls."""

import unittest

from tests.harness import stalls


class PerKill(unittest.TestCase):

    def test_takes_the_longest_pause_around_a_kill(self):
        gaps = [(9.99, 0.5), (10.2, 0.1), (50.0, 9.0)]
        self.assertEqual(stalls.per_kill([10.0], gaps), [0.5])

    def test_a_kill_without_a_listed_pause_has_zero(self):
        self.assertEqual(stalls.per_kill([10.0], [(20.0, 1.0)]), [0.0])
        self.assertEqual(stalls.per_kill([10.0], []), [0.0])

    def test_a_pause_just_after_the_kill_counts_a_later_one_does_not(self):
        self.assertEqual(stalls.per_kill([10.0], [(10.05, 1.0)]), [1.0])
        self.assertEqual(stalls.per_kill([10.0], [(10.2, 1.0)]), [0.0])

    def test_one_long_pause_counts_for_every_kill_in_it(self):
        self.assertEqual(stalls.per_kill([10.0, 10.5], [(9.9, 1.0)]),
                         [1.0, 1.0])


class AfterKill(unittest.TestCase):

    def test_counts_from_the_kill_to_the_end_of_its_pause(self):
        gaps = [(1.0, 0.5), (9.0, 2.0), (20.0, 1.0)]
        self.assertEqual(stalls.after_kill([10.0, 20.25], gaps), [1.0, 0.75])

    def test_leaves_out_kills_without_a_listed_pause(self):
        self.assertEqual(stalls.after_kill([5.0, 30.0], [(1.0, 0.5)]), [])

    def test_two_kills_can_share_a_pause(self):
        self.assertEqual(stalls.after_kill([10.0, 10.5], [(9.0, 2.0)]),
                         [1.0, 0.5])


class Elsewhere(unittest.TestCase):

    def test_keeps_only_what_no_kill_explains(self):
        gaps = [(1.0, 0.2), (9.9, 0.5), (12.0, 0.3), (20.0, 0.1)]
        self.assertEqual(stalls.elsewhere([10.0], gaps), [0.1, 0.2, 0.3])


class Summary(unittest.TestCase):

    def test_of_nothing_is_zero(self):
        self.assertEqual(stalls.summary([]),
                         {"min": 0, "median": 0, "p99": 0, "max": 0})

    def test_of_a_hundred_values(self):
        self.assertEqual(stalls.summary(list(range(100, 0, -1))),
                         {"min": 1, "median": 50.5, "p99": 100, "max": 100})

    def test_percentiles_by_nearest_rank(self):
        values = list(range(1000))
        self.assertEqual(stalls.percentile(values, 0.5), 500)
        self.assertEqual(stalls.percentile(values, 0.99), 990)
        self.assertEqual(stalls.percentile(values, 1.0), 999)
