"""Follow referrals: one by id, or all changes after a cursor. State and flags, never content."""

from __future__ import annotations

import time
from collections.abc import Sequence

from exchange.referral.lifecycle import TERMINAL
from exchange.schemas.referrals import OpenReferrals, ReferralChange, ReferralChanges, ReferralView
from exchange.schemas.shapes import from_millis
from exchange.storage import referrals
from exchange.storage.consents import load_consent
from exchange.storage.database import Connection
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.branches import may_see
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
        return whole_view(conn, _as_of_now(node, conn, record)) if record is not None else None

    view = await node.database.read(read)
    if view is None:
        raise not_found()
    return view


async def open_under(node: Node, consent: str, unit: str | None) -> OpenReferrals:
    """What is open under a consent, the oldest first: who sends again looks here whether it went the first time.

    Raises:
        NotFoundError: there is no such consent, or this branch may not see it.
    """

    def read(conn: Connection) -> list[ReferralView] | None:
        if load_consent(conn, consent, unit) is None:
            return None
        made = [one for one in referrals.referrals_of_consent(conn, consent) if may_see(one, unit)]
        still = [_as_of_now(node, conn, one) for one in sorted(made, key=lambda one: one.created_at)]
        return [referral_view(one) for one in still if one.closed_at is None and one.state not in TERMINAL]

    views = await node.database.read(read)
    if views is None:
        raise not_found()
    return OpenReferrals(items=tuple(views))


def _as_of_now(node: Node, conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """An expiry is computed, not sent: it holds from its moment on, whether or not the clock-keeper came by."""
    if record.closed_at is not None:
        return record
    events = as_events(referrals.events_of(conn, [record.id])[record.id])
    return record._replace(state=shared_state(record, events, node.clock()).value)


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
