"""How much one client or one peer may ask for, in requests or bytes: a token bucket for each, in memory and bounded.

Rules:

* A bucket holds one minute's worth and refills evenly.
* Whoever has something left may take more than that, once, and waits until it is paid back: what is larger than what
  is left now would otherwise never go.
* At most `REMEMBERED` buckets are kept; the one that was used longest ago goes first. A bucket that comes back is full,
  so forgetting one is never a refusal.
* Only proven callers have a bucket: nobody can use up another one's by naming it.
"""

from __future__ import annotations

import math
from collections import OrderedDict

REMEMBERED = 4096
_MINUTE_MS = 60_000


class Buckets:
    """The buckets of one kind of caller."""

    def __init__(self, per_minute: int, *, remembered: int = REMEMBERED) -> None:
        """Take how many requests, or bytes, a minute each caller has."""
        self._per_minute = per_minute
        self._remembered = remembered
        self._levels: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, caller: str, *, now: int, count: int = 1) -> int | None:
        """Take from the caller's bucket.

        Args:
            caller: the proven id.
            now: Unix milliseconds.
            count: one request, or so many bytes.

        Returns:
            `None` when the request may go on, otherwise the whole seconds after which the next one may.
        """
        level, then = self._levels.pop(caller, (float(self._per_minute), now))
        refilled = level + max(0, now - then) * self._per_minute / _MINUTE_MS
        level = min(float(self._per_minute), refilled)
        allowed = level >= 1
        # Never an earlier time: what was refilled up to the later one would be refilled once more.
        self._levels[caller] = (level - count if allowed else level, max(then, now))
        if len(self._levels) > self._remembered:
            self._levels.popitem(last=False)
        return None if allowed else max(1, math.ceil((1 - level) * 60 / self._per_minute))
