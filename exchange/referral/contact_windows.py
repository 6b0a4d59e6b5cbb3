"""Windows of the week as stretches of real time.

Rules:

* A window is read on the clock of its own time zone. An end before the start is on the next day.
* Where that clock jumps, a safe window is read as narrowly and an unsafe one as widely as possible: an hour that
  happens twice, or not at all, is never the reason for a call at a moment she did not mean.
* Unsafe beats safe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from exchange.referral.contact_model import Weekday, Window

_WEEKDAYS: Final = tuple(Weekday)
_DAYS_BACK: Final = 2
"""A window that began yesterday can still be open, and the zone's date can be a day off from the date in UTC."""
_DAYS_AHEAD: Final = 9


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `start`, included, until `end`, not included; both in UTC."""

    start: datetime
    end: datetime


def contact_stretches(safe: Iterable[Window], unsafe: Iterable[Window], at: datetime) -> list[Stretch]:
    """The stretches around and after this moment in which she may be contacted, in order."""
    allowed = _joined(stretch for window in safe for stretch in _stretches(window, at, wide=False))
    for window in unsafe:
        for forbidden in _stretches(window, at, wide=True):
            allowed = [part for stretch in allowed for part in _without(stretch, forbidden)]
    return [stretch for stretch in allowed if stretch.end > at]


def is_within(windows: Iterable[Window], at: datetime, *, wide: bool) -> bool:
    """Whether this moment lies in one of the windows."""
    return any(stretch.start <= at < stretch.end for window in windows for stretch in _stretches(window, at, wide=wide))


def _stretches(window: Window, at: datetime, *, wide: bool) -> Iterable[Stretch]:
    today = at.astimezone(window.zone).date()
    for days in range(-_DAYS_BACK, _DAYS_AHEAD + 1):
        day = today + timedelta(days=days)
        if _WEEKDAYS[day.weekday()] is window.weekday:
            stretch = _on(window, day, wide=wide)
            if stretch.start < stretch.end:
                yield stretch


def _on(window: Window, day: date, *, wide: bool) -> Stretch:
    begins = _instants(window, day, window.from_)
    if window.to == "24:00":
        ends = _instants(window, day + timedelta(days=1), "00:00")
    else:
        ends = _instants(window, day + timedelta(days=window.to < window.from_), window.to)
    return Stretch(min(begins), max(ends)) if wide else Stretch(max(begins), min(ends))


def _instants(window: Window, day: date, clock: str) -> tuple[datetime, datetime]:
    """Both readings of a clock time; they differ only where the clock jumps."""
    wall = datetime.combine(day, time.fromisoformat(clock), window.zone)
    return wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda one: one.start):
        if joined and stretch.start <= joined[-1].end:
            joined[-1] = Stretch(joined[-1].start, max(joined[-1].end, stretch.end))
        else:
            joined.append(stretch)
    return joined


def _without(stretch: Stretch, forbidden: Stretch) -> list[Stretch]:
    parts = (
        Stretch(stretch.start, min(stretch.end, forbidden.start)),
        Stretch(max(stretch.start, forbidden.end), stretch.end),
    )
    return [part for part in parts if part.start < part.end]
