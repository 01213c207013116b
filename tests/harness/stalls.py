"""Assigns the pauses that a client saw to the kills that caused them."""

import statistics

# A pause begins at the last completion before the kill, so before it.
BEFORE = 0.1
# The last request before the kill may be answered a little after it; and a
# device that is back may stop once more while it catches up.
AFTER = 0.1


def per_kill(kills, gaps):
    """The longest pause around each kill, in seconds; 0 if none was listed.

    kills: times. gaps: (start, length). All on one clock.
    """
    return [
        max([length for start, length in gaps
             if start - BEFORE <= kill <= start + length + AFTER], default=0.0)
        for kill in kills]


def after_kill(kills, gaps):
    """Seconds from each kill to the end of the pause in which it lies; kills
    in no listed pause are left out. gaps: in the order of time, disjoint."""
    found = []
    number = 0
    for kill in sorted(kills):
        while number < len(gaps) and sum(gaps[number]) < kill:
            number += 1
        if number < len(gaps) and gaps[number][0] <= kill:
            found.append(sum(gaps[number]) - kill)
    return found


def elsewhere(kills, gaps, margin=3.0):
    """The lengths of the pauses that no kill explains, in seconds."""
    return sorted(
        length for start, length in gaps
        if not any(start - BEFORE <= kill <= start + length + margin
                   for kill in kills))


def percentile(values, fraction):
    """The value below which `fraction` of the values lie (nearest rank)."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def summary(values):
    """min, median, p99 and max as a dictionary; zeros if there are none."""
    if not values:
        return {"min": 0.0, "median": 0.0, "p99": 0.0, "max": 0.0}
    return {"min": min(values), "median": statistics.median(values),
            "p99": percentile(values, 0.99), "max": max(values)}
