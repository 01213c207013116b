"""What a front-end sees of a kill -9: the time from the signal to the next
completion.

    bazel run -c opt //bench:gap [-- --kills 200 --depth 32 --memory-mib 2048]

Four cases, in alternating rounds of one run: at normal and at real-time
priority (device, store, client and killer at SCHED_FIFO, as a real-time guest's
virtual processors would be), without and with much guest memory that is all
touched. The client is libblkio's driver and runs beside everything else on the
machine. The longest pause without any kill, in the same run, is the baseline.
"""

import argparse
import collections
import os
import random
import tempfile

from tests.harness import blkio, device, disk, stalls

ROUNDS = 4
PRIORITY = 10
# Of the client after each batch, so that it does not use up a processor.
PAUSE_US = 50


class Figures:
    """What the rounds of one case have found, in seconds."""

    def __init__(self):
        self.gaps = []
        self.promotions = []
        self.kills = 0
        self.quiet = 0.0


def microseconds(seconds):
    values = sorted(s * 1e6 for s in seconds) or [0]
    return "%7.0f %7.0f %7.0f %7.0f" % (
        values[0], stalls.percentile(values, 0.5),
        stalls.percentile(values, 0.99), values[-1])


def set_priority(priority):
    """Of this process, the killer, and of the clients that it starts."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def measure(holdfast, kills, depth, memory_mib, source, figures):
    """One round of one case."""
    flags = {"depth": depth, "gap_ms": 0.02, "gaps": 1000000,
             "pause_us": PAUSE_US, "memory_mib": memory_mib}
    holdfast.wait_free()
    run = blkio.kill_run(holdfast, kills,
                         lambda: source.uniform(0.02, 0.06), **flags)
    if run.problems:
        raise SystemExit("\n".join(run.problems))
    holdfast.wait_free()
    with blkio.Client(holdfast.socket, seconds=1, read_back=False,
                      **flags) as client:
        quiet = client.finish(now=False)
    if quiet is None:
        raise SystemExit("the client ended with status %d: %s; %s" % (
            client.exit_status, client.output[-2000:], holdfast.log()[-2000:]))
    figures.gaps += run.gaps
    figures.promotions += [kill.recovery_us / 1e6 for kill in run.kills]
    figures.kills += len(run.kills)
    figures.quiet = max([figures.quiet] +
                        [gap / 1000 for _, gap in quiet["gaps"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="of each case")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--memory-mib", type=int, default=2048)
    options = parser.parse_args()
    source = random.Random(1)
    cases = collections.defaultdict(Figures)
    with tempfile.TemporaryDirectory(prefix="hfbench", dir="/dev/shm") as directory:
        os.chmod(directory, 0o755)
        images = {p: "%s/%d.img" % (directory, p) for p in (0, PRIORITY)}
        for image in images.values():
            disk.Disk(image, raw_mib=64, ext4_mib=0)
        with device.HoldfastDevice(images[0]) as normal, \
                device.HoldfastDevice(images[PRIORITY],
                                      realtime_priority=PRIORITY) as realtime:
            for _ in range(ROUNDS):
                for memory in (0, options.memory_mib):
                    for priority, holdfast in ((0, normal),
                                               (PRIORITY, realtime)):
                        set_priority(priority)
                        measure(holdfast, options.kills // ROUNDS,
                                options.depth, memory, source,
                                cases[priority, memory])
                        set_priority(0)
            degraded = realtime.status()["degraded"]
    print("depth %d, all requests right; us: min, p50, p99, max" %
          options.depth)
    for (priority, memory), figures in sorted(cases.items()):
        print("%s priority, %d MiB of guest memory touched, %d kills" % (
            "SCHED_FIFO" if priority else "normal", memory, figures.kills))
        print("  SIGKILL to next completion   " + microseconds(figures.gaps))
        print("  death seen to promotion sent " +
              microseconds(figures.promotions))
        print("  longest pause without a kill %7.0f (%d s); kills without a "
              "listed pause: %d" % (figures.quiet * 1e6, ROUNDS,
                                    figures.kills - len(figures.gaps)))
    for reason in degraded:
        print(reason)
    print("load average %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
