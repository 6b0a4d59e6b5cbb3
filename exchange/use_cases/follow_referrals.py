"""Follow referrals: one by id, or all changes after a cursor. State and flags, never content."""

from __future__ import annotations

import time
from collections.abc import Sequence

from exchange.schemas.referrals import ReferralChange, ReferralChanges, ReferralView
from exchange.schemas.shapes import from_millis
from exchange.storage import referrals
from exchange.storage.database import Connection
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.looking import look_through
from exchange.use_cases.node import Node
from exchange.use_cases.poll_inbox import bad_cursor, read_cursor
from exchange.use_cases.refusals import not_found
from exchange.use_cases.transitions import as_events, shared_state
from exchange.use_cases.views import referral_view, whole_view

PAGE = 100


async def read_referral(node: Node, referral: str, unit: str | None) -> ReferralView:
    """One referral as it is at this moment, whichever side of it this agency is on.

    Raises:
        NotFoundError: there is none, or this branch may not see it.
    """

    def read(conn: Connection) -> ReferralView | None:
        record = referrals.load_referral(conn, referral, unit)
        if record is None:
            return None
        if record.closed_at is None:
            # An expiry is computed, not sent: it holds from its moment on, whether or not the clock-keeper came by.
            events = as_events(referrals.events_of(conn, [referral])[referral])
            record = record._replace(state=shared_state(record, events, node.clock()).value)
        return whole_view(conn, record)

    view = await node.database.read(read)
    if view is None:
        raise not_found()
    return view


async def list_changes(node: Node, cursor: str | None, wait: float, unit: str | None) -> ReferralChanges:
    """Changes after the cursor, oldest first; waits at most 25 seconds for the first one.

    Raises:
        InvalidError: `bad-cursor`.
    """
    after = read_cursor(cursor)

    def look(conn: Connection, at: int, most: int) -> tuple[Sequence[tuple[int, str, int, ReferralRecord]], int | None]:
        rows = referrals.list_changes(conn, at, most, unit)
        if not rows and referrals.is_no_cursor(conn, at):
            raise bad_cursor()
        return rows, referrals.end_of_look(conn, at) if unit is not None and len(rows) < most else None

    deadline = time.monotonic() + max(0.0, min(wait, node.limits.wait_longest_s))
    while True:
        mark = node.database.wake.mark("changes")
        rows, after = await look_through(node, look, after, PAGE)
        left = deadline - time.monotonic()
        if rows or left <= 0 or node.database.wake.ending:
            break
        await node.database.wake.wait("changes", min(left, 1.0), since=mark)
    items = tuple(
        ReferralChange(cursor=str(seq), what=what, at=from_millis(at), referral=referral_view(record))
        for seq, what, at, record in rows
    )
    return ReferralChanges(items=items, next_cursor=str(rows[-1][0] if rows else after))
