"""What a keeper before qemu-storage-daemon costs, and how long a kill -9 of the
daemon lasts.

    bazel run -c opt //bench:wrapped [-- --blocks 20 --seconds 1 --kills 200
                                         --tracking forced]

I/O rate and CPU: the daemon behind a keeper, the same daemon at whose socket the
client speaks itself, and another one of those: what differs between the two that
are equal is noise. One client (libblkio's driver) loads them by turns of a few
milliseconds; images alike, in memory. Each block has processes of its own. The
keeper's share is told apart: its CPU time and how often it was scheduled.

Gaps: from SIGKILL of the daemon to the client's next completion, and the longest
pause within 0.1 s of it (what the dying daemon still answers comes before that),
with a standby and without, by turns, at normal priority. Beside them what a start of the
program alone costs, to its answer to a first request, and the longest pause
without a kill.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import tempfile
import time

from bench import inflight_bench
from tests.harness import blkio, device, disk, parts, processes, stalls

DEPTHS = (1, 32)
SIDES = WRAPPED, DIRECT, AGAIN = range(3)
CLIENT_ON, DAEMONS_ON = {0}, {1}
GAP_ROUNDS = 4
GAP_CLIENT = {"depth": 32, "gap_ms": 0.02, "gaps": 1000000}
# vhost-user's GET_FEATURES: request, version, no payload.
FIRST_REQUEST = struct.pack("<III", 1, 1, 0)


def put_on(pid, processors):
    """Moves the threads of a process, so those too that they start later."""
    for thread in os.listdir("/proc/%d/task" % pid):
        os.sched_setaffinity(int(thread), processors)


class Keeper:
    """What the keeper itself does while others are measured."""

    def __init__(self):
        self.switches = 0
        self.cpu_seconds = 0.0
        self.seconds = 0.0


def load(wrapped, direct, depth, seconds, keeper):
    """The turns of one depth: see inflight_bench.Block."""
    keeper_pid = wrapped.status()["active_pid"]
    pids = [wrapped.living()] + [each.pid for each in direct]
    for pid in pids:
        put_on(pid, DAEMONS_ON)
    sockets = [each.socket for each in (wrapped, *direct)]
    flags = {"library": parts.blkio_library(), "depth": depth,
             "seconds": seconds, "sockets": ",".join(sockets),
             "pids": ",".join(map(str, pids))}
    client = processes.start(
        [parts.built("bench/interleaved_client")] +
        ["--%s=%s" % item for item in flags.items()], stdout=subprocess.PIPE)
    put_on(client.pid, CLIENT_ON)
    # Its beginning, when the keeper speaks, is left out, and so is its end.
    time.sleep(seconds / 4)
    before = (time.monotonic(), processes.cpu_seconds(keeper_pid),
              processes.context_switches(keeper_pid))
    time.sleep(seconds / 2)
    keeper.switches += processes.context_switches(keeper_pid) - before[2]
    keeper.cpu_seconds += processes.cpu_seconds(keeper_pid) - before[1]
    keeper.seconds += time.monotonic() - before[0]
    output, _ = client.communicate()
    if client.returncode != 0:
        raise SystemExit("the client ended with status %d" % client.returncode)
    return json.loads(output)


def rates(directory, options):
    blocks = {depth: [] for depth in DEPTHS}
    keeper = Keeper()
    images = ["%s/%d.img" % (directory, side) for side in SIDES]
    for image in images:
        disk.Disk(image, raw_mib=64, ext4_mib=0)
    for _ in range(options.blocks):
        for depth in DEPTHS:
            with contextlib.ExitStack() as stack:
                wrapped = stack.enter_context(device.WrappedStorageDaemon(
                    images[WRAPPED], tracking=options.tracking))
                direct = [stack.enter_context(device.QsdDevice(image))
                          for image in images[DIRECT:]]
                turns = load(wrapped, direct, depth, options.seconds, keeper)
            blocks[depth].append(inflight_bench.Block(turns, len(SIDES)))
    for depth in DEPTHS:
        report(depth, blocks[depth])
    print("the keeper under load: scheduled %d times, %.3f s CPU, in %.1f s; "
          "load average %.1f" % (keeper.switches, keeper.cpu_seconds,
                                 keeper.seconds, os.getloadavg()[0]))


def report(depth, blocks):
    print("depth %d: " % depth + "; ".join(
        "%s %.0f IOPS, %.2f us CPU a request" % (
            name, inflight_bench.median_of(blocks, "rates", side),
            inflight_bench.median_of(blocks, "costs", side))
        for name, side in (("behind a keeper", WRAPPED), ("direct", DIRECT))))
    for name, ones, other in (
            ("keeper / direct", [WRAPPED], DIRECT),
            ("keeper / again", [WRAPPED], AGAIN),
            ("again / direct: noise", [AGAIN], DIRECT)):
        print("  %-22s rate %s   CPU %s" % (
            name, inflight_bench.figures(blocks, "rates", ones, other),
            inflight_bench.figures(blocks, "costs", ones, other)))


def milliseconds(seconds):
    values = [s * 1000 for s in seconds] or [0]
    return "%7.2f %7.2f %7.2f %7.2f ms" % (
        min(values), stalls.percentile(values, 0.5),
        stalls.percentile(values, 0.99), max(values))


def cold_start(wrapped):
    """Seconds from the start of the program to its answer, and its end: as a
    life is started, on a socket at which somebody is waiting already."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")  # A name of the kernel's choice.
        listener.listen(1)
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(listener.getsockname())
        client.sendall(FIRST_REQUEST)
        number = listener.fileno()
        begin = time.monotonic()
        process = subprocess.Popen(
            [word.replace("{fd}", str(number)) for word in wrapped.command()],
            pass_fds=[number])
        try:
            answer = client.recv(64)
            took = time.monotonic() - begin
        finally:
            processes.kill(process)
        if not answer:
            raise SystemExit("the program does not answer")
        return took


