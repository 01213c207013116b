"""The arithmetic of two sides that are measured by turns."""

import random
import unittest

from bench import paired


class Ratios(unittest.TestCase):

    def test_a_machine_that_slows_down_favours_nobody(self):
        # A B B A, each round a tenth slower than the one before.
        pace = [0.9 ** i for i in range(8)]
        ones = [[pace[i], pace[i + 3]] for i in (0, 4)]
        others = [[pace[i + 1], pace[i + 2]] for i in (0, 4)]
        for ratio in paired.ratios(ones, others):
            self.assertAlmostEqual(ratio, 1)

    def test_of_a_side_that_is_twice_as_fast(self):
        self.assertEqual(paired.ratios([[8, 2]], [[2, 2]]), [2.0])


class Interval(unittest.TestCase):

    def noisy(self, truth, count):
        """Ratios with a tenth of noise, and every tenth far away."""
        source = random.Random(7)
        return [truth * source.gauss(1, 0.1) * (3 if i % 10 == 0 else 1)
                for i in range(count)]

    def test_holds_the_truth_and_narrows_with_more_rounds(self):
        low, middle, high = paired.interval(self.noisy(1.0, 100))
        self.assertTrue(low < 1.0 < high)
        self.assertTrue(low <= middle <= high)
        self.assertLess(high - low, 0.08)
        wide = paired.interval(self.noisy(1.0, 10))
        self.assertGreater(wide[2] - wide[0], high - low)

    def test_tells_a_difference_from_noise(self):
        low, _, _ = paired.interval(self.noisy(1.1, 100))
        self.assertGreater(low, 1.0)

    def test_one_value_has_no_spread(self):
        self.assertEqual(paired.interval([1.25]), (1.25, 1.25, 1.25))

    def test_comes_out_the_same_each_time(self):
        values = self.noisy(1.0, 20)
        self.assertEqual(paired.interval(values), paired.interval(values))


if __name__ == "__main__":
    unittest.main()
