"""I/O rate and CPU of virtio-blk under Holdfast against qemu-storage-daemon.

    bazel run -c opt //bench:blk [-- --rounds 5 --seconds 2 --direct]

The same strict client (libblkio), the same image and blocking I/O threads on
both sides; recovery is on. Rounds of the two alternate, so that what else the
machine does meets both. Prints one table; the ratios are what counts.
"""

import argparse
import os
import statistics
import tempfile

from tests.harness import blkio, device, disk

DEPTHS = (1, 32)


def cpu_seconds(pid):
    """User and system time of a process, dead threads included."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(backend, pid, depth, seconds):
    """One round: (requests a second, CPU microseconds of the back-end each)."""
    before = cpu_seconds(pid)
    with blkio.Client(backend.socket, depth=depth, seconds=seconds,
                      read_back=False, json=True) as client:
        result = client.finish(now=False)
    if client.exit_status != 0:
        raise RuntimeError(client.output[-2000:])
    used = cpu_seconds(pid) - before
    load = result["load"]
    return result["iops"], used * 1e6 / max(1, load["operations"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hfbench") as directory:
        os.chmod(directory, 0o755)
        images = [directory + "/%d.img" % i for i in range(2)]
        for image in images:
            disk.Disk(image, raw_mib=64, ext4_mib=0)
        with device.HoldfastDevice(images[0]) as ours, \
                device.QsdDevice(images[1]) as theirs:
            pids = [ours.status()["active_pid"], theirs.pid]
            print("%-6s %-22s %10s %12s %8s %8s" % (
                "depth", "back-end", "IOPS", "us CPU/req", "rate", "CPU"))
            for depth in DEPTHS:
                rounds = [[], []]
                for _ in range(options.rounds):
                    for i, backend in enumerate((ours, theirs)):
                        rounds[i].append(measure(backend, pids[i], depth,
                                                 options.seconds))
                rate = [statistics.median(r[0] for r in side)
                        for side in rounds]
                cpu = [statistics.median(r[1] for r in side)
                       for side in rounds]
                for i, backend in enumerate((ours, theirs)):
                    print("%-6d %-22s %10.0f %12.2f %8.2f %8.2f" % (
                        depth, backend.name[:22], rate[i], cpu[i],
                        rate[i] / rate[1], cpu[i] / cpu[1]))
    print("page cache, one queue, 4 KiB random, half reads; medians of %d "
          "alternating rounds; rate and CPU against qemu-storage-daemon; "
          "load average %.1f" % (options.rounds, os.getloadavg()[0]))


if __name__ == "__main__":
    main()
