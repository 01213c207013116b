"""What a few processes did and when, by the kernel's own tracing (tracefs).

    with kernel_trace.Trace() as trace:
        trace.follow([pid, ...])
        ...
        for event in trace.take():  # Event(time, thread, name, number, value)

Times are of CLOCK_MONOTONIC. Needs root and a kernel with CONFIG_FTRACE_SYSCALLS.
What is traced gets slower by some microseconds a system call.
"""

import collections
import os
import re
import subprocess

ROOT = "/sys/kernel/tracing"
EVENTS = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit",
          "sched/sched_process_exit")
Event = collections.namedtuple("Event", "time thread name number value")

# "     keeper-123   [001] d..2.   12.345678: sys_enter: NR 46 (5, ...)"
LINE = re.compile(r"^.{16,}?-(\d+)\s+\[\d+\]\s+\S+\s+(\d+\.\d+): (\w+): (.*)$")
CALL = re.compile(r"NR (-?\d+)(?: = (-?\d+))?")


def parse(line):
    """The Event of a line of `trace`, or None."""
    found = LINE.match(line)
    if not found:
        return None
    thread, seconds, name, rest = found.groups()
    call = CALL.match(rest)
    return Event(float(seconds), int(thread), name,
                 int(call.group(1)) if call else -1,
                 int(call.group(2)) if call and call.group(2) else 0)


def available():
    """Whether this machine can trace; mounts what is needed."""
    if not os.path.exists(ROOT + "/trace"):
        subprocess.run(["mount", "-t", "tracefs", "none", ROOT], check=False,
                       stderr=subprocess.DEVNULL)
    return all(os.path.exists("%s/events/%s/enable" % (ROOT, event))
               for event in EVENTS)


class Trace:

    def __enter__(self):
        self._write("trace_clock", "mono")
        self._write("buffer_size_kb", "4096")
        self._write("options/event-fork", "1")
        return self

    def __exit__(self, *_):
        self._switch("0")
        self._write("set_event_pid", "")
        self._write("options/event-fork", "0")
        self._write("trace", "")
        self._write("trace_clock", "local")

    def follow(self, pids):
        """Forgets what was; from now on all threads of these, and what they
        start."""
        self._switch("0")
        self._write("trace", "")
        threads = [thread for pid in pids
                   for thread in os.listdir("/proc/%d/task" % pid)]
        self._write("set_event_pid", " ".join(threads))
        self._switch("1")

    def take(self):
        """The events since follow, in the order of time."""
        self._switch("0")
        with open(ROOT + "/trace", encoding="ascii", errors="replace") as f:
            events = [parse(line) for line in f]
        return sorted(event for event in events if event)

    def _switch(self, value):
        for event in EVENTS:
            self._write("events/%s/enable" % event, value)

    @staticmethod
    def _write(name, value):
        with open("%s/%s" % (ROOT, name), "w", encoding="ascii") as f:
            f.write(value)
