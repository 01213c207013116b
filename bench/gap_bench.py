"""What a front-end sees of a kill -9: the time from the signal to the next
completion.

    bazel run -c opt //bench:gap [-- --kills 300 --depth 32]

The client is libblkio's driver and runs beside everything else on the machine.
The gap between completions without any kill, in the same run, is the baseline.
"""

import argparse
import os
import random
import tempfile

from tests.harness import blkio, device, disk, stalls


def microseconds(seconds):
    values = sorted(s * 1e6 for s in seconds)
    return "%7.0f %7.0f %7.0f %7.0f" % (
        values[0], stalls.percentile(values, 0.5),
        stalls.percentile(values, 0.99), values[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--depth", type=int, default=32)
    options = parser.parse_args()
    source = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="hfbench") as directory:
        os.chmod(directory, 0o755)
        image = directory + "/disk.img"
        disk.Disk(image, raw_mib=64, ext4_mib=0)
        with device.HoldfastDevice(image) as holdfast:
            run = blkio.kill_run(
                holdfast, options.kills,
                lambda: source.uniform(0.02, 0.06), depth=options.depth,
                gap_ms=0.02)
            if run.problems:
                raise SystemExit("\n".join(run.problems))
            with blkio.Client(holdfast.socket, depth=options.depth, seconds=3,
                              gap_ms=0.02, read_back=False) as client:
                quiet = client.finish(now=False)
    print("depth %d, %d kills, all requests right; us: min, p50, p99, max" % (
        options.depth, len(run.kills)))
    print("SIGKILL to next completion   %s" % microseconds(run.gaps))
    print("death seen to promotion sent %s" % microseconds(
        [kill.recovery_us / 1e6 for kill in run.kills]))
    print("longest pause without a kill %7.0f (3 s)" % (1000 * max(
        [gap for _, gap in quiet["gaps"]] or [0])))
    print("kills without a listed pause %d; load average %.1f" % (
        len(run.kills) - len(run.gaps), os.getloadavg()[0]))


if __name__ == "__main__":
    main()
