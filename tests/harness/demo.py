#!/usr/bin/python3
"""Kills a guest's disk process again and again while the guest writes.

Started by tools/demo, which installs and builds what this needs. Prints every
kill, then what the guest says, then a table. Exit status 0: Holdfast's run is
clean in every respect; 1: it is not; the baseline has no say in it.
"""

import argparse
import json
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
# pylint: disable=wrong-import-position
from tests.harness import device, processes, scenario

DEFAULT_KILLS = 200
DEFAULT_PERIOD = 0.4
# Ours, and what people have today: nobody comes back to such a server.
VFIO_USER = {"nvme": (device.NvmeDisk, device.RestartedNvme),
             "virtio-blk": (device.DiskOverVfioUser, device.RestartedDisk)}
# So many entries has the queue that QEMU gives the guest.
MOST_DEPTH = 128
INTERRUPTED = 130


def _at_least(least, kind, most=float("inf")):
    """A type of argparse: a number within limits."""
    def convert(text):
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError("%s is not %s" % (
                text, "at least %d" % least if most == float("inf") else
                "between %d and %d" % (least, most)))
        return number
    convert.__name__ = "number"
    return convert


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="tools/demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=_at_least(0, int), metavar="N",
                        help="how often (default %d)" % DEFAULT_KILLS)
    parser.add_argument("--seconds", type=_at_least(1, float), metavar="S",
                        help="spread the kills over so long")
    parser.add_argument("--baseline", action="store_true",
                        help="also run what people have today: "
                        "qemu-storage-daemon and QEMU's reconnect")
    parser.add_argument("--vfio-user", choices=sorted(VFIO_USER), nargs="?",
                        const="nvme", metavar="DISK",
                        help="the disk is a PCI function over vfio-user behind "
                        "QEMU 11.1: nvme (default) or virtio-blk; the baseline "
                        "is such a server, killed once and started again")
    parser.add_argument("--wrap", action="store_true",
                        help="the disk is an unmodified qemu-storage-daemon "
                        "behind a keeper; the baseline is the same without")
    parser.add_argument("--qemu", choices=["7.2", "11.1"],
                        help="default 7.2; with --vfio-user 11.1")
    parser.add_argument("--depth", type=_at_least(1, int, MOST_DEPTH),
                        default=32, metavar="N",
                        help="requests in flight (default 32)")
    parser.add_argument("--seed", type=int, default=1,
                        help="equal seeds, equal times of the kills")
    parser.add_argument("--json", action="store_true",
                        help="print one JSON object and nothing else")
    parser.add_argument("--log", metavar="FILE",
                        help="write the guest's console there")
    parser.add_argument("--check", action="store_true",
                        help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.vfio_user and options.wrap:
        parser.error("--wrap is about vhost-user: leave --vfio-user out")
    if options.vfio_user and options.qemu == "7.2":
        parser.error("--vfio-user: QEMU 7.2 does not speak it; take 11.1")
    options.qemu = options.qemu or ("11.1" if options.vfio_user else "7.2")
    if options.kills is None:
        options.kills = DEFAULT_KILLS if options.seconds is None else max(
            1, round(options.seconds / DEFAULT_PERIOD))
    options.period = DEFAULT_PERIOD if options.seconds is None else (
        options.seconds / max(1, options.kills))
    return options


class Printer:
    """Says what happens while it happens; silent with --json."""

    def __init__(self, quiet):
        self._quiet = quiet
        self._total = 0

    def say(self, text=""):
        if not self._quiet:
            print(text, flush=True)

    def begin(self, name, options, kills):
        self._total = kills
        self.say("\n%s behind QEMU %s: booting a guest that writes, reads and "
                 "verifies at depth %d" % (name, options.qemu, options.depth))

    def kill(self, number, kill):
        recovery = ("started again" if kill.recovery_us is None else
                    "standby promoted in %d us" % kill.recovery_us)
        self.say("kill %*d/%d  pid %-7d SIGKILL  %s" % (
            len(str(self._total)), number, self._total, kill.pid, recovery))


def run(factory, options, kills, printer, log, strict):
    settings = scenario.Settings(
        kills=kills, period=options.period, depth=options.depth,
        qemu=options.qemu, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="hfdemo") as directory:
        return scenario.run(factory, settings, directory, strict=strict,
                            log=log, on_kill=printer.kill).as_dict()


def three(numbers, digits):
    return " / ".join("%.*f" % (digits, numbers[key])
                      for key in ("min", "median", "max"))


def yes(value, good, bad):
    return "-" if value is None else good if value else bad


def verdict(result):
    if result["clean"]:
        return "CLEAN"
    if result["damaged_after_kill"] is not None:
        return "DAMAGED after kill %d" % result["damaged_after_kill"]
    return "NOT CLEAN"


ROWS = [
    ("kills", lambda r: str(r["kills"])),
    ("death seen to standby promoted, us",
     lambda r: three(r["recovery_us"], 0) if r["recovery_us"]["max"] else "-"),
    ("pause in the guest, ms", lambda r: three(r["stall_ms"], 1)),
    ("  longest before the first kill, ms",
     lambda r: "%.1f" % r["control_gap_ms"]),
    ("requests of the guest",
     lambda r: str(r["blocks"]["operations"]) if r["blocks"] else "-"),
    ("blocks read and verified",
     lambda r: str(r["blocks"]["checked_blocks"]) if r["blocks"] else "-"),
    ("blocks with wrong content",
     lambda r: str(r["blocks"]["bad_blocks"]) if r["blocks"] else "-"),
    ("requests that failed",
     lambda r: str(r["blocks"]["errors"]) if r["blocks"] else "-"),
    ("requests lost", lambda r: str(r["lost_requests"] or 0)),
    ("file operations on ext4",
     lambda r: str(r["files"]["operations"]) if r["files"] else "-"),
    ("  that went wrong",
     lambda r: str(r["files"]["errors"]) if r["files"] else "-"),
    ("fsck", lambda r: yes(r["fsck_clean"], "clean", "errors")),
    ("new lines in the guest's kernel log",
     lambda r: str(r["kernel_lines"] or 0)),
    ("QEMU's standard error", lambda r: yes(
        r["qemu_silent"], "empty", "not empty")),
    ("verdict", verdict),
]


def table(results):
    """One column a result, as wide as it must be."""
    columns = [[""] + [name for name, _ in ROWS]]
    for result in results:
        columns.append([result["device"]] + [cell(result) for _, cell in ROWS])
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths)
                  ).rstrip() for row in zip(*columns))


