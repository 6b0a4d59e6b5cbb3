"""How much one client or one peer may ask for, in requests or bytes: a token bucket for each, in memory and bounded.

Rules:

* A bucket holds one minute's worth and refills evenly.
* Whoever has something left may take more than that, once, and waits until it is paid back: what is larger than what
  is left now would otherwise never go.
* At most `REMEMBERED` buckets are kept; the one that was used longest ago goes first. A bucket that comes back is full,
  so forgetting one is never a refusal.
* Only proven callers have a bucket: nobody can use up another one's by naming it.
* Of bytes there is a reserve, a bucket of its own: a small request is taken from it when the others are used up, and a
  large one never. It is all that a caller gains by making its requests small.
* Of one caller's refusals for its rate, and of a peer's small batches that are none, one is told every
  `REFUSED_EVERY_S`: who does not wait as it was told is made to, and the others have the processor. A single one is
  told at once, and so are those for which the caller would wait `REFUSED_WITHIN_S` and more: what waits has a
  connection and a small body, or a part of one, in memory, and is bounded.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

REMEMBERED = 4096
REFUSED_EVERY_S = 0.02
REFUSED_WITHIN_S = 1.0
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
        if then - now > _MINUTE_MS:
            then = now  # the clock was ahead and is right again; it must not stand still for who called meanwhile
        refilled = level + max(0, now - then) * self._per_minute / _MINUTE_MS
        level = min(float(self._per_minute), refilled)
        allowed = level >= 1
        # Never an earlier time: what was refilled up to the later one would be refilled once more.
        self._levels[caller] = (level - count if allowed else level, max(then, now))
        if len(self._levels) > self._remembered:
            self._levels.popitem(last=False)
        return None if allowed else max(1, math.ceil((1 - level) * 60 / self._per_minute))


class ByteBuckets:
    """Bytes a minute for each caller, and a reserve for its small requests."""

    def __init__(self, per_minute: int, *, reserve: int, small: int) -> None:
        """Take the bytes a minute, those of the reserve, and how large a small request is at most."""
        self._bytes = Buckets(per_minute)
        self._reserve = Buckets(reserve)
        self._small = small

    def take(self, caller: str, *, now: int, count: int, size: int | None) -> int | None:
        """Take so many bytes for a request of this size.

        Args:
            caller: the proven id.
            now: Unix milliseconds.
            count: bytes to take; none, where a request only asks whether it may go on.
            size: how large the request is at most; nothing where nobody knows.

        Returns:
            `None` when the request may go on, otherwise the whole seconds after which one of its size may.
        """
        wait = self._bytes.take(caller, now=now, count=count)
        if wait is None or size is None or size > self._small:
            return wait
        sooner = self._reserve.take(caller, now=now, count=count)
        return None if sooner is None else min(wait, sooner)


class Refusals:
    """When refused callers hear that they are."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        """Nobody was refused yet."""
        self._remembered = remembered
        self._next: OrderedDict[str, float] = OrderedDict()

    async def turn(self, caller: str) -> None:
        """Return when it is time to tell the caller."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next.pop(caller, now))
        late = turn - now >= REFUSED_WITHIN_S
        self._next[caller] = turn if late else turn + REFUSED_EVERY_S
        if len(self._next) > self._remembered:
            self._next.popitem(last=False)
        await asyncio.sleep(0 if late else turn - now)
