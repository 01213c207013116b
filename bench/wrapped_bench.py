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
by turns: with a standby, which takes over when the last thread of the daemon has
ended, or when all of it has (synchronous: false), both at normal priority and at
SCHED_FIFO (keeper, daemons, store and client), and without one. Beside them what
a start of the program alone costs, to its answer to a first request, and the
longest pause without a kill. --phases takes each gap apart; that costs time.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import tempfile
import time

from bench import inflight_bench, kernel_trace
from tests.harness import blkio, device, disk, parts, processes, stalls

DEPTHS = (1, 32)
SIDES = WRAPPED, DIRECT, AGAIN = range(3)
CLIENT_ON, DAEMONS_ON = {0}, {1}
GAP_ROUNDS = 4
PRIORITY = 10
PAUSE_US = 50
TRACED_SECONDS = 0.03
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


class Case:
    """One way to run the program, and what its rounds have found."""

    def __init__(self, name, priority=0, **how):
        self.name = name
        self.priority = priority
        self._how = how
        self.found, self.longest, self.kills = [], [], []
        self.phases = collections.defaultdict(list)

    def device(self, image, tracking):
        return device.WrappedStorageDaemon(
            image, tracking=tracking, realtime_priority=self.priority,
            **self._how)

    def client(self):
        """Its flags: at a real-time priority it must not use up a processor."""
        return dict(GAP_CLIENT, pause_us=PAUSE_US if self.priority else 0)

    def add(self, run):
        self.found += run.gaps
        self.longest += stalls.per_kill(
            [kill.time for kill in run.kills],
            [(start, ms / 1000) for start, ms in run.result["gaps"]])
        self.kills += run.kills

    def report(self):
        print("  %s, %d kills, %d without a listed pause" % (
            self.name, len(self.kills), len(self.kills) - len(self.found)))
        print("    SIGKILL to next completion  " + milliseconds(self.found))
        print("    longest pause               " + milliseconds(self.longest))
        for phase, seconds in self.phases.items():
            print("      %-31s" % phase + milliseconds(seconds))


class Traced:
    """A device whose kills are taken apart: the time from SIGKILL until ...

    What the last life still answers while it dies comes before all of it.
    """

    # sendmsg, sendmmsg; write.
    SEND, WRITE = {46, 307}, {1}
    # pread64, pwrite64, preadv, pwritev, preadv2, pwritev2.
    ON_DISK = {17, 18, 295, 296, 327, 328}

    def __init__(self, wrapped, trace):
        self._wrapped = wrapped
        self._trace = trace
        self.phases = collections.defaultdict(list)
        self.socket = wrapped.socket

    def kill(self):
        old = self._wrapped.living()
        status = self._wrapped.status()
        keeper, spare = status["active_pid"], status["backend_spare_pid"]
        threads = set(map(int, os.listdir("/proc/%d/task" % old)))
        self._trace.follow([keeper, old] + [spare] * (spare != 0))
        done = self._wrapped.kill()
        # Far longer than a gap.
        time.sleep(TRACED_SECONDS)
        self._take(done.time, keeper, threads)
        return done

    def _take(self, killed, keeper, old):
        events = [each for each in self._trace.take() if each.time > killed]

        def times(threads, name, numbers=None):
            return [each.time for each in events
                    if threads(each.thread) and each.name == name and
                    (numbers is None or each.number in numbers)]

        def of_keeper(thread):
            return thread == keeper
        marks = [
            ("the keeper is awake", times(of_keeper, "sys_exit")[:1]),
            ("the next is spoken to",
             times(of_keeper, "sys_enter", self.SEND)[:1]),
            # It is kicked before and after.
            ("it has heard of its rings",
             times(of_keeper, "sys_enter", self.WRITE)[1:2]),
            ("its first read or write",
             times(lambda thread: thread not in old | {keeper}, "sys_enter",
                   self.ON_DISK)[:1]),
            ("the last has left its memory",
             times(lambda thread: thread in old, "sched_process_exit")[-1:])]
        for name, found in marks:
            self.phases[name] += [time - killed for time in found]


def set_priority(priority):
    """Of this process and of the clients that it starts."""
    os.sched_setscheduler(0, os.SCHED_FIFO if priority else os.SCHED_OTHER,
                          os.sched_param(priority))


def measure(case, wrapped, options, source):
    """A round of one case; the pauses of a client without any kill."""
    traced = None
    with contextlib.ExitStack() as stack:
        if options.phases:
            traced = Traced(wrapped, stack.enter_context(kernel_trace.Trace()))
        run = blkio.kill_run(
            traced or wrapped, options.kills // GAP_ROUNDS,
            lambda: source.uniform(0.15, 0.25), **case.client())
        if traced:
            for name, seconds in traced.phases.items():
                case.phases[name] += seconds
    if run.problems:
        raise SystemExit("\n".join(run.problems))
    case.add(run)
    wrapped.wait_free()
    with blkio.Client(wrapped.socket, seconds=1, read_back=False,
                      **case.client()) as client:
        return [gap / 1000 for _, gap in client.finish(now=False)["gaps"]]


def gaps(directory, options):
    source = random.Random(1)
    cases = [Case("with a standby"),
             Case("the same at SCHED_FIFO", priority=PRIORITY),
             Case("with a standby that awaits all of the end",
                  synchronous=False),
             Case("the same at SCHED_FIFO", priority=PRIORITY,
                  synchronous=False),
             Case("without", standby=False)]
    starts, quiet = [], collections.defaultdict(list)
    image = directory + "/gap.img"
    for _ in range(GAP_ROUNDS):
        for case in cases:
            disk.Disk(image, raw_mib=64, ext4_mib=0)
            with case.device(image, options.tracking) as wrapped:
                set_priority(case.priority)
                quiet[case.priority] += measure(case, wrapped, options, source)
                set_priority(0)
                starts += [cold_start(wrapped) for _ in
                           range(options.kills // GAP_ROUNDS // 2)]
    print("depth 32: min, p50, p99, max")
    for case in cases:
        case.report()
    print("  start of the program, alone     %s (%d)" % (
        milliseconds(starts), len(starts)))
    print("  longest pause without a kill %.2f ms, at SCHED_FIFO %.2f ms; load "
          "average %.1f" % (max(quiet[0], default=0) * 1000,
                            max(quiet[PRIORITY], default=0) * 1000,
                            os.getloadavg()[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n",
                                                               maxsplit=1)[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1,
                        help="of each block and depth")
    parser.add_argument("--kills", type=int, default=200, help="of each case")
    parser.add_argument("--tracking", default="forced", help="of the keeper")
    parser.add_argument("--phases", action="store_true",
                        help="take the gaps apart by the kernel's tracing")
    options = parser.parse_args()
    if options.phases and not kernel_trace.available():
        raise SystemExit("--phases: this kernel traces no system calls")
    with tempfile.TemporaryDirectory(prefix="hfbench", dir="/dev/shm") \
            as directory:
        os.chmod(directory, 0o755)
        if options.blocks:
            rates(directory, options)
        if options.kills:
            gaps(directory, options)


if __name__ == "__main__":
    main()
