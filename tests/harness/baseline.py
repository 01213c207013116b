#!/usr/bin/python3
"""The baseline: the same guest and the same kills on what people have today.

    baseline.py [--kills N] [--qemu 7.2|11.1] [--depth D] [--json] ...

qemu-storage-daemon serves the disk, is killed and started again at once, and
QEMU reconnects. Prints the stalls that the guest saw, and the damage.
"""

import argparse
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
# pylint: disable=wrong-import-position
from tests.harness import device, processes, scenario


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--period", type=float, default=0.5,
                        help="mean seconds between kills")
    parser.add_argument("--qemu", choices=["7.2", "11.1"], default="7.2")
    parser.add_argument("--reconnect-ms", type=int, default=20,
                        help="of QEMU 11.1; 7.2 knows whole seconds only")
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--max-kib", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-ext4", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--log", help="write the guest's console there")
    return parser.parse_args(argv)


def run(options, on_kill=lambda number, kill: None):
    """One baseline run; returns the scenario.Outcome."""
    settings = scenario.Settings(
        kills=options.kills, period=options.period, depth=options.depth,
        max_kib=options.max_kib, qemu=options.qemu, seed=options.seed,
        ext4=not options.no_ext4)
    log = open(options.log, "w") if options.log else None
    with tempfile.TemporaryDirectory(prefix="hfbase") as directory:
        return scenario.run(
            lambda image: device.QsdDevice(image, options.qemu,
                                           options.reconnect_ms),
            settings, directory, strict=False, log=log, on_kill=on_kill)


def describe(result):
    """The result in a few lines for a person."""
    stall = result["stall_ms"]
    damage = ("DAMAGED after kill %d" % result["damaged_after_kill"]
              if result["damaged_after_kill"] is not None else
              "intact" if result["clean"] else "not clean")
    lines = ["%s behind QEMU %s (%s), depth %d: %d kills, %s" % (
        result["device"], result["qemu"], result["accelerator"],
        result["depth"], result["kills"], damage),
             "stall ms: min %.1f, median %.1f, max %.1f; without kills %.1f; "
             "load average %.1f" % (
                 stall["min"], stall["median"], stall["max"],
                 result["control_gap_ms"], result["load_average"])]
    return "\n".join(lines + ["  " + p for p in result["problems"]])


def main(argv):
    processes.exit_on_sigterm()
    result = run(parse(argv)).as_dict()
    if parse(argv).json:
        print(json.dumps(result))
    else:
        print(describe(result))
    return 0 if result["clean"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
