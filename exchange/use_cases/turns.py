"""Turns: how much is done between two looks at what else has happened.

Many requests that arrive together would each be worked on to the point where they wait for the disk, one after the
other, before the event loop learns that the first commit is done: then the courier and the receiver have had nothing to
do, and afterwards this process has nothing to do while they work. With turns a few are worked on, then whatever is done
gets its way, then the next few.

Those of one turn go through each step of the work `together`: all of them are judged, then all of them are sealed, then
all of them are written. A step's code and tables fit into the processor's caches; the whole way does not, and one
referral after the other takes a sixth more of the processor.

Rules:

* First come, first served. Who goes away while waiting costs nobody a turn.
* A turn lasts as many rounds of the event loop as the work has steps: the next few start when these are done, or they
  would all be done at the same time after all.
* Nothing is refused and nothing is held: a turn is used up by starting. Who waits for something within it, such as a
  peer's key, holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from types import coroutine


@coroutine
def together() -> Generator[None, None, None]:
    """Let the others of this turn come as far as this caller has; the loop runs them in the order of their coming."""
    # What `asyncio.sleep(0)` does, without its two frames: every referral passes here four times.
    yield


class Turns:
    """So many starts, and then none for as many rounds of the event loop as the work has steps."""

    def __init__(self, at_once: int, *, steps: int) -> None:
        """Take how many may start in one turn, and how many steps they take."""
        self._at_once = at_once
        self._steps = steps
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False

    async def take(self) -> None:
        """Return when it is this caller's turn."""
        loop = asyncio.get_running_loop()
        if not self._running:
            self._running = True
            loop.call_soon(self._go_on, loop, self._steps)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _go_on(self, loop: asyncio.AbstractEventLoop, rounds: int) -> None:
        if rounds > 1:
            loop.call_soon(self._go_on, loop, rounds - 1)
            return
        self._left = self._at_once
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._running = bool(self._waiting)
        if self._running:
            loop.call_soon(self._go_on, loop, self._steps)
