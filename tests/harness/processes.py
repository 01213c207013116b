"""Starts processes that never outlive the harness, and ends them by their pid.

A child dies with the harness even after SIGKILL (PR_SET_PDEATHSIG), so no
QEMU stays behind. Start children from the main thread: the kernel sends that
signal when the thread that forked ends.
"""

import os
import signal
import subprocess
import sys
import time


def exit_on_sigterm():
    """Turns SIGTERM into SystemExit, so that `finally` clauses run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def start(command, death_signal="KILL", **kwargs):
    """A child in a session of its own; arguments as of subprocess.Popen.

    death_signal: what it gets when the harness dies.
    """
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    # QEMU waits for its displays, daemons for their children: none of them
    # should get the terminal's SIGINT.
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", death_signal, "--", *command],
        start_new_session=True, **kwargs)


def kill(process):
    """SIGKILL and reap; fine if it is dead already."""
    if process is None:
        return None
    if process.poll() is None:
        process.kill()
    return process.wait()


def terminate(process, grace=10.0):
    """SIGTERM, after `grace` seconds SIGKILL; returns the exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def context_switches(pid):
    """How often the kernel took a processor from the threads of a process that
    live, or they gave it away: a process that sleeps has no new ones."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, task)) as f:
            total += sum(int(line.split()[1]) for line in f
                         if "_ctxt_switches" in line)
    return total


def bytes_moved(pid):
    """What a process has read and written by system calls, cached or not."""
    with open("/proc/%d/io" % pid) as f:
        return sum(int(line.split()[1]) for line in f
                   if line.startswith(("rchar:", "wchar:")))


def wait_for(condition, timeout, what, interval=0.005):
    """Polls until `condition()` is true and returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("%s: not within %g s" % (what, timeout))
        time.sleep(interval)
