"""What this node last saw of the time. Pure arithmetic; nothing here reads a clock.

Rules:

* It is certainly as late as it was at the last look, and what the node has run since. How long that is says a clock
  that nobody can set (`ran_ms`), never the difference of two times.
* A clock that is ahead of that by an hour at most is believed: restarts and sleep that nobody counted.
* A clock that is further ahead has jumped: the node was off, or the clock is wrong, and nothing here can tell which.
  Until somebody else confirms the time, only what is over by what is certain ends.
* What is certain comes nearer to the clock by a twentieth of what the node runs, so that small losses do not add up.
* No doubt is without an end: after three days of running the clock counts, whatever it says.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from exchange.limits import DAY_MS, HOUR_MS
from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_or_replace
from exchange.storage.tables import CLOCK_LOOK

JUMP_MS: Final = HOUR_MS
"""Less than any time zone that matters here: a clock that was set to local time is ahead by six hours or more."""
DOUBTED_AT_MOST_MS: Final = 3 * DAY_MS
"""Of running. A weekend passes, and on Monday somebody looks."""
_NEARER_PART: Final = 20
"""More than is lost where two processes look in turn (two seconds a minute); no more is gained by who sets a clock."""


class ClockLook(NamedTuple):
    """The last look at the clock."""

    settled_at: int
    """That it is at least so late is certain, if it was when the node began to look."""
    looked_at: int
    """What the clock said at the last look."""
    doubted_ms: int = 0
    """How long the node has run since it jumped; 0 while it has not."""

    def ends_by(self, now: int) -> int:
        """What ends after this is not destroyed yet: now, or what is settled of a clock that has jumped."""
        return now if now - self.settled_at <= JUMP_MS else self.settled_at

    def doubts(self, now: int) -> bool:
        """Whether the clock has jumped."""
        return self.ends_by(now) < now

    def after(self, now: int, ran_ms: int) -> ClockLook:
        """The next look, when the node has run so long since this one."""
        settled = min(now, self.settled_at + ran_ms + ran_ms // _NEARER_PART)
        doubted = self.doubted_ms + ran_ms if now - settled > JUMP_MS else 0
        return ClockLook(settled, now, doubted) if doubted < DOUBTED_AT_MOST_MS else ClockLook(now, now)


_COLUMNS: Final = ClockLook._fields
_ROW: Final = select(*(CLOCK_LOOK.c[name] for name in _COLUMNS))
_LOOK: Final = Prepared(_ROW)
_HOLD_LOOK: Final = Prepared(_ROW.with_for_update())
_REMEMBER: Final = Prepared(insert_or_replace(CLOCK_LOOK, _COLUMNS), columns=["one", *_COLUMNS])


def clock_look(conn: Connection) -> ClockLook | None:
    """The last look; nothing before the first."""
    row = _LOOK.row(conn, {})
    return ClockLook(*row) if row is not None else None


def hold_look(conn: Connection) -> ClockLook | None:
    """The same, for who writes the next one: nobody else does meanwhile."""
    row = _HOLD_LOOK.row(conn, {})
    return ClockLook(*row) if row is not None else None


def ends_by(conn: Connection, now: int) -> int:
    """As `ClockLook.ends_by`; where nobody has looked yet, now."""
    look = clock_look(conn)
    return now if look is None else look.ends_by(now)


def remember_look(conn: Connection, look: ClockLook) -> None:
    """This was the last look."""
    _REMEMBER.run(conn, {"one": 1} | look._asdict())


def confirm_look(conn: Connection, at: int) -> bool:
    """Somebody else says that it was this time when the clock said so; whether that was in doubt."""
    look = hold_look(conn)
    if look is None or look.settled_at >= at:
        return False
    remember_look(conn, ClockLook(at, at))
    return look.doubts(at)
