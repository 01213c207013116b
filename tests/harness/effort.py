"""How much a test does: see docs/testing.md."""

import os
import time

# Seconds between two lines about what is under way.
PROGRESS_SECONDS = 60


def kills(suite, long):
    """How often to kill: `suite` times in the normal suite, `long` times in the
    long mode (HOLDFAST_LONG=1), else as often as HOLDFAST_KILLS says."""
    wanted = os.environ.get("HOLDFAST_KILLS")
    if wanted:
        return max(1, int(wanted))
    return long if os.environ.get("HOLDFAST_LONG") == "1" else suite


class Progress:
    """Says how far a long piece of work is, once a minute: a short one says
    nothing. To standard output, which `tools/test --long` shows as it comes."""

    def __init__(self, total, seconds=PROGRESS_SECONDS):
        self._total = total
        self._seconds = seconds
        self._start = self._said = time.monotonic()

    def tell(self, done):
        """To be called now and then."""
        now = time.monotonic()
        if now - self._said < self._seconds:
            return
        self._said = now
        print("%s %d of %d kills, %.0f a second" % (
            time.strftime("%H:%M:%S"), done, self._total,
            done / max(now - self._start, 1e-9)), flush=True)
