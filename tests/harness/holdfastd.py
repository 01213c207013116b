"""A whole Holdfast in a test: holdfastd and all that it starts, asked over the
core's socket, watched from outside, ended without a trace."""

import json
import os
import signal
import subprocess
import time

from tests.harness import killer, parts, processes

START_SECONDS = 30


class Unavailable(RuntimeError):
    """The core was not there to answer: it may be a moment later."""


class Holdfastd:
    """One launcher.

    directory: where its sockets are. resource_directories: where images may be.
    log: the file that everybody's words go to; it has a name. api: whether it
    runs holdfast-api as well.
    """

    # What it is started by: words before its own command.
    prefix = ()

    def __init__(self, directory, resource_directories, log, api=False):
        self.directory = directory
        self._resources = resource_directories
        self._log = log
        self._api = api
        self._daemon = None
        self._control = None
        self._heir = None
        self._killers = {}

    def log(self):
        """What holdfastd and its children have printed."""
        with open(self._log.name, "rb") as f:
            return f.read().decode("utf8", "replace")

    def start(self, files):
        """files: the programs and policies that it may use, as label paths."""
        # The store and the children are users of their own.
        os.chmod(self.directory, 0o755)
        command = [
            *self.prefix,
            parts.built("launcher/holdfastd"),
            "--run-dir=" + self.directory,
            "--store=" + _real("statestore/store/holdfast-store"),
            "--store-policy=" + _real("statestore/store/store.policy")]
        command += ["--allow-resource-dir=" + path for path in self._resources]
        directories = {os.path.dirname(_real(path)) for path in (
            "sandbox/policies/common.policy", *files)}
        for option in ("--allow-binary-dir=", "--policy-dir="):
            command += [option + directory for directory in directories]
        if self._api:
            command.append("--api=" + _real("launcher/api/holdfast-api"))
        # SIGTERM: killed, it would leave its heir behind.
        self._daemon = processes.start(
            command, death_signal="TERM", stdout=self._log, stderr=self._log)
        core = os.path.join(self.directory, "core.sock")
        processes.wait_for(lambda: self._check() and os.path.exists(core),
                           START_SECONDS, core)
        self._control = processes.start(
            [parts.built("tests/harness/core_ctl"), "--socket=" + core],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True)

    def stop(self):
        """Ends everything; returns holdfastd's exit status."""
        for each in self._killers.values():
            each.stop()
        if self._control:
            processes.kill(self._control)
            self._control.stdin.close()
            self._control.stdout.close()
            self._control = None
        if self._heir:
            return self._end_heir()
        return processes.terminate(self._daemon) if self._daemon else None

    def adopt(self, heir):
        """After its death: the core `heir`, now our child, has its role."""
        self._daemon.wait()
        self._heir = heir

    def reap(self, pid):
        """Takes the exit status of a dead child that is no Popen's."""
        if pid != self._daemon.pid:
            os.waitpid(pid, os.WNOHANG)

    def _end_heir(self):
        try:
            os.kill(self._heir, signal.SIGTERM)
        except ProcessLookupError:
            return None
        try:
            _, status = os.waitpid(self._heir, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def _check(self):
        if self._daemon.poll() is not None:
            raise RuntimeError("holdfastd ended with status %d: %s" % (
                self._daemon.returncode, self.log()[-2000:]))
        return True

    @property
    def pid(self):
        return self._heir or self._daemon.pid

    # ---- what it is asked ----

    def ask(self, *words):
        """One command of core_ctl; raises with the core's words."""
        self._control.stdin.write(" ".join(words) + "\n")
        self._control.stdin.flush()
        line = self._control.stdout.readline()
        if not line:
            raise RuntimeError("core_ctl died: " + self.log()[-2000:])
        answer = json.loads(line)
        if answer["ok"]:
            return answer["answer"]
        # No core is there, or it died before it answered.
        kind = Unavailable if answer["error"].startswith(
            ("UNAVAILABLE", "ABORTED")) else RuntimeError
        raise kind("%s: %s; log: %s" % (
            " ".join(words), answer["error"], self.log()[-2000:]))

    def ask_again(self, *words):
        """The same for a question that may be repeated: over a core's death."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.ask(*words)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def run(self, name, program, socket, image, policy, options=(),
            realtime_priority=0):
        """Starts an instance; raises with the core's words."""
        return self.ask("run", name, _real(program), socket, image,
                        _real(policy), str(realtime_priority), *options)

    def wrap(self, name, keeper, socket, policy, tracking, options, command):
        """Starts an instance around `command`, a foreign back-end; `options`
        are "standby", "polls", "synchronous" and "realtime=PRIORITY"."""
        return self.ask("wrap", name, _real(keeper), socket, _real(policy),
                        tracking, ",".join(options) or "-", *command)

    def command(self, *words):
        """Runs the command line that people use; returns what it printed."""
        done = subprocess.run(
            [parts.built("launcher/cli/holdfast"),
             "--run-dir=" + self.directory, *words], check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError("holdfast %s: status %d: %s" % (
                " ".join(words), done.returncode, done.stdout))
        return done.stdout

    def wait_api(self):
        """Waits until the command line is answered."""
        socket = os.path.join(self.directory, "api.sock")
        processes.wait_for(lambda: self._check() and os.path.exists(socket),
                           START_SECONDS, socket)

    def status(self, name):
        return self.ask_again("status", name)

    def wait_whole(self, name, timeout=START_SECONDS):
        """Waits for an active child and a standby that is ready."""
        def whole():
            status = self.status(name)
            return status["active_pid"] and status["standby_ready"] and status
        return processes.wait_for(whole, timeout, "a whole instance")

    def killer(self, name):
        """The killer.Killer of the active children of an instance."""
        if name not in self._killers:
            self._killers[name] = killer.Killer(
                os.path.join(self.directory, "core.sock"), name, self._log)
        return self._killers[name]

    def kill_active(self, name):
        """kill -9 of the active child, from outside, as anybody would."""
        self.killer(name).start(1)
        return self.killer(name).wait()[0]


def _real(path):
    # holdfastd allows directories, and a runfile is a link into another one.
    return os.path.realpath(parts.built(path))
