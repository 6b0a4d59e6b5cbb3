"""Who goes first: a small piece of work before a large one.

A full batch of envelopes takes some thirty milliseconds of the only processor that an API process has. Cut into slices
it lets others in between, but each of them needs several looks of the event loop, and would wait for a slice at each.

Rules:

* Large work gives way between two slices: everybody who is ready has a turn, and small work that has begun is done
  first.
* It waits so long and no longer, slice by slice: it may become slow, and never stands still.
* Small work that is behind large work, such as another delivery of the same member, has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LONGEST_S: Final = 0.02
"""How long one slice of large work waits for small work: some forty of them are a full batch."""


class Precedence:
    """Small work in progress, and large work that gives way to it."""

    def __init__(self) -> None:
        """Nobody is at work."""
        self._small = 0
        self._done = asyncio.Event()

    @contextmanager
    def small(self) -> Iterator[None]:
        """While this lasts, large work waits."""
        self._small += 1
        try:
            yield
        finally:
            self._small -= 1
            if not self._small:
                self._done.set()

    async def give_way(self) -> None:
        """Return when it is large work's turn again."""
        await asyncio.sleep(0)
        if self._small:
            self._done.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_S):
                    await self._done.wait()
