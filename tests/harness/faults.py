"""kill -9 of any process of Holdfast, and what must be whole afterwards."""

import ctypes
import os
import random
import signal
import subprocess
import time

from tests.harness import device, killer, parts, processes

VICTIMS = ("active", "standby", "store", "api", "core", "parent")
# Of an instance that wraps a back-end, too.
BACKEND_VICTIMS = ("backend", "backend-spare")
WHOLE_SECONDS = 30
_PR_SET_CHILD_SUBREAPER = 36
# The kernel keeps so many bytes of a process's name.
_COMM = 15


def become_reaper():
    """Orphans of our descendants become our children, so none is overlooked."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    try:
        found = []
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task),
                      encoding="ascii") as f:
                found += [int(word) for word in f.read().split()]
        return found
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid):
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def stat(pid):
    """The name of a process and its state, such as "S" or "Z"."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf8") as f:
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    name, rest = text.split("(", 1)[1].rsplit(")", 1)
    return name, rest.split()[0]


def own_cgroups(pid):
    """Directories of the control groups that a launcher made for a process."""
    with open("/proc/%d/cgroup" % pid, encoding="ascii") as f:
        lines = [line.rstrip("\n").split(":", 2) for line in f]
    found = {os.path.normpath("/sys/fs/cgroup/%s/%s" % (controller, path))
             for _, controller, path in lines if "/holdfast-" in path}
    found |= {above for above in map(os.path.dirname, found)
              if "/holdfast-" in above}
    return {path for path in found if os.path.isdir(path)}


class Footprint:
    """What a Holdfast occupies.

    Attributes:
      descriptors: {role: how many the process holds}.
      processes: names, sorted. memfds: names of those that are held.
      files: of the run directory, sorted.
    """

    def __init__(self, roles, pids, directory):
        """roles: {role: pid}. pids: of all processes."""
        self.processes = sorted(stat(pid)[0] for pid in pids)
        self.descriptors = {}
        memfds = {}
        for pid in pids:
            self._collect(pid, memfds)
        for role, pid in roles.items():
            self.descriptors[role] = len(os.listdir("/proc/%d/fd" % pid))
        self.memfds = sorted(memfds.values())
        self.files = sorted(os.listdir(directory))

    @staticmethod
    def _collect(pid, memfds):
        directory = "/proc/%d/fd/" % pid
        for name in os.listdir(directory):
            try:
                path = os.readlink(directory + name)
                # A core makes and keeps filters when it starts the first
                # child that needs them; more show in its descriptors.
                if path.startswith("/memfd:") and "-filter" not in path:
                    memfds[os.stat(directory + name).st_ino] = path
            except FileNotFoundError:
                pass

    def same(self, other):
        return vars(self) == vars(other)

    def growth(self, later, slack=2):
        """What is more in `later` than here, in words; empty if nothing."""
        found = ["%s holds %d descriptors, not %d" % (
            role, later.descriptors[role], count)
            for role, count in self.descriptors.items()
            if later.descriptors[role] > count + slack]
        for what in ("processes", "files"):
            before, now = getattr(self, what), getattr(later, what)
            if before != now:
                found.append("%s: %s, not %s" % (what, now, before))
        # Fewer are no leak.
        if len(later.memfds) > len(self.memfds):
            found.append("memfds %s, not %s" % (later.memfds, self.memfds))
        return found


