"""Reading a referral for one's own next step, and taking that step again when somebody else was faster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from exchange.referral.errors import TransitionError
from exchange.referral.events import STOPS
from exchange.referral.lifecycle import EventName, Side, State, check_new
from exchange.storage.access import AuditEntry, add_audits
from exchange.storage.consents import StaleConsentError
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord, load_arrived
from exchange.storage.referrals import EventRecord, ReferralRecord, StaleReferralError, events_of, load_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import changed_meanwhile, destroyed, not_found
from exchange.use_cases.transitions import acceptance_counts, as_event, as_events, next_number, own_state

T = TypeVar("T")
ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One referral with everything this side knows of it."""

    record: ReferralRecord
    facts: Facts
    events: tuple[EventRecord, ...]

    def own(self) -> list[EventRecord]:
        """This side's own events, oldest first."""
        mine = [event for event in self.events if event.side == self.record.side]
        return sorted(mine, key=lambda event: event.number)

    def words(self) -> list[EventRecord]:
        """What this side has said of the referral, oldest first. Her no uses up a number too, and is hers."""
        return [event for event in self.own() if event.name not in STOPS]

    def state(self, at: int) -> State:
        """The state from everything this side knows."""
        return own_state(self.record, as_events(self.events), at)

    def accepted(self, at: int) -> bool:
        """Whether the receiving side has accepted, in time, whatever it said since: on the referring side.

        The rows of events do not suffice: which answer accepted was sealed when it came.
        """
        events = as_events(self.events)
        return self.facts.accepting is not None and acceptance_counts(events, own_state(self.record, events, at))


async def read_case(node: Node, referral: str, side: Side, unit: str | None) -> Case:
    """The referral, if it exists, this agency is on that side of it, and this branch of it may see it.

    Raises:
        NotFoundError: it does not, or is not, or may not.
        GoneError: only its tombstone is left.
    """

    def read(conn: Connection) -> tuple[ReferralRecord | None, list[EventRecord]]:
        found = load_referral(conn, referral, unit)
        return found, events_of(conn, [referral])[referral] if found is not None else []

    record, events = await node.database.read(read)
    if record is None or record.side != side:
        raise not_found()
    if record.sealed_facts is None:
        raise destroyed()
    return Case(record, open_facts(node, referral, record.sealed_facts), tuple(events))


def find_item(conn: Connection, item: str, unit: str | None) -> tuple[int, ArrivedRecord, ReferralRecord]:
    """An inbox item with its sequence number and its referral.

    Raises:
        NotFoundError: there is no such item, or this branch may not see it.
    """
    found = load_arrived(conn, [item], unit)
    record = load_referral(conn, found[item][1].referral, unit) if item in found else None
    if record is None:
        raise not_found()
    return *found[item], record


async def referral_of_item(node: Node, item: str, unit: str | None) -> str:
    """The referral that an inbox item is about.

    Raises:
        NotFoundError: there is no such item, or this branch may not see it.
    """
    _, row, _ = await node.database.read(lambda conn: find_item(conn, item, unit))
    return row.referral


def new_event(
    node: Node,
    case: Case,
    name: EventName,
    *,
    digest: str | None = None,
    shared: bool = True,
    number: int | None = None,
    dated: int = 0,
) -> EventRecord:
    """This side's next event, if it is legal and in time: now, and at the moment it is dated where that is later.

    Raises:
        ConflictError: it is not; the code says why.
    """
    at = max(node.clock(), dated)
    record = case.record
    event = EventRecord(
        record.id,
        record.side,
        number if number is not None else next_number(record, at),
        name.value,
        record.seen,
        at,
        shared,
        digest,
    )
    try:
        check_new(as_event(event), as_events(case.events), respond_by=record.respond_by)
    except TransitionError as error:
        raise ConflictError(error.code, error.sentence) from error
    return event


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """Take a step, and take it again from the start when a referral or consent changed meanwhile.

    Raises:
        ConflictError: `changed-meanwhile`, after a few tries.
    """
    for _ in range(ATTEMPTS):
        try:
            return await work()
        except (StaleReferralError, StaleConsentError):
            continue
    raise changed_meanwhile()


def audit(
    conn: Connection, node: Node, acting: Acting, action: str, subject_ids: Iterable[str], detail: str | None = None
) -> None:
    """One line of the local record for each id: who did what, never what was said."""
    at = node.clock()
    add_audits(conn, [AuditEntry(at, action, one, acting.client_id, acting.actor, detail) for one in subject_ids])
