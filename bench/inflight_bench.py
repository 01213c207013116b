"""What the table of requests in flight costs in I/O.

    bazel run -c opt //bench:inflight [-- --blocks 40 --seconds 1]

virtio-blk under holdfastd with its in-flight table, the same without, and once
more with it: what differs between the two that are equal is noise. One client
(libblkio's driver) loads them by turns of a few milliseconds; each round of
turns gives one ratio. Between blocks of rounds all device processes are replaced, since where a process happens to lie in memory may be
worth more than a table. Prints the median over the blocks and between what it
lies with 95 % (bootstrap). Client and devices are at SCHED_FIFO, which keeps
the neighbours away; so run it briefly where others work.
"""

import argparse
import collections
import contextlib
import json
import os
import statistics
import subprocess
import tempfile

from bench import paired
from tests.harness import device, disk, parts

DEPTHS = (1, 32)
PRIORITY = 10
WITH, WITHOUT, AGAIN = range(3)


class Untracked(device.HoldfastDevice):
    """Loses what is in flight, so it is killed only while nobody uses it."""

    program = "bench/untracked_blk"


@contextlib.contextmanager
def scheduled(priority):
    """This process and those that it starts at SCHED_FIFO, if not 0."""
    if priority:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def replace_processes(devices):
    for each in devices:
        each.wait_free()
        each.kill()
        each.wait_whole()


def take_turns(devices, depth, seconds):
    """[side, operations, seconds, CPU seconds] of each turn."""
    for each in devices:
        each.wait_free()
    flags = {
        "library": parts.blkio_library(), "depth": depth, "seconds": seconds,
        "sockets": ",".join(each.socket for each in devices),
        "pids": ",".join(str(each.status()["active_pid"])
                         for each in devices)}
    return json.loads(subprocess.run(
        [parts.built("bench/interleaved_client")] +
        ["--%s=%s" % item for item in flags.items()],
        check=True, stdout=subprocess.PIPE).stdout)


class Block:
    """The turns of one depth between two replacements.

    Attributes:
      rates, costs: by side, of each round a list: operations a second, and CPU
        microseconds an operation, of each turn.
    """

    def __init__(self, turns, sides):
        self.rates = collections.defaultdict(list)
        self.costs = collections.defaultdict(list)
        for i in range(0, len(turns), sides * sides):
            for side in range(sides):
                own = [turn for turn in turns[i:i + sides * sides]
                       if turn[0] == side]
                self.rates[side].append([t[1] / t[2] for t in own])
                self.costs[side].append([t[3] * 1e6 / t[1] for t in own])

    def ratio(self, what, ones, other):
        """How `ones`, sides that are equal, compare with the `other`."""
        values = getattr(self, what)
        return statistics.median(
            paired.ratios([sum(turns, []) for turns in
                           zip(*(values[one] for one in ones))],
                          values[other]))


def figures(blocks, what, ones, other):
    low, middle, high = paired.interval(
        [block.ratio(what, ones, other) for block in blocks])
    return "%.4f [%.4f, %.4f]" % (middle, low, high)


def median_of(blocks, what, side):
    return statistics.median(
        value for block in blocks for turns in getattr(block, what)[side]
        for value in turns)


def report(depth, blocks):
    print("depth %d: with the table %.0f IOPS, %.3f us CPU a request; "
          "without %.0f IOPS, %.3f us" % (
              depth, median_of(blocks, "rates", WITH),
              median_of(blocks, "costs", WITH),
              median_of(blocks, "rates", WITHOUT),
              median_of(blocks, "costs", WITHOUT)))
    for name, ones, other in (("both with / without", [WITH, AGAIN], WITHOUT),
                              ("with / without", [WITH], WITHOUT),
                              ("again / without", [AGAIN], WITHOUT),
                              ("with / again: noise", [WITH], AGAIN)):
        print("  %-20s rate %s   CPU %s" % (
            name, figures(blocks, "rates", ones, other),
            figures(blocks, "costs", ones, other)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1,
                        help="of each block and depth")
    parser.add_argument("--normal", action="store_true",
                        help="not at a real-time priority")
    options = parser.parse_args()
    priority = 0 if options.normal else PRIORITY
    blocks = {depth: [] for depth in DEPTHS}
    with tempfile.TemporaryDirectory(prefix="hfbench", dir="/dev/shm") \
            as directory, contextlib.ExitStack() as stack:
        os.chmod(directory, 0o755)
        devices = []
        for kind in (device.HoldfastDevice, Untracked, device.HoldfastDevice):
            image = "%s/%d.img" % (directory, len(devices))
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            devices.append(stack.enter_context(
                kind(image, realtime_priority=priority)))
        for _ in range(options.blocks):
            replace_processes(devices)
            for depth in DEPTHS:
                with scheduled(priority):
                    turns = take_turns(devices, depth, options.seconds)
                blocks[depth].append(Block(turns, len(devices)))
    for depth in DEPTHS:
        report(depth, blocks[depth])
    print("image in memory, one queue, 4 KiB random, half reads; %d blocks of "
          "%g s a depth; load average %.1f" % (
              options.blocks, options.seconds, os.getloadavg()[0]))


if __name__ == "__main__":
    main()
