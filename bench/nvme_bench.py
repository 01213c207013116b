"""I/O rate and CPU of NVMe over vfio-user against virtio-blk over vhost-user.

    bazel run -c opt //bench:nvme [-- --seconds 10]

No guest: one verified load drives both by turns of a few milliseconds, the one
through a queue of our own whose doorbells are posted writes as QEMU's are, with
shadow doorbells and without, the other through libblkio. Both under holdfastd, recovery on, one queue, images
alike. Each round of turns gives one ratio. Prints the median over the rounds
and between what it lies with 95 % (bootstrap).
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile

from bench import paired
from tests.harness import device, disk, parts

DEPTHS = (1, 32)


def take_turns(sides, depth, seconds):
    """[[(operations, seconds, CPU seconds) of each turn] of each round] of
    each side."""
    turns = json.loads(subprocess.run(
        [parts.built("bench/interleaved_client"), "--depth=%d" % depth,
         "--library=" + parts.blkio_library(), "--seconds=%g" % seconds,
         "--sockets=" + ",".join(socket for socket, _ in sides),
         "--pids=" + ",".join(str(pid) for _, pid in sides)],
        check=True, stdout=subprocess.PIPE).stdout)
    in_round = len(sides) ** 2
    result = [[] for _ in sides]
    for i in range(0, len(turns), in_round):
        for side, rounds in enumerate(result):
            rounds.append([turn[1:] for turn in turns[i:i + in_round]
                           if turn[0] == side])
    return result


def report(what, name, side, base):
    """side, base: of each round the turns' values; prints a line."""
    low, middle, high = paired.interval(paired.ratios(side, base))
    print("%-26s %-22s %10.2f   %5.2f [%.2f, %.2f]" % (
        what, name, statistics.median(sum(side, [])), middle, low, high))


FIGURES = (("requests/s", lambda turn: turn[0] / turn[1]),
           ("us CPU a request", lambda turn: 1e6 * turn[2] / turn[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hfbench") as directory:
        os.chmod(directory, 0o755)
        images = [directory + "/%d.img" % i for i in range(3)]
        for image in images:
            disk.Disk(image, raw_mib=64, ext4_mib=0)
        nvme = ["--num-queues=1"]
        with device.HoldfastDevice(images[0]) as virtio, \
                device.NvmeDisk(images[1], nvme) as plain, \
                device.NvmeDisk(
                    images[2], [*nvme, "--shadow-doorbells"]) as shadows:
            names = ["virtio-blk", "NVMe", "NVMe, shadow doorbells"]
            sides = [(prefix + each.socket, each.status()["active_pid"])
                     for prefix, each in (("", virtio), ("nvme:", plain),
                                          ("nvme-shadows:", shadows))]
            for depth in DEPTHS:
                result = take_turns(sides, depth, options.seconds)
                for figure, value in FIGURES:
                    values = [[[value(turn) for turn in turns]
                               for turns in side] for side in result]
                    for name, side in zip(names, values):
                        report("depth %d, %s" % (depth, figure), name, side,
                               values[0])
    print("page cache, 4 KiB, half reads; medians, and how many times "
          "virtio-blk's; load average %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