def main(argv):
    """Exit status, of an interrupted run as well: nothing of it is left."""
    processes.exit_on_sigterm()
    options = parse(argv)
    if options.check:
        return 0
    try:
        return demonstrate(options)
    except KeyboardInterrupt:
        print("tools/demo: interrupted; everything is ended", file=sys.stderr)
        return INTERRUPTED


def _sides(options):
    """Of Holdfast and of what people have today: a title, how to start it,
    and how often it is killed."""
    if options.vfio_user:
        ours, theirs = VFIO_USER[options.vfio_user]
        # One kill shows all.
        return ((ours.name, ours, options.kills),
                (theirs.name, theirs, min(1, options.kills)))
    ours, theirs = device.HoldfastDevice, device.QsdDevice
    factory = ours
    if options.wrap:
        ours = device.WrappedStorageDaemon
        factory = lambda image: ours(image, options.qemu)
    return ((ours.name, factory, options.kills),
            ("qemu-storage-daemon, QEMU reconnects",
             lambda image: theirs(image, options.qemu), options.kills))


def demonstrate(options):
    printer = Printer(options.json)
    log = open(options.log, "w") if options.log else None
    started = time.monotonic()
    results = []
    for number, (title, factory, kills) in enumerate(_sides(options)):
        if number and not options.baseline:
            break
        printer.begin(title, options, kills)
        results.append(run(factory, options, kills, printer, log,
                           strict=not number))
    if options.json:
        print(json.dumps({"holdfast": results[0], "baseline":
                          results[1] if options.baseline else None}))
    else:
        printer.say("\n" + table(results))
        printer.say("\nThree numbers: min / median / max.")
        printer.say("machine: %s, load average %.1f, %.0f s in all" % (
            "KVM" if results[0]["accelerator"] == "kvm" else
            "no usable KVM, QEMU's TCG", results[0]["load_average"],
            time.monotonic() - started))
        for result in results:
            for problem in result["problems"]:
                printer.say("%s: %s" % (result["device"], problem))
    return 0 if results[0]["clean"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
