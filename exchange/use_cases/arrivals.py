"""What a node remembers while it works through one batch: read once, carried on from item to item.

An offer and its recall may stand in the same batch, so each accepted item changes what the next one is judged by. The
database is written once, at the end; if a referral changed there meanwhile, the whole batch is judged again.

A referral with another member than the sender is no memory: it is read no further than an unknown one, so that neither
the answer nor the time it takes says that it exists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from contracts.vocabulary import Purpose
from exchange.referral.lifecycle import EventName, Side, State
from exchange.storage.database import Connection
from exchange.storage.inbox import envelope_ids_in, ids_of_others, recall_answers
from exchange.storage.outbox import envelope_ids_out
from exchange.storage.referrals import EventRecord, ReferralRecord, events_of, load_referrals
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Node
from exchange.verification import ParsedItem, ReferralMemory


@dataclass(slots=True)
class Known:
    """One referral, as read, with what this batch added to it."""

    record: ReferralRecord
    facts: Facts | None
    events: list[EventRecord]
    sent: set[str]
    received: set[str]


@dataclass(slots=True)
class BatchMemory:
    """Everything that one batch is judged by."""

    answers: dict[str, tuple[str, bytes | None]]
    known: dict[str, Known] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    """At which version each referral was read."""
    taken: frozenset[str] = frozenset()
    """Envelope ids that another sender used."""
    foreign: frozenset[str] = frozenset()
    """Referrals that exist, with another member."""

    def of(self, referral: str) -> ReferralMemory | None:
        """What verification may look at; nothing for an unknown referral and for another member's."""
        known = self.known.get(referral)
        if known is None:
            return None
        record, facts = known.record, known.facts
        own = Side(record.side)
        return ReferralMemory(
            side=own,
            contract=record.contract,
            state=State(record.state),
            closed=record.closed_at is not None,
            destroyed=record.destroyed_at is not None or record.blocked_at is not None,
            purpose=Purpose(facts.purpose) if facts is not None else None,
            # The row of an offer that was taken back is gone, and it may have arrived: what answers it is no stranger.
            sent=frozenset(known.sent if facts is None else known.sent | {facts.offer}),
            received=frozenset(known.received),
            acceptances=frozenset(
                event.digest
                for event in known.events
                if event.name == EventName.ACCEPTED and event.side == own and event.digest is not None
            ),
            sharing_stopped=record.sharing_stopped_at is not None,
            feedback=facts.feedback if facts is not None else None,
        )


async def read_memory(node: Node, peer: str, items: Iterable[ParsedItem]) -> BatchMemory:
    """Read, in one snapshot, everything that these items are judged by."""
    listed = list(items)
    referrals = {item.header.referral for item in listed}

    def read(conn: Connection) -> BatchMemory:
        ids = [item.header.id for item in listed]
        answers, taken = recall_answers(conn, peer, ids), ids_of_others(conn, peer, ids)
        found = load_referrals(conn, referrals)
        records = {record.id: record for record in found.values() if record.peer == peer}
        foreign = frozenset(found.keys() - records.keys())
        if not records:
            return BatchMemory(answers, taken=taken, foreign=foreign)
        events = events_of(conn, records)
        sent: dict[str, set[str]] = defaultdict(set)
        received: dict[str, set[str]] = defaultdict(set)
        for referral, envelope in envelope_ids_out(conn, records):
            sent[referral].add(envelope)
        for referral, envelope in envelope_ids_in(conn, records):
            received[referral].add(envelope)
        known = {
            record.id: Known(record, _facts(node, record), events[record.id], sent[record.id], received[record.id])
            for record in records.values()
        }
        versions = {record.id: record.version for record in records.values()}
        return BatchMemory(answers, known, versions, taken, foreign)

    return await node.database.read(read)


def _facts(node: Node, record: ReferralRecord) -> Facts | None:
    return open_facts(node, record.id, record.sealed_facts) if record.sealed_facts is not None else None
