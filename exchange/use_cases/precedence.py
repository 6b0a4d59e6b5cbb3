"""Who goes first: a small piece of work before a large one.

A full batch of envelopes takes some thirty milliseconds of the only processor that an API process has. Cut into slices
it lets others in between, but each of them needs several looks of the event loop, and would wait for a slice at each.

Rules:

* Large work gives way between two slices: everybody who is ready has a turn, and small work that has begun is done
  first.
* It waits `SLICE_WAITS_S` for one slice and `WAITS_S` in all, and then for nobody: small work without end, which costs
  its maker little, makes large work a tenth of a second slower, and no more.
* What has been done counts from the beginning of the work to its end, whatever its steps are about.
* Small work that is behind large work, such as another delivery of the same member, has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

SLICE_WAITS_S: Final = 0.02
WAITS_S: Final = 0.1
SLICE: Final = 18
"""What is done between two times of giving way: so many light steps, or a third as many costly ones."""
LIGHT: Final = 1
COSTLY: Final = 3

Item = TypeVar("Item")


class Precedence:
    """Small work in progress, and large work that gives way to it."""

    def __init__(self) -> None:
        """Nobody is at work."""
        self._small = 0
        self._done = asyncio.Event()

    @contextmanager
    def small(self) -> Iterator[Slices]:
        """While this lasts, large work waits. It has no slices itself."""
        self._small += 1
        try:
            yield Slices(None)
        finally:
            self._small -= 1
            if not self._small:
                self._done.set()

    def large(self) -> Slices:
        """The slices of one large work."""
        return Slices(self)

    async def give_way(self, at_most_s: float) -> float:
        """Return when it is large work's turn again, with the seconds for which small work was waited for."""
        await asyncio.sleep(0)
        if not self._small or at_most_s <= 0:
            return 0.0
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._done.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._done.wait()
        return loop.time() - begun


class Slices:
    """How much of one work was done since others had a turn, and how long it may still wait for them."""

    def __init__(self, precedence: Precedence | None) -> None:
        """Take to whom it gives way; nobody where it is small."""
        self._precedence = precedence
        self._done = 0
        self._left_s = WAITS_S

    async def of(self, items: Iterable[Item], cost: int = COSTLY) -> AsyncIterator[Item]:
        """One item after the other, and a look at what others want when a slice is done."""
        for item in items:
            if self._done >= SLICE and self._precedence is not None:
                self._done = 0
                self._left_s -= await self._precedence.give_way(min(SLICE_WAITS_S, self._left_s))
            yield item
            self._done += cost
