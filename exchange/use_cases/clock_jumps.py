"""A clock that has jumped ahead destroys nothing and ends nothing before somebody has confirmed the time.

Rules:

* What has ended by a clock that jumped is denied as ever: not released, not opened, not sent. It is only not destroyed.
* How long the node has run is not asked of that clock: each process measures it by one that nobody can set.
* Confirmed is the time by a peer that has taken our word for it (it gave a token for an assertion that is good for five
  minutes), by an operator, or by three days of running (`exchange.storage.clock_look`).
* Her no waits for nothing of this, and what she wants erased is destroyed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exchange.limits import MINUTE_MS, SECOND_MS
from exchange.storage.clock_look import ClockLook, clock_look, confirm_look, ends_by, hold_look, remember_look
from exchange.storage.database import Connection
from exchange.use_cases.node import Node

LOOK_EVERY_MS: Final = MINUTE_MS


async def ending_time(node: Node) -> int:
    """What has ended by this time may be destroyed: now, unless the clock has jumped."""
    at = node.clock()
    return await node.database.read(lambda conn: ends_by(conn, at))


async def clock_jumped(node: Node) -> bool:
    """Whether the clock is further ahead than this node has seen, and nobody has confirmed it."""
    at = node.clock()
    return await node.database.read(lambda conn: ends_by(conn, at)) < at


class ClockWatch:
    """One process's looks at the clock."""

    def __init__(self, node: Node, seconds: Callable[[], float]) -> None:
        """`seconds`: a clock that only runs, and that nobody can set (`time.monotonic`)."""
        self._node = node
        self._seconds = seconds
        self._seen: ClockLook | None = None
        self._seen_at = seconds()

    async def look(self) -> ClockLook:
        """Note the time, once a minute."""
        node, at = self._node, self._node.clock()

        def commit(conn: Connection) -> ClockLook:
            last = hold_look(conn)
            look = last.after(at, self._ran_ms(last)) if last is not None else ClockLook(at, at)
            remember_look(conn, look)
            return look

        look = await node.database.read(clock_look)
        if look is None or max(self._ran_ms(look), abs(at - look.looked_at)) >= LOOK_EVERY_MS:
            look = await node.database.write(commit, durable=False)
        if look != self._seen:
            self._seen, self._seen_at = look, self._seconds()
        return look

    def _ran_ms(self, look: ClockLook) -> int:
        """What has certainly passed since that look: nothing, if another process took it since this one's last."""
        return round((self._seconds() - self._seen_at) * SECOND_MS) if look == self._seen else 0


async def confirm_clock(node: Node, at: int) -> bool:
    """Somebody else says that it was this time when the clock said so; whether that was in doubt."""
    look = await node.database.read(clock_look)
    if look is None or at - look.settled_at < LOOK_EVERY_MS:
        return False
    return await node.database.write(lambda conn: confirm_look(conn, at))