class Faults:
    """Kills the processes of one launcher with one instance.

    The test must have called become_reaper() before the launcher started.
    """

    def __init__(self, daemon, instance, programs, victims):
        self._daemon = daemon
        self._instance = instance
        self._victims = victims
        self._names = {os.path.basename(name)[:_COMM] for name in (
            "holdfastd", "holdfastd-core", "holdfast-store", "holdfast-api",
            *programs)}

    def all(self):
        """Pids of everything that the launcher has started, itself included."""
        self._reap()
        return [pid for pid in descendants(os.getpid())
                if stat(pid)[0] in self._names and stat(pid)[1] != "Z"]

    def roles(self):
        """{victim: pid}, without those that are not there."""
        found = {}
        names = {"holdfastd": "parent", "holdfastd-core": "core",
                 "holdfast-store": "store", "holdfast-api": "api"}
        for pid in self.all():
            role = names.get(stat(pid)[0])
            if role:
                found[role] = pid
        return found

    def kill(self, victim):
        """One kill; returns the Kill when everything is whole again."""
        before = self.wait_whole()
        when = time.monotonic()
        os.kill(before[victim], signal.SIGKILL)
        if victim == "parent":
            self._daemon.adopt(before["core"])
        after = self.wait_whole({victim: before[victim]})
        if victim == "api":
            self._ask_api()
        recovery = None
        if victim == "active":
            recovery = self._daemon.status(self._instance)["last_recovery_us"]
            if after["active"] != before["standby"]:
                raise AssertionError("another one than the standby took over")
        return killer.Kill(when, before[victim], recovery, victim)

    def wait_whole(self, gone=()):
        """Waits until every process is there, none of `gone` ({role: pid}).

        Returns {role: pid}.
        """
        def whole():
            status = self._daemon.wait_whole(self._instance)
            roles = dict(self.roles(), active=status["active_pid"],
                         standby=status["standby_pid"])
            if status["backend_pid"]:
                roles["backend"] = status["backend_pid"]
            if status["backend_spare_pid"]:
                roles["backend-spare"] = status["backend_spare_pid"]
            if any(victim not in roles for victim in self._victims):
                return None
            if any(roles[role] == pid for role, pid in dict(gone).items()):
                return None
            return roles
        return processes.wait_for(whole, WHOLE_SECONDS, "all processes", 0.02)

    def footprint(self):
        """When everything has settled: it is the same at two looks."""
        looks = [None]

        def settled():
            roles = self.wait_whole()
            looks.append(Footprint(roles, self.all(), self._daemon.directory))
            return looks[-2] and looks[-2].same(looks[-1])
        processes.wait_for(settled, WHOLE_SECONDS, "rest", 0.25)
        return looks[-1]

    def _ask_api(self):
        """The people's way in works, too."""
        words = [parts.built("launcher/cli/holdfast"),
                 "--run-dir=" + self._daemon.directory, "status",
                 self._instance, "--json"]
        processes.wait_for(
            lambda: subprocess.run(words, capture_output=True,
                                   check=False).returncode == 0,
            WHOLE_SECONDS, "an answer of holdfast-api", 0.1)

    def _reap(self):
        for pid in children(os.getpid()):
            name, state = stat(pid)
            if state == "Z" and name in self._names:
                self._daemon.reap(pid)


class AnyProcess:
    """Before a HoldfastDevice: a whole Holdfast of which any process is killed,
    by turns and in a random order."""

    api = True
    victims = VICTIMS
    seed = 7

    def __init__(self, *args, **options):
        become_reaper()
        super().__init__(*args, **options)
        self.faults = Faults(self.daemon, self.instance, self.programs(),
                             self.victims)
        self.first = None
        self.counts = dict.fromkeys(self.victims, 0)
        self._order = random.Random(self.seed)
        self._next = []

    def kill(self):
        if not self._next:
            # Everybody's turn comes equally often.
            self._next = list(self.victims)
            self._order.shuffle(self._next)
        victim = self._next.pop()
        done = self.faults.kill(victim)
        self.counts[victim] += 1
        # What one core or store after the first holds may differ by a little.
        if self.first is None and min(self.counts.values()) > 0:
            self.first = self.faults.footprint()
        return done

    def growth(self):
        """What has been leaked since each had been killed once, in words."""
        return self.first.growth(self.faults.footprint())

    def stop(self):
        self._cgroups = set().union(*map(own_cgroups, self.faults.all()))
        super().stop()
        self.left = self.faults.all()
        self.files_left = sorted(
            set(os.listdir(self.daemon.directory)) - {"log"})
        self.cgroups_left = sorted(filter(os.path.isdir, self._cgroups))


class AnyProcessDevice(AnyProcess, device.HoldfastDevice):
    """virtio-blk."""

    name = "Holdfast, any process"

    def programs(self):
        return [self.program]


class AnyProcessWrapped(AnyProcess, device.WrappedStorageDaemon):
    """A wrapped back-end; that, too, is killed."""

    name = "Holdfast around qemu-storage-daemon, any process"
    victims = VICTIMS + BACKEND_VICTIMS

    def programs(self):
        return [self.program, self.backend]
