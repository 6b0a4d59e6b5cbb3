"""How much time has passed, for what must not be held good for too long: a look at her no, a resting connection.

Nobody can set this clock, and it goes on while the machine sleeps. `time.monotonic` stands still on Linux for as long
as a laptop's lid is shut: what it calls a second ago may be from yesterday. Waits and measurements go by that one, and
so does how long a node has run (`use_cases.clock_jumps`): there less time is the safe side.
"""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""On Linux the second one does not count sleep; on macOS, which has no other, it does."""


def elapsed_s() -> float:
    """Seconds since some moment; only differences mean anything."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
