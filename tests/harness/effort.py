"""How much a test does: see docs/testing.md."""

import os


def kills(suite, long):
    """How often to kill: `suite` times in the normal suite, `long` times in the
    long mode (HOLDFAST_LONG=1), else as often as HOLDFAST_KILLS says."""
    wanted = os.environ.get("HOLDFAST_KILLS")
    if wanted:
        return max(1, int(wanted))
    return long if os.environ.get("HOLDFAST_LONG") == "1" else suite
