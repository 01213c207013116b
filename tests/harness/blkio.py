"""Loads a back-end without a guest: the client on libblkio, and kills under it.

    with blkio.Client(device.socket, depth=32) as client:
        client.wait_started()
        ...
        result = client.finish()
"""

import json
import subprocess
import time

from tests.harness import parts, processes, stalls

# Reading back and giving up lost requests included.
FINISH_SECONDS = 120


class Client:
    """One run of tests/interop/blkio_client.

    socket: of the back-end. Other arguments become the client's flags.
    """

    def __init__(self, socket, seconds=3600, **flags):
        flags = dict(flags, socket=socket, seconds=seconds,
                     library=parts.blkio_library())
        self._command = [parts.built("tests/interop/blkio_client")] + [
            "--%s=%s" % item for item in flags.items()]
        self._process = None
        self.exit_status = None
        self.output = ""

    def __enter__(self):
        self._process = processes.start(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
        return self

    def __exit__(self, *_):
        processes.kill(self._process)
        self._process.stdout.close()

    @property
    def pid(self):
        return self._process.pid

    def wait_started(self):
        line = self._process.stdout.readline()
        if not line.startswith("BLK-START "):
            raise RuntimeError("the client did not start: " + line +
                               self._process.stdout.read())

    def running(self):
        return self._process.poll() is None

    def finish(self, now=True):
        """Ends the load (or lets it come to its end) and returns the result.

        None if there is none: the client died. `exit_status` is negative for
        a signal; -6 is the library's word for a request that completed twice.
        """
        if now and self.running():
            self._process.terminate()
        self.output, _ = self._process.communicate(timeout=FINISH_SECONDS)
        self.exit_status = self._process.returncode
        last = self.output.strip().rsplit("\n", 1)[-1]
        return json.loads(last) if last.startswith("{") else None


    def words(self):
        """The lines that it printed about damage."""
        return [line for line in self.output.splitlines()
                if line.startswith(("BLK-FINDING ", "BLK-LOST "))]


class KillRun:
    """What a client saw while its device was killed.

    Attributes:
      kills: killer.Kill objects. result: of the client, or None.
      gaps: seconds from each kill to the next completion; without the kills
        whose pause was too short to be listed.
      problems: in words, empty if nothing was wrong.
    """

    def __init__(self, kills, client, result):
        self.kills = kills
        self.result = result
        self.gaps = []
        self.problems = []
        if result is None:
            self.problems.append("the client ended with status %d: %s" % (
                client.exit_status, client.output[-2000:]))
            return
        if client.exit_status != 0:
            self.problems += client.words() + [result["load"]["status"]]
        listed = [(start, milliseconds / 1000)
                  for start, milliseconds in result["gaps"]]
        self.gaps = stalls.after_kill([kill.time for kill in kills], listed)


def kill_run(device, kills, pause, depth=32, **flags):
    """Kills a device under the client's load; returns the KillRun.

    pause: called before each kill; returns seconds to wait. Ends early when
    the client does.
    """
    flags = dict({"gap_ms": 0.05}, **flags)
    done = []
    with Client(device.socket, depth=depth, **flags) as client:
        client.wait_started()
        for _ in range(kills):
            time.sleep(pause())
            if not client.running():
                break
            done.append(device.kill())
        if client.running():
            time.sleep(pause())
        result = client.finish()
    return KillRun(done, client, result)
