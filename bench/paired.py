"""The arithmetic of two sides that are measured by turns."""

import random
import statistics


def ratios(ones, others):
    """One side against the other, round by round.

    ones, others: of each round the turns of that side, in a list. When a side's
    turns lie around the other's (A B B A), a machine that becomes slower
    steadily favours neither.
    """
    return [statistics.geometric_mean(one) / statistics.geometric_mean(other)
            for one, other in zip(ones, others)]


def interval(values, confidence=0.95, draws=2000, seed=1):
    """(low, median, high): the median, and between what it lies (bootstrap)."""
    source = random.Random(seed)
    medians = sorted(
        statistics.median(source.choices(values, k=len(values)))
        for _ in range(draws))
    cut = int((1 - confidence) / 2 * draws)
    return medians[cut], statistics.median(values), medians[draws - 1 - cut]