def gaps(directory, options):
    source = random.Random(1)
    cases = [("with a standby", True, [], [], []),
             ("without", False, [], [], [])]
    starts, quiet = [], []
    image = directory + "/gap.img"
    for _ in range(GAP_ROUNDS):
        for _, standby, found, longest, kills in cases:
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with device.WrappedStorageDaemon(
                    image, standby=standby,
                    tracking=options.tracking) as wrapped:
                run = blkio.kill_run(
                    wrapped, options.kills // GAP_ROUNDS,
                    lambda: source.uniform(0.15, 0.25), **GAP_CLIENT)
                if run.problems:
                    raise SystemExit("\n".join(run.problems))
                found += run.gaps
                longest += stalls.per_kill(
                    [kill.time for kill in run.kills],
                    [(start, ms / 1000) for start, ms in run.result["gaps"]])
                kills += run.kills
                wrapped.wait_free()
                with blkio.Client(wrapped.socket, seconds=1, read_back=False,
                                  **GAP_CLIENT) as client:
                    calm = client.finish(now=False)
                quiet += [gap / 1000 for _, gap in calm["gaps"]]
                starts += [cold_start(wrapped) for _ in
                           range(options.kills // GAP_ROUNDS // 2)]
    print("depth 32: min, p50, p99, max")
    for name, _, found, longest, kills in cases:
        print("  %s, %d kills, %d without a listed pause" % (
            name, len(kills), len(kills) - len(found)))
        print("    SIGKILL to next completion  " + milliseconds(found))
        print("    longest pause               " + milliseconds(longest))
    print("  start of the program, alone     %s (%d)" % (
        milliseconds(starts), len(starts)))
    print("  longest pause without a kill %.2f ms (%d s); load average %.1f" % (
        max(quiet, default=0) * 1000, 2 * GAP_ROUNDS, os.getloadavg()[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n",
                                                               maxsplit=1)[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1,
                        help="of each block and depth")
    parser.add_argument("--kills", type=int, default=200, help="of each case")
    parser.add_argument("--tracking", default="forced", help="of the keeper")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hfbench", dir="/dev/shm") \
            as directory:
        os.chmod(directory, 0o755)
        if options.blocks:
            rates(directory, options)
        if options.kills:
            gaps(directory, options)


if __name__ == "__main__":
    main()
