"""What an accepted envelope does: to the batch's memory (`absorb`) and, the same, to the database (`store_arrivals`).

Rules:

* An offer makes the referral. Its content key is wrapped anew under the referral's own key; the sender's is dropped.
  Where the agency's keys live elsewhere the wrapped key stays until the agency's own software has taken it over.
* An answer is an event of the receiving side. Legality is judged by reachability, since events overtake each other; an
  older number is recorded and changes nothing.
* `seen` counts up to what this side may have said: a higher one would answer a recall that nobody has made yet.
* What is on record already is no change, however often it is said again.
* A stop always counts. About an unknown referral it leaves a tombstone that refuses the later offer; about a referral
  with another member the same, under an id of its own.
* Her no deletes at once what has not left yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.vocabulary import (
    Feedback,
    Priority,
    Purpose,
    Sector,
    WithdrawalForm,
    sector_of,
    service_of,
)
from contracts.vocabulary.term import by_word
from exchange.disclosure import lesser
from exchange.envelope.format import part_digests
from exchange.envelope.header import Header
from exchange.envelope.keys import NONCE_BYTES, ReferralKey
from exchange.envelope.kinds import Kind, KindClass
from exchange.envelope.rewrap import rewrap
from exchange.referral.lifecycle import EventName, Side, State, check_received, says_nothing_new
from exchange.stops import RefusalCode
from exchange.storage.access import AuditEntry, add_audits
from exchange.storage.batches import (
    GivenAnswer,
    add_arrived,
    add_events,
    insert_referrals,
    remember_answers,
)
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord
from exchange.storage.outbox import of_kind, refused_later
from exchange.storage.referrals import (
    EventRecord,
    ReferralRecord,
    StaleReferralError,
    events_of,
    load_referral,
    lock_referral,
    owe_attestation,
)
from exchange.use_cases.arrivals import BatchMemory, Known
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.destroy import attest_if_destroyed, record_peers_word
from exchange.use_cases.facts import Facts, open_facts, seal_facts
from exchange.use_cases.node import Node
from exchange.use_cases.stopping import take_back
from exchange.use_cases.taking_back import FORWARDS
from exchange.use_cases.transitions import as_event, as_events, settle_state
from exchange.use_cases.unheard import LATER, ended_by_the_sender
from exchange.verification import CheckedItem, VerificationError, VerifiedMessage

_PURPOSES, _PRIORITIES = by_word(Purpose), by_word(Priority)
_ENDING: Final = frozenset({Kind.WITHDRAWAL, Kind.ENTERED_IN_ERROR})
_OVER: Final = frozenset({State.WITHDRAWN.value, State.ENTERED_IN_ERROR.value})
_REFUSALS: Final = frozenset(code.value for code in RefusalCode)
_STOP_EVENTS: Final = {Kind.RECALL: EventName.RECALLED, Kind.ENTERED_IN_ERROR: EventName.ENTERED_IN_ERROR}


@dataclass(slots=True)
class Arrival:
    """One accepted envelope, on its way into the database."""

    checked: CheckedItem
    message: VerifiedMessage | None
    receipt: bytes
    leaf: str
    at: int
    referral: str
    """The referral it is about, by the id under which it lies here."""
    made: ReferralRecord | None = None
    """The referral, where this envelope makes it."""
    event: EventRecord | None = None
    """The event that it is; nothing for one that changes no state."""


def absorb(node: Node, arrival: Arrival, memory: BatchMemory) -> None:
    """Carry the batch's memory on by one envelope.

    Raises:
        TransitionError: the event is not legal.
    """
    header = arrival.checked.item.header
    known = memory.known.get(header.referral)
    if known is None:
        facts = _facts_of_offer(arrival) if header.kind is Kind.OFFER else None
        known = Known(_blank(node, arrival, facts), facts, [], set(), set())
    event = _event(arrival, known)
    if event is not None and header.kind_class is KindClass.STOP:
        event = None if says_nothing_new(as_event(event), as_events(known.events)) else event
    arrival.event = event
    if event is not None:
        check_received(as_event(event), as_events(known.events))
        known.events.append(event)
    known.received.add(header.id)
    if header.referral in memory.known:
        known.record = settle_state(_adjusted(arrival, known.record), lambda: known.facts, known.events, at=arrival.at)
    else:
        known.record = settle_state(known.record, lambda: known.facts, known.events, at=arrival.at)
        arrival.made = known.record
        memory.known[header.referral] = known


def store_arrivals(node: Node, conn: Connection, arrivals: Sequence[tuple[Arrival, ArrivedRecord]]) -> None:
    """Write a batch: referrals and events in its order, then inbox, memory of the answers, audit.

    Args:
        node: clock, limits, storage key.
        conn: the transaction.
        arrivals: each with what `arrived_record` made of it.

    Raises:
        StaleReferralError, sqlalchemy.exc.IntegrityError: somebody else was faster; judge again.
    """
    offers: list[Arrival] = []
    for arrival, _ in arrivals:
        if arrival.made is not None and arrival.checked.item.header.kind is Kind.OFFER:
            offers.append(arrival)
        else:
            # A stop may be about an offer in the same batch.
            _make(conn, offers)
            offers = []
            _take_over(node, conn, arrival)
    _make(conn, offers)
    add_arrived(conn, [row for _, row in arrivals])
    remember_answers(conn, [_answer_to(node, arrival) for arrival, _ in arrivals])
    add_audits(conn, [_audit_of(arrival) for arrival, _ in arrivals])


def _make(conn: Connection, offers: Sequence[Arrival]) -> None:
    insert_referrals(conn, [arrival.made for arrival in offers if arrival.made is not None])
    add_events(conn, [arrival.event for arrival in offers if arrival.made is not None and arrival.event is not None])


def _take_over(node: Node, conn: Connection, arrival: Arrival) -> None:
    _make(conn, [arrival])
    _follow(node, conn, arrival, arrival.made or _changed(node, conn, arrival))


def _answer_to(node: Node, arrival: Arrival) -> GivenAnswer:
    header = arrival.checked.item.header
    # A stop may be dated by a clock that was ahead; nothing else lives as long as one.
    expires = min(header.expires, arrival.at + node.limits.stop_expires_ms)
    until = max(expires + node.limits.skew_ms, arrival.at + node.limits.dedupe_at_least_ms)
    return GivenAnswer(header.sender, header.id, arrival.checked.item.digest, arrival.receipt, until)


def _audit_of(arrival: Arrival) -> AuditEntry:
    return AuditEntry(arrival.at, f"received-{arrival.checked.item.header.kind}", arrival.referral, detail=arrival.leaf)


def _changed(node: Node, conn: Connection, arrival: Arrival) -> ReferralRecord:
    header, event = arrival.checked.item.header, arrival.event
    # Everybody locks a referral before its envelopes, of which a refusal changes one.
    read = lock_referral if header.kind is Kind.REFUSAL else load_referral
    record = read(conn, arrival.referral)
    if record is None:
        raise StaleReferralError
    if header.kind in _ENDING and event is not None:
        record = take_back(node, conn, record, EventName(event.name))
        if event.name != EventName.STOP_SHARING:
            record = ended_by_the_sender(conn, record)
    refused = header.in_reply_to if header.kind is Kind.REFUSAL else None
    reopens = refused is not None and _is_the_disclosure(conn, record, refused)
    late = refused is not None and record.state in _OVER and _is_forward(conn, record, refused)
    word = _word(header) or header.kind.value
    newly_refused = refused is not None and refused_later(conn, record.id, refused, LATER, word)
    attested = header.kind is Kind.ERASURE_RECEIPT and record_peers_word(
        conn, record.id, header.event, arrival.at, arrival.checked.item.digest
    )
    return change_referral(
        node,
        conn,
        record,
        what=word,
        events=[event] if event is not None else [],
        adjust=lambda read: _adjusted(arrival, _with_accepting(node, arrival, read), reopens=reopens, late=late),
        if_new=not (attested or newly_refused),
    )


def _is_forward(conn: Connection, record: ReferralRecord, envelope: str) -> bool:
    return any(item.id == envelope for kind in FORWARDS for item in of_kind(conn, record.id, kind))


def _is_the_disclosure(conn: Connection, record: ReferralRecord, envelope: str) -> bool:
    """Whether this is what was disclosed last: one that another has taken the place of stays here as well."""
    if record.hold != "released":
        return False
    disclosed = [
        event
        for event in events_of(conn, [record.id])[record.id]
        if event.side == record.side and event.name == EventName.DISCLOSED
    ]
    last = max(disclosed, key=lambda event: event.number, default=None)
    return last is not None and any(
        item.id == envelope and item.digest == last.digest for item in of_kind(conn, record.id, Kind.DISCLOSURE.value)
    )


def _blank(node: Node, arrival: Arrival, facts: Facts | None) -> ReferralRecord:
    """The referral that an offer makes, or the tombstone that a stop leaves where no offer was."""
    header = arrival.checked.item.header
    respond_by = header.respond_by or arrival.at
    return ReferralRecord(
        id=arrival.referral,
        side=Side.RECEIVING.value,
        peer=header.sender,
        sector=(sector_of(facts.purpose) if facts is not None else Sector.OTHER).value,
        contract=header.contract or "",
        state=State.RECEIVED.value,
        created_at=arrival.at,
        updated_at=arrival.at,
        respond_by=respond_by,
        delivered_at=arrival.at,
        seen=header.number or 0,
        sealed_facts=seal_facts(node, arrival.referral, facts) if facts is not None else None,
        # Also where it is the same: one beside another's is no longer than any other.
        known_as=header.referral if facts is None else None,
        exercise=_is_drill(arrival),
    )


def _is_drill(arrival: Arrival) -> bool | None:
    """What the offer says: nothing that follows it says so again."""
    body = arrival.message.body if arrival.message is not None else None
    return True if body is not None and body.content.exercise else None


def _facts_of_offer(arrival: Arrival) -> Facts:
    checked, message = arrival.checked, arrival.message
    header = checked.item.header
    purpose = _PURPOSES[header.purpose or ""]
    service = service_of(purpose)
    contract = checked.contract
    rule = None
    if contract is not None and service is not None:
        rule = contract.rule_for(checked.sender.kind, checked.receiver.kind, service)
    if rule is None or service is None or header.receipt is None:
        raise VerificationError(12, "no-rule")
    # A node without keys does not know her own level; it forwards no more than the least of all until it is told, and
    # the contract may have ended by then.
    body = message.body if message is not None else None
    hers = body.feedback if body is not None else Feedback.DECISION
    return Facts(
        service=service,
        purpose=purpose,
        priority=_PRIORITIES[header.priority or ""],
        feedback=lesser(rule.feedback, hers),
        feedback_at_most=rule.feedback if body is None else None,
        offer=header.id,
        retention_declined_s=rule.retention.declined_s,
        retention_expired_s=rule.retention.expired_s,
        retention_closed_s=rule.retention.closed_s,
    )


def _event(arrival: Arrival, known: Known) -> EventRecord | None:
    """The event that this envelope is."""
    header = arrival.checked.item.header
    number = header.number or 0
    name: EventName | None = None
    if header.kind is Kind.OFFER:
        name = EventName.OFFERED
    elif header.kind is Kind.DISCLOSURE and arrival.checked.release is not None:
        name, number = EventName.DISCLOSED, arrival.checked.release.number
    elif header.kind in _STOP_EVENTS:
        name = _STOP_EVENTS[header.kind]
    elif header.kind is Kind.WITHDRAWAL or header.kind_class is KindClass.ANSWER:
        name = EventName(header.event or "")
    if name is None:
        return None
    other = Side.REFERRING if known.record.side == Side.RECEIVING else Side.RECEIVING
    digest = arrival.checked.item.digest
    seen = known.counted(header.seen, other, number, arrival.at)
    return EventRecord(arrival.referral, other.value, number, name.value, seen, header.created, digest=digest)


def _adjusted(arrival: Arrival, record: ReferralRecord, *, reopens: bool = False, late: bool = False) -> ReferralRecord:
    """The columns that follow from the kind.

    `reopens`: the disclosure is refused, and another one is asked for. `late`: a forward is refused, and she has said
    no since; nobody has to hear of it any more, and what was said last is her no.
    """
    header, at = arrival.checked.item.header, arrival.at
    number = arrival.checked.release.number if arrival.checked.release is not None else header.number or 0
    record = record._replace(seen=max(record.seen, number))
    if header.kind is Kind.DISCLOSURE:
        return record._replace(disclosed_at=record.disclosed_at or at)
    if header.kind_class is KindClass.ANSWER and record.delivered_at is None:
        # Who answers has the offer, although its receipt never came.
        return record._replace(delivered_at=at, undeliverable=False)
    if header.kind is Kind.REFUSAL and record.side == Side.REFERRING:
        hold = "awaiting-disclosure" if reopens else record.hold
        return record._replace(undeliverable=record.undeliverable or not late, hold=hold)
    return record


def _with_accepting(node: Node, arrival: Arrival, record: ReferralRecord) -> ReferralRecord:
    """Remember which answer accepted: a release statement has to name its digest."""
    if arrival.checked.item.header.event != EventName.ACCEPTED or record.sealed_facts is None:
        return record
    facts = open_facts(node, record.id, record.sealed_facts)
    facts = facts.model_copy(update={"accepting": arrival.checked.item.digest})
    return record._replace(sealed_facts=seal_facts(node, record.id, facts))


def _follow(node: Node, conn: Connection, arrival: Arrival, record: ReferralRecord) -> None:
    """What a stop does beyond its event."""
    header = arrival.checked.item.header
    if header.kind is Kind.WITHDRAWAL and header.event == WithdrawalForm.ERASE:
        mine = ["own-node", "own-agency"] if arrival.made is None else ["own-node"]
        owe_attestation(conn, record.id, mine, arrival.at)
        attest_if_destroyed(node, conn, record)


def _word(header: Header) -> str | None:
    """The event as it may lie here in the clear. A refusal's is a peer's own word: one that is not known is `other`."""
    if header.kind is Kind.REFUSAL and header.event not in _REFUSALS:
        return "other"
    return header.event


def arrived_record(node: Node, arrival: Arrival, key: ReferralKey | None) -> ArrivedRecord:
    """The row of the inbox, sealed before the transaction begins."""
    item = arrival.checked.item
    header, envelope = item.header, item.envelope
    is_stop = header.kind_class is KindClass.STOP
    rewrapped = None
    if arrival.message is not None:
        if key is None:
            raise LookupError("what was opened is kept under its referral's key, or not at all")
        rewrapped = rewrap(
            arrival.message.dek,
            referral_key=key,
            referral=arrival.referral,
            envelope=header.id,
            nonce=node.entropy(NONCE_BYTES),
        )
    return ArrivedRecord(
        id=header.id,
        referral=arrival.referral,
        sender=header.sender,
        kind=header.kind.value,
        event=_word(header),
        digest=item.digest,
        status="new",
        received_at=arrival.at,
        respond_by=header.respond_by,
        sealed_header=node.seal_row(envelope.header, "inbox", "sealed_header", header.id),
        rewrapped_key=rewrapped,
        wrapped_key=envelope.wrapped_key if arrival.message is None and not is_stop else None,
        ciphertext=None if is_stop else envelope.ciphertext,
        signature=envelope.signature,
        part_digests=part_digests(item.signed),
        release=envelope.release,
        consent_live_at=_consent_live_at(arrival),
    )


def _consent_live_at(arrival: Arrival) -> int | None:
    """Until when the sender has vouched for her consent, by what it signed."""
    receipt, release = arrival.checked.item.header.receipt, arrival.checked.release
    if receipt is None:
        return None
    return min(arrival.at, release.consent_live_at if release is not None else receipt.issued)
