"""What a register access costs under Holdfast, against libvfio-user.

    bazel run -c opt //bench:registers [-- --peer gpio-pci-idio-16 --seconds 6]

All on one processor, unless --processor=any: what is compared is then what the
calls cost, and not which processor an idle machine had to wake. hello_pci under holdfastd, recovery on, and the same program alone. With --peer,
the path of libvfio-user's sample gpio-pci-idio-16, that one, too. One client
reads a register of each by turns of a few milliseconds, and posts writes to
them that a read then waits for; each round of turns gives one ratio. Prints the
median over the rounds and between what it lies with 95 % (bootstrap).
"""

import argparse
import collections
import contextlib
import json
import os
import statistics
import subprocess

from bench import paired
from tests.harness import device, parts

# Region, read, write, size: hello_pci's result and operand; the peer's pins.
HELLO = "0:8:4:4"
PEER = "2:1:0:1"


class HelloPci(device.HoldfastDevice):
    name = "Holdfast"
    instance = "hello"
    program = "examples/hello_pci/hello_pci"
    policy = "examples/hello_pci/hello_pci.policy"


class HelloPciAlone(device.StandaloneDevice):
    name = "Holdfast, no recovery"
    program = HelloPci.program


class Peer(device.StandaloneDevice):
    """A program that takes the path of its socket."""

    def __init__(self, path):
        super().__init__(None)
        self.name = os.path.basename(path)
        self._path = path

    def start(self):
        self._process = self._start_process([self._path, self.socket])
        self._wait_socket(self._process)


def take_turns(targets, seconds):
    """{what: {side: [[seconds an access] of each round]}}"""
    turns = json.loads(subprocess.run(
        [parts.built("bench/register_client"), "--seconds=%g" % seconds,
         "--devices=" + ",".join("%s:%s" % (each.socket, registers)
                                 for each, registers in targets)],
        check=True, stdout=subprocess.PIPE).stdout)
    result = collections.defaultdict(lambda: collections.defaultdict(list))
    in_round = len(targets) ** 2
    for i in range(0, len(turns), in_round):
        for side in range(len(targets)):
            own = [turn for turn in turns[i:i + in_round] if turn[0] == side]
            result[own[0][1]][side].append([t[3] / t[2] for t in own])
    return result


def report(what, sides, targets):
    base = len(targets) - 1
    for side, (target, _) in enumerate(targets):
        low, middle, high = paired.interval(
            paired.ratios(sides[side], sides[base]))
        print("%-6s %-24s %8.2f us   %5.2f [%.2f, %.2f]" % (
            what, target.name[:24],
            1e6 * statistics.median(sum(sides[side], [])), middle, low, high))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", metavar="PROGRAM",
                        help="libvfio-user's gpio-pci-idio-16")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--processor", metavar="N", default="",
                        help="that all run on (default: the first), or any")
    options = parser.parse_args()
    if options.processor != "any":
        # Everything that is started inherits it.
        os.sched_setaffinity(0, {int(options.processor or
                                     min(os.sched_getaffinity(0)))})
    with contextlib.ExitStack() as stack:
        targets = [(stack.enter_context(kind(None)), HELLO)
                   for kind in (HelloPci, HelloPciAlone)]
        if options.peer:
            targets.append((stack.enter_context(
                Peer(os.path.abspath(options.peer))), PEER))
        else:
            print("no --peer: the last column is against the program alone")
        for what, sides in take_turns(targets, options.seconds).items():
            report(what, sides, targets)
    print("microseconds a round trip, and its ratio to the last line of its "
          "kind; load average %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
