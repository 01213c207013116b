"""What the client of a register sees of a kill -9.

    bazel run -c opt //bench:register_gap [-- --kills 400]

hello_pci under holdfastd. A client reads one of its registers without a pause
while the device is killed: at normal priority, and with device, store, client
and killer at SCHED_FIFO. Prints the time from the signal to the next answer,
and how long the read took that was under way. What reads take that no kill has
touched, in the same run, is the baseline.
"""

import argparse
import json
import os
import random
import subprocess
import time

from bench import registers_bench
from tests.harness import parts, stalls

ROUNDS = 4
PRIORITY = 10


def set_priority(priority):
    """Of this process, the killer, and of the clients that it starts."""
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def run_client(device, command, tell_instants):
    """What a client prints in the end, of the instants that `tell_instants`
    writes to its input when all is ready."""
    with subprocess.Popen(command, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, encoding="ascii") as client:
        if client.stdout.readline() != "ready\n":
            raise SystemExit("the client gave up: " + device.log()[-2000:])
        tell_instants(client.stdin)
        time.sleep(0.05)
        client.stdin.close()
        result = client.stdout.read()
    if client.returncode != 0:
        raise SystemExit("the client gave up: " + device.log()[-2000:])
    return json.loads(result)


def measure(device, kills, source):
    """What the client prints after so many kills."""
    def kill(client):
        for _ in range(kills):
            time.sleep(source.uniform(0.02, 0.06))
            client.write("%.9f\n" % device.kill().time)
    device.wait_free()
    return run_client(device, [
        parts.built("bench/register_gap_client"),
        "--device=%s:%s" % (device.socket, registers_bench.HELLO)], kill)


def microseconds(seconds):
    values = sorted(1e6 * s for s in seconds)
    return "%7.0f %7.0f %7.0f %7.0f" % (
        values[0], stalls.percentile(values, 0.5),
        stalls.percentile(values, 0.99), values[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=400, help="of each case")
    options = parser.parse_args()
    source = random.Random(1)
    priorities = (0, PRIORITY)
    results = {priority: [] for priority in priorities}
    with registers_bench.HelloPci(None) as normal, \
            registers_bench.HelloPci(None, realtime_priority=PRIORITY) as rt:
        for _ in range(ROUNDS):
            for priority, device in zip(priorities, (normal, rt)):
                set_priority(priority)
                results[priority].append(
                    measure(device, options.kills // ROUNDS, source))
                set_priority(0)
    print("us: min, p50, p99, max")
    for priority, rounds in results.items():
        gaps = sum((each["gaps"] for each in rounds), [])
        print("%s priority, %d kills" % (
            "SCHED_FIFO" if priority else "normal", len(gaps)))
        print("  SIGKILL to next answer    " +
              microseconds(gap for gap, _ in gaps))
        print("  the read that was hit     " +
              microseconds(took for _, took in gaps))
        print("  reads that were not hit: median %.0f, longest %.0f" % (
            1e6 * min(each["quiet"][0] for each in rounds),
            1e6 * max(each["quiet"][1] for each in rounds)))
    print("load average %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
