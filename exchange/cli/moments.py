"""Moments on the screen and on paper: in UTC, as everything here, and on the clock of this machine where that differs.

A worker reads `14:00` on the wall clock. Of a call or an arrival that would be the wrong hour.
"""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: datetime) -> str:
    """`2026-11-30 14:00 UTC`, and what the clock here shows then."""
    here = _here(at)
    told = f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{told} (here {here:%Y-%m-%d %H:%M})" if here.utcoffset() else told


def moment_here(at: datetime) -> str:
    """`2026-11-30 22:00 (UTC+08:00)`: the clock here alone, for paper, where nobody should have to choose."""
    here = _here(at)
    offset = here.isoformat()[-len("+08:00") :]
    return f"{here:%Y-%m-%d %H:%M} (UTC{offset})" if here.utcoffset() else f"{here:%Y-%m-%d %H:%M} UTC"


def _here(at: datetime) -> datetime:
    """On the clock here; in UTC where that one's calendar has ended, or not begun: another agency wrote the moment."""
    try:
        return at.astimezone()
    except (OverflowError, ValueError):
        return at.astimezone(UTC)
