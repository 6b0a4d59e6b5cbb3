"""The one way in which a referral changes: new events in, state, hold and clocks follow, the change list is told.

Runs inside a transaction. A held disclosure whose hold ended is deleted here, in the same commit as the event that
ended it: there is no moment in which she has said no and her name can still be released. So is every forward that waits
when the referral ends, by whatever and whomever: nothing more is told (`use_cases.leaving`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from exchange.referral.lifecycle import Side, State
from exchange.storage.clock_look import ends_by
from exchange.storage.database import Connection
from exchange.storage.outbox import delete_held
from exchange.storage.referrals import (
    EventRecord,
    ReferralRecord,
    add_change,
    add_changes,
    add_event,
    events_of,
    lock_referral,
    lock_referrals,
    save_referral,
    save_referrals,
)
from exchange.storage.transaction import signal
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Node
from exchange.use_cases.taking_back import take_back_at_the_end
from exchange.use_cases.transitions import HOLDING, settle_state

Adjust = Callable[[ReferralRecord], ReferralRecord]


def change_referral(
    node: Node,
    conn: Connection,
    record: ReferralRecord,
    *,
    what: str,
    events: Iterable[EventRecord] = (),
    adjust: Adjust | None = None,
    facts: Facts | None = None,
    if_new: bool = False,
) -> ReferralRecord:
    """Record events, settle what follows, save.

    Args:
        node: clock, limits, storage key.
        conn: the transaction.
        record: the referral as read in this transaction, or with a version that guards it.
        what: for the change list; a stable word.
        events: new events of either side; those on record already change nothing.
        adjust: changes of other columns, applied before the state is settled.
        facts: new facts; otherwise those of the row.
        if_new: the change list is told only where something is new by it, so that a peer that says the same again and
            again makes it no longer.

    Raises:
        StaleReferralError: somebody else wrote first.
    """
    at = node.clock()
    before, news = record, not if_new
    for event in events:
        news |= add_event(conn, event)
        if event.side == record.side:
            record = record._replace(number=max(record.number, event.number))
        else:
            record = record._replace(seen=max(record.seen, event.number))
    if adjust is not None:
        record = adjust(record)
    settled = _settled(node, conn, record, facts, events_of(conn, [record.id])[record.id], at)
    settled = _taken_back(conn, before, settled)
    saved = save_referral(conn, settled)
    _drop_held(conn, before, settled)
    _tell_of_room(conn, before, settled)
    if record.side == Side.REFERRING and (news or _differ(before, settled)):
        add_change(conn, record.id, what, at)
        signal(conn, "changes")
    return saved


def _differ(before: ReferralRecord, after: ReferralRecord) -> bool:
    """Whether more is new than when, in which envelope, and with which number it was said."""
    return before._replace(updated_at=after.updated_at, seen=after.seen, sealed_facts=after.sealed_facts) != after


def change_by_id(
    node: Node,
    conn: Connection,
    referral: str,
    *,
    what: str,
    events: Iterable[EventRecord] = (),
    adjust: Adjust | None = None,
) -> ReferralRecord | None:
    """As `change_referral`, for a referral that is read here; nothing if there is none."""
    record = lock_referral(conn, referral)
    if record is None:
        return None
    return change_referral(node, conn, record, what=what, events=events, adjust=adjust)


def change_each(node: Node, conn: Connection, referrals: Iterable[str], *, what: str, adjust: Adjust) -> None:
    """As `change_by_id`, the same change to many, with one statement for each table."""
    wanted = list(referrals)
    # Nothing is asked where nothing is wanted, which is what most batches want of most changes.
    if not wanted or not (records := lock_referrals(conn, wanted)):
        return
    at = node.clock()
    events = events_of(conn, records)
    changed = [
        (record, _taken_back(conn, record, _settled(node, conn, adjust(record), None, events[record.id], at)))
        for record in records.values()
    ]
    for before, after in changed:
        _drop_held(conn, before, after)
        _tell_of_room(conn, before, after)
    save_referrals(conn, changed)
    told = [(record.id, what, at) for record in records.values() if record.side == Side.REFERRING]
    add_changes(conn, told)
    if told:
        signal(conn, "changes")


def _settled(
    node: Node, conn: Connection, record: ReferralRecord, facts: Facts | None, events: Iterable[EventRecord], at: int
) -> ReferralRecord:
    def read() -> Facts | None:
        if facts is None and record.sealed_facts is not None:
            return open_facts(node, record.id, record.sealed_facts)
        return facts

    events = list(events)
    settled = settle_state(record, read, events, at=at)
    if settled.state == State.EXPIRED and record.state != State.EXPIRED:
        # Of all that happens to a referral this alone is the clock's doing, which may have jumped ahead.
        return settle_state(record, read, events, at=ends_by(conn, at))
    return settled


def _taken_back(conn: Connection, before: ReferralRecord, after: ReferralRecord) -> ReferralRecord:
    """At its end what its maker has not sent yet stays; what was released and never left was never disclosed."""
    ends = before.closed_at is None and after.closed_at is not None
    return take_back_at_the_end(conn, after) if ends and after.side == Side.REFERRING else after


def _drop_held(conn: Connection, before: ReferralRecord, after: ReferralRecord) -> None:
    """A hold that has ended otherwise than by release takes the disclosure with it."""
    if before.hold in HOLDING and after.hold not in HOLDING | {"released"}:
        delete_held(conn, before.id)


def _tell_of_room(conn: Connection, before: ReferralRecord, after: ReferralRecord) -> None:
    """A name that no longer counts against its receiver may let the release go that waits longest (`places`)."""
    if before.unserved_until is not None and after.unserved_until is None:
        signal(conn, "outbox")
