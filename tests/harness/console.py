"""The guest's console: lines with the host's times, and what they say."""

import json
import re
import threading
import time


class Console:
    """Collects lines from a descriptor in a thread of its own.

    Every line has the time it arrived, in seconds of time.monotonic(). All
    methods may be called from any thread.
    """

    def __init__(self, stream, log=None):
        self._stream = stream
        self._log = log
        self._lines = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        rest = b""
        while True:
            data = self._stream.read1(65536)
            now = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            if not data and rest:
                lines, rest = [rest], b""
            with self._changed:
                for raw in lines:
                    text = raw.decode("utf8", "replace").rstrip()
                    self._lines.append((now, text))
                    if self._log:
                        print("[%12.6f] %s" % (now, text), file=self._log,
                              flush=True)
                self._ended = self._ended or not data
                self._changed.notify_all()
            if not data:
                return

    def lines(self):
        """All (time, text) so far."""
        with self._changed:
            return list(self._lines)

    def matching(self, pattern):
        """The match objects of all lines in which `pattern` is found."""
        found = (re.search(pattern, text) for _, text in self.lines())
        return [match for match in found if match]

    def wait(self, pattern, timeout, start=0):
        """Waits for a line from number `start` on in which `pattern` is found.

        Returns (time, match), or None after `timeout` seconds or at the end of
        the console.
        """
        end = time.monotonic() + timeout
        number = start
        with self._changed:
            while True:
                while number < len(self._lines):
                    when, text = self._lines[number]
                    number += 1
                    match = re.search(pattern, text)
                    if match:
                        return when, match
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    return None
                self._changed.wait(left)

    def join(self):
        """Waits until the other side has closed the console."""
        self._thread.join()


def clock_offset(lines):
    """Seconds to add to the guest's clock to get the host's.

    The guest prints its clock several times; a line can be late but never
    early, so the smallest difference is the best.
    """
    offsets = [when - float(text.split()[1]) for when, text in lines
               if re.match(r"SYNC [\d.]+$", text)]
    if not offsets:
        raise ValueError("the guest printed no SYNC line")
    return min(offsets)


def stalls(lines):
    """The pauses that the guest saw: (start, length), host seconds."""
    offset = clock_offset(lines)
    found = []
    for _, text in lines:
        match = re.match(r"BLK-STALL ([\d.]+) ([\d.]+)$", text)
        if match:
            found.append((float(match[1]) + offset, float(match[2]) / 1000))
    return found


# Lines that the kernel prints when the host is busy, not when the disk is.
_KERNEL_NOISE = re.compile(
    r"clocksource|hrtimer: interrupt took|perf: interrupt took|"
    r"sched_clock|tsc: |random: crng")


class Verdict:
    """What the guest says about its disk, from the console's lines.

    Attributes:
      blocks, files: the JSON results of the two loads, or None.
      findings: lines about damage.
      lost: how many requests never completed.
      kernel: new lines of the kernel's log that may have to do with the disk.
      queues: that the guest uses of its disk, or None.
      interrupts: its lines of /proc/interrupts.
      exit_status: of the guest's script, or None if it did not come that far.
    """

    def __init__(self, lines):
        texts = [text for _, text in lines]
        self.blocks = _json(texts, "BLK-RESULT ")
        self.files = _json(texts, "FS-RESULT ")
        self.findings = [t for t in texts if re.match(
            r"(BLK|FS)-(FINDING|LOST) |VMTEST-(FAILED|INSMOD-FAILED) ", t)]
        self.lost = sum(t.startswith("BLK-LOST ") for t in texts)
        self.kernel = [
            t[len("DMESG-NEW "):] for t in texts if t.startswith("DMESG-NEW ")
            and not _KERNEL_NOISE.search(t)]
        self.kernel += [t for t in _between(
            texts, "BLK-START ", "VMTEST-EXIT ") if re.match(
                r"\[ *\d+\.\d+\] ", t)]
        self.kernel_checked = any(
            t.startswith("DMESG-CHECKED ") for t in texts)
        queues = [t for t in texts if t.startswith("BLK-QUEUES ")]
        self.queues = int(queues[0].split()[1]) if queues else None
        self.interrupts = [t for t in texts if t.startswith("BLK-IRQ ")]
        self.exit_status = None
        for text in texts:
            match = re.match(r"VMTEST-EXIT (\d+)$", text)
            if match:
                self.exit_status = int(match[1])

    def problems(self, expect_files=False):
        """Everything that is not as it must be, in words; empty if clean."""
        found = first(self.findings)
        found += first(["the guest's kernel says: " + line
                        for line in self.kernel])
        if self.exit_status is None:
            found.append("the guest did not come to its end")
        elif self.exit_status:
            found.append("the guest's exit status is %d" % self.exit_status)
        if not self.kernel_checked:
            found.append("the guest's kernel log was not checked")
        found += _load_problems("block", self.blocks)
        if expect_files or self.files:
            found += _load_problems("file", self.files)
        return found


def first(lines, most=5):
    """The first lines, and how many there are beyond them."""
    if len(lines) <= most:
        return list(lines)
    return lines[:most] + ["... and %d more like these" % (len(lines) - most)]


def _between(texts, first, last):
    """The lines from the one that starts with `first` to that with `last`."""
    inside = False
    for text in texts:
        inside = (inside or text.startswith(first)) and not text.startswith(
            last)
        if inside:
            yield text


def _json(texts, prefix):
    for text in texts:
        if text.startswith(prefix):
            return json.loads(text[len(prefix):])
    return None


def _load_problems(name, result):
    if result is None:
        return ["the %s load gave no result" % name]
    if not result["clean"]:
        return ["the %s load is not clean: %s" % (name, json.dumps(result))]
    if not result["operations"] or not result["checked_blocks"]:
        return ["the %s load checked nothing" % name]
    return []
