"""How long QEMU's main loop stands still when a device is killed.

    bazel run -c opt //bench:qemu_stall [-- --kills 200]

hello_pci under holdfastd, as a PCI function of an unmodified QEMU 11.1. QEMU
reads one of its registers without a pause, as its qtest socket orders, and
waits for each answer; a client asks its monitor for the status of the machine,
also without a pause, and the same main loop answers. The device is killed
meanwhile: at normal priority, and with QEMU, device, store, client and killer at
SCHED_FIFO. Prints how long the question to the monitor took that was under way,
and how long it takes at an instant at which nothing happens, which is the
baseline; and the same of the register.
"""

import argparse
import json
import os
import random
import tempfile
import time

from bench import register_gap_bench, registers_bench
from tests.harness import device, parts, processes, vm

SLOT = 5
START_SECONDS = 60
# From the instant at which nothing happens to the kill.
APART = 0.005


class HelloPci(device.OverVfioUser, registers_bench.HelloPci):

    def qemu_arguments(self):
        option, text = super().qemu_arguments()
        return [option, json.dumps({**json.loads(text), "addr": str(SLOT)})]


def start_qemu(directory, back_end, stderr):
    """A machine whose processors do nothing but what qtest orders."""
    names = [os.path.join(directory, name) for name in ("monitor", "qtest")]
    qemu = processes.start([
        parts.qemu("11.1"), "-accel", "qtest", "-display", "none", "-nodefaults",
        "-machine", "q35,memory-backend=memory", "-m", "64M",
        "-object", "memory-backend-memfd,id=memory,size=64M,share=on",
        "-qmp", "unix:%s,server=on,wait=off" % names[0],
        "-qtest", "unix:%s,server=on,wait=off" % names[1],
        "-qtest-log", os.devnull, *back_end.qemu_arguments()], stderr=stderr)
    processes.wait_for(
        lambda: all(map(os.path.exists, names)) or qemu.poll() is not None,
        START_SECONDS, "QEMU's sockets")
    return qemu, names


def measure(back_end, names, kills, source):
    """What the client prints after so many kills."""
    def kill(client):
        for _ in range(kills):
            time.sleep(source.uniform(0.03, 0.07))
            client.write("%.9f idle\n" % time.monotonic())
            time.sleep(APART)
            client.write("%.9f\n" % back_end.kill().time)
    return register_gap_bench.run_client(back_end, [
        parts.built("bench/main_loop_client"), "--monitor=" + names[0],
        "--qtest=" + names[1], "--slot=%d" % SLOT], kill)


def run(priority, kills):
    """What the client prints of a machine at this priority (0: normal)."""
    with HelloPci(None, realtime_priority=priority) as back_end, \
            tempfile.TemporaryDirectory(prefix="hfqemu") as directory, \
            tempfile.TemporaryFile() as stderr:
        register_gap_bench.set_priority(priority)
        qemu, names = start_qemu(directory, back_end, stderr)
        try:
            seen = measure(back_end, names, kills, random.Random(1))
            with vm.Qmp(names[0]) as monitor:
                status = monitor.command("query-status")["return"]["status"]
        finally:
            processes.kill(qemu)
            register_gap_bench.set_priority(0)
        stderr.seek(0)
        words = stderr.read().decode("utf8", "replace").strip()
    if status != "running" or words:
        raise SystemExit("QEMU is %s and says: %s" % (status, words))
    return seen


def report(what, seen):
    def took(instants):
        return register_gap_bench.microseconds(took for _, took in instants)
    print("  %s, %.0f round trips a second" % (what, seen["rate"]))
    print("    the one that a kill hit   " + took(seen["kills"]))
    print("    the same without a kill   " + took(seen["idle"]))
    print("    untouched by any kill: median %.0f, longest %.0f" % tuple(
        1e6 * seconds for seconds in seen["quiet"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="of each case")
    options = parser.parse_args()
    print("us: min, p50, p99, max; %d kills" % options.kills)
    for priority in (0, register_gap_bench.PRIORITY):
        seen = run(priority, options.kills)
        print("%s priority" % ("SCHED_FIFO" if priority else "normal"))
        report("QEMU's monitor", seen["monitor"])
        report("the register", seen["register"])
    print("load average %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
