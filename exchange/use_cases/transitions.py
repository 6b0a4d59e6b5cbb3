"""What follows from an event: the state, the clocks, what happens to a held disclosure, what has to be destroyed.

Rules:

* The state is a pure function of all events of both sides (`exchange.referral.lifecycle`) and nothing else.
* A held disclosure is released by an acceptance only, and only by one that counts (`acceptance_counts`). Decline,
  redirection, recall, withdrawal, expiry and error delete it; `waitlisted` ends the hold and asks for a fresh
  one later. So does an end that is undone: an expiry by a decision in time, a recall by a service that had begun.
* `automatic` releases at once; `confirm` asks a worker first, but never for an emergency.
* A name that was released counts against its receiver until the receiver serves (in-service, completed, failed) or the
  referral ends otherwise. A place or a call, or her not being there, is no service yet.
* A referral that has ended is destroyed after the time its contract says: declined and recalled, expired, closed.
  What remains is the tombstone, and it too ends, unless a stop of this side's waits to leave.
* Her no counts also where what the contract says of it cannot be read. What it ends is then destroyed after the
  shortest time that the protocol knows: 24 hours. What had ended before keeps its time.
* `erase` blocks at once. Said by the recording agency it destroys at once; said by the other party it destroys after
  24 hours, so that a member that lies cannot wipe another's records unseen. Neither is counted from a time to come:
  what a clock that was ahead has dated is counted from the next change, at the latest from the delivery of her no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from contracts.vocabulary import Priority, ReleaseMode
from contracts.vocabulary.term import by_word
from exchange.limits import DAY_MS, LIMITS
from exchange.referral import clocks
from exchange.referral.lifecycle import (
    TERMINAL,
    Event,
    EventName,
    Side,
    State,
    local_state,
    merge,
    sender_view,
    sharing_stopped,
    withdrawal_form,
)
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.use_cases.facts import Facts
from exchange.use_cases.row_by_row import UNREADABLE

ReadFacts = Callable[[], Facts | None]
"""What the row says; nothing once a referral is a tombstone."""
LONGEST_RETENTION_MS: Final = 365 * DAY_MS
"""Nothing is kept without an end, whatever a contract says."""
HOLDING: Final = frozenset({"held", "confirm", "unserved", "release-due"})
_SIDES, _NAMES = by_word(Side), by_word(EventName)
_UNDECIDED: Final = frozenset({State.SENT, State.RECEIVED, State.INFORMATION_REQUESTED})
_NOT_SERVED: Final = frozenset({State.ACCEPTED, State.SCHEDULED, State.NOT_REACHED, State.NOT_ARRIVED})


def as_event(record: EventRecord) -> Event:
    """The event of a row."""
    return Event(_SIDES[record.side], _NAMES[record.name], record.number, record.seen, record.at, record.shared)


def as_events(records: Iterable[EventRecord]) -> list[Event]:
    """The events of rows."""
    return [as_event(record) for record in records]


def shared_state(record: ReferralRecord, events: Iterable[Event], at: int) -> State:
    """The state as this node shows it."""
    state = merge(events, respond_by=record.respond_by, at=at)
    return sender_view(state, delivered=record.side == Side.RECEIVING or record.delivered_at is not None)


def own_state(record: ReferralRecord, events: Iterable[Event], at: int) -> State:
    """The state from everything this side knows: what its own next step is judged by."""
    return local_state(events, respond_by=record.respond_by, at=at)


def acceptance_counts(events: Iterable[Event], state: State) -> bool:
    """Whether the receiving side has accepted, in time, whatever it said since; `state` follows from these events.

    An acceptance that is dated too late leaves the state as it was: nothing that identifies her follows it.
    """
    return state not in _UNDECIDED and any(event.name is EventName.ACCEPTED for event in events)


def next_number(record: ReferralRecord, at: int) -> int:
    """This side's next number: milliseconds, raised where the clock has not moved."""
    return max(at, record.number + 1)


def goes_by_itself(facts: Facts) -> bool:
    """Whether an acceptance releases without a worker's word."""
    return facts.release is ReleaseMode.AUTOMATIC or facts.priority is Priority.EMERGENCY


