"""Kills by the thousand: tests/harness/killer.cc in a process of its own."""

import subprocess
import threading

from tests.harness import effort, parts, processes, stalls


class Kill:
    """One kill of a process.

    Attributes:
      time: of the SIGKILL, time.monotonic().
      pid: of the killed process.
      recovery_us: from the death, seen by the supervisor, until it had promoted
        the standby; None if there is no supervisor, or nothing was promoted.
      victim: which process it was.
    """

    def __init__(self, when, pid, recovery_us=None, victim="active"):
        self.time = when
        self.pid = pid
        self.recovery_us = recovery_us
        self.victim = victim


class Killer:
    """Kills the active process of one instance, on its own or in a row.

    socket: of the core. log: the file for the program's errors. All methods
    are for one thread.
    """

    def __init__(self, socket, instance, log, seed=1):
        self._process = processes.start(
            [parts.built("tests/harness/killer"), "--socket=" + socket,
             "--instance=" + instance, "--seed=%d" % seed],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True)
        self._kills = []
        self._progress = None
        self._failure = None
        self._idle = threading.Event()
        self._idle.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, kills, least=0.0, most=0.0):
        """Begins to kill so often, each time when a standby has been ready for
        a random time, in seconds."""
        self.wait()
        self._kills = []
        self._progress = effort.Progress(kills)
        self._idle.clear()
        self._process.stdin.write("%d %d %d\n" % (
            kills, least * 1e6, most * 1e6))
        self._process.stdin.flush()

    def done(self, timeout=None):
        """Waits until everything ordered is done; whether it is. Asked again
        and again, it says now and then how far it is."""
        if self._idle.wait(timeout):
            return True
        self._progress.tell(len(self._kills))
        return False

    def wait(self):
        """Waits for it; returns the Kills."""
        self._idle.wait()
        if self._failure:
            raise RuntimeError("killer: " + self._failure)
        return self._kills

    def stop(self):
        """Ends it, even in the middle of its work."""
        processes.kill(self._process)
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            word, *rest = line.split()
            if word == "kill":
                when, pid, recovery = map(int, rest)
                self._kills.append(Kill(when / 1e9, pid, recovery))
            elif word == "done":
                kills, promotions, _ = map(int, rest)
                if kills != promotions:
                    self._failure = "%d kills and %d promotions" % (
                        kills, promotions)
                self._idle.set()
            else:
                self._failure = line.strip()
        self._failure = self._failure or "it has ended"
        self._idle.set()


def each_another(kills):
    """Whether each kill was of another process than the one before. All pids
    need not differ: the kernel gives them again after some thousand."""
    return all(one.pid != next_one.pid
               for one, next_one in zip(kills, kills[1:]))


def describe(kills):
    """How many, how fast, and how long the promotions took, for a person."""
    if len(kills) < 2:
        return "%d kills" % len(kills)
    seconds = kills[-1].time - kills[0].time
    taken = stalls.summary([kill.recovery_us for kill in kills])
    return "%d kills, %.0f a second; death seen to promotion: median %d us, " \
        "p99 %d us, max %d us" % (len(kills), (len(kills) - 1) / seconds,
                                  taken["median"], taken["p99"], taken["max"])