def settle_state(
    record: ReferralRecord, facts: ReadFacts, records: Iterable[EventRecord], *, at: int
) -> ReferralRecord:
    """The record after these events: state, hold, retention. Facts are asked for only where something hangs on them."""
    events = as_events(records)
    state = shared_state(record, events, at)
    changed = record
    if record.state != state or record.updated_at != at:
        changed = record._replace(state=state.value, updated_at=at)
    if sharing_stopped(events) and changed.sharing_stopped_at is None:
        changed = changed._replace(sharing_stopped_at=at)
    if record.side == Side.REFERRING:
        if changed.hold in HOLDING:
            changed = changed._replace(hold=_hold(changed, facts, state, events))
        if changed.unserved_until is not None and (state not in _NOT_SERVED or changed.disclosed_at is None):
            changed = changed._replace(unserved_until=None)
    if state in TERMINAL:
        changed = _closed(changed, facts, state, events, at)
    elif changed.closed_at is not None and changed.destroyed_at is None and changed.blocked_at is None:
        # A decision that was made in time arrived after its expiry had been computed, or a service had begun before its
        # recall was known. It counts, and what the end has deleted is asked for again.
        hold = "awaiting-disclosure" if changed.hold == "deleted" else changed.hold
        changed = changed._replace(closed_at=None, destroy_at=None, forget_at=None, hold=hold)
    return changed


def _hold(record: ReferralRecord, read_facts: ReadFacts, state: State, events: Iterable[Event]) -> str:
    """What becomes of a hold that has not ended yet."""
    if state in TERMINAL or record.sharing_stopped_at is not None:
        return "deleted"
    if state is State.WAITLISTED:
        return "awaiting-disclosure"
    # Progress that arrives without the acceptance, which was barred or refused on its way, changes the state and
    # releases nothing.
    if record.hold == "held" and acceptance_counts(events, state):
        facts = read_facts()
        return "release-due" if facts is not None and goes_by_itself(facts) else "confirm"
    return record.hold


def _closed(
    record: ReferralRecord, read_facts: ReadFacts, state: State, events: Iterable[Event], at: int
) -> ReferralRecord:
    closed_at, blocked_at = record.closed_at or at, record.blocked_at
    sides = {event.side for event in events if event.name is EventName.ERASE}
    if sides:
        blocked_at = min(blocked_at or at, at)
    if Side.REFERRING in sides:
        closed_at = min(closed_at, at)
    if record.destroyed_at is not None and record.forget_at is not None:
        # A tombstone ends two years after what it stands for was destroyed, whatever is said of it meanwhile.
        return record._replace(blocked_at=blocked_at)
    ends: int | None = closed_at
    if Side.REFERRING not in sides:
        try:
            facts = read_facts()
        except UNREADABLE:
            if withdrawal_form(events) is None:
                raise
            ends = _kept_unread(record, closed_at, blocked_at)
        else:
            ends = _kept_until(facts, state, closed_at, blocked_at)
    destroy_at = min(end for end in (ends, record.destroy_at, closed_at + LONGEST_RETENTION_MS) if end is not None)
    return record._replace(
        closed_at=closed_at,
        blocked_at=blocked_at,
        destroy_at=destroy_at,
        forget_at=clocks.forget_at(destroy_at),
    )


def _kept_until(facts: Facts | None, state: State, closed_at: int, blocked_at: int | None) -> int | None:
    """When its content has to be destroyed, where the recording agency has not said `erase`."""
    if facts is None:
        # There never was anything: the tombstone of a stop that came before its offer.
        return closed_at
    if blocked_at is not None:
        # Counted from her word, not from the end of the service, which may be long past.
        return blocked_at + LIMITS.code_withdrawal_contest_ms
    return clocks.destroy_at(state, closed_at=closed_at, retention=facts.retention)


def _kept_unread(record: ReferralRecord, closed_at: int, blocked_at: int | None) -> int:
    """As `_kept_until`, where the facts cannot be read: what her no has ended is kept for no longer than 24 hours."""
    if blocked_at is None and record.destroy_at is not None:
        return record.destroy_at
    return (blocked_at or closed_at) + LIMITS.code_withdrawal_contest_ms
