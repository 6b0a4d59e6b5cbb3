"""What a node remembers while it works through one batch: read once, carried on from item to item.

An offer and its recall may stand in the same batch, so each accepted item changes what the next one is judged by. The
database is written once, at the end; if a referral changed there meanwhile, the whole batch is judged again.

A referral with another member than the sender is no memory: it is read no further than an unknown one, so that neither
the answer nor the time it takes says that it exists. A stop about it leaves what one about an unknown referral leaves,
a tombstone between the two: here under an id of its own (`_alias`), beside the other member's referral.

A referral whose row cannot be read is no memory either, and no unknown one: of it nothing can be judged, and the rest
of the batch is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from contracts.vocabulary import Purpose
from exchange.referral.lifecycle import EventName, Side, State
from exchange.storage.database import Connection
from exchange.storage.inbox import arrived_among, ids_of_others, recall_answers
from exchange.storage.outbox import made_among
from exchange.storage.referrals import EventRecord, ReferralRecord, events_of, load_referrals, peers_of
from exchange.use_cases.facts import Facts
from exchange.use_cases.node import Node
from exchange.use_cases.readable import facts_of
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.verification import ParsedItem, ReferralMemory

_TIME_CHARACTERS: Final = 12
_ID_CHARACTERS: Final = 32


@dataclass(slots=True)
class Known:
    """One referral, as read, with what this batch added to it."""

    record: ReferralRecord
    facts: Facts | None
    events: list[EventRecord]
    sent: set[str]
    """Of what this side made, what this batch replies to."""
    received: set[str]
    """Of what arrived, what this batch replies to, and what is in it."""

    def counted(self, seen: int, side: Side, number: int, at: int) -> int:
        """How much of what this side has said the other's event of this number counts as having heard.

        All that this side may have said before `at`: its numbers are milliseconds, and a peer may have heard what a
        restored database remembers no more, so that both sides go on counting the same. Nothing that it says from now
        on. The same event said again counts as it did at first, or it would be another one.
        """
        first = (event.seen for event in self.events if (event.side, event.number) == (side, number))
        return min(seen, next(first, max(self.record.number, at - 1)))


@dataclass(slots=True)
class BatchMemory:
    """Everything that one batch is judged by."""

    answers: dict[str, tuple[str, bytes]]
    aliases: Mapping[str, str]
    """Of each referral that is named: under which id what the sender says of it lies here if its own is another's."""
    known: dict[str, Known] = field(default_factory=dict)
    """By the id that the sender uses."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """At which version each referral was read, by the id under which it lies here."""
    taken: frozenset[str] = frozenset()
    """Envelope ids that another sender used."""
    foreign: frozenset[str] = frozenset()
    """Referrals that exist, with another member, and of which nothing lies here between the two."""
    unreadable: frozenset[str] = frozenset()
    """The sender's referrals whose rows are damaged or of a later version, by the id that the sender uses."""
    keyless: frozenset[str] = frozenset()
    """Referrals whose keys lie here and do not open, as far as that has been seen, by the id under which they lie."""

    def id_here(self, referral: str) -> str:
        """Under which id the sender's referral of this id lies here, or will."""
        known = self.known.get(referral)
        if known is not None:
            return known.record.id
        return self.aliases[referral] if referral in self.foreign else referral

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
            heard=frozenset(event.number for event in known.events if event.side != own),
        )


async def read_memory(node: Node, peer: str, items: Iterable[ParsedItem]) -> BatchMemory:
    """Read, in one snapshot, everything that these items are judged by."""
    listed = list(items)
    aliases = {item.header.referral: _alias(node, peer, item.header.referral) for item in listed}

    def read(conn: Connection) -> BatchMemory:
        envelopes = [item.header.id for item in listed]
        answers, taken = recall_answers(conn, peer, envelopes), ids_of_others(conn, peer, envelopes)
        peers = peers_of(conn, [*aliases, *aliases.values()])
        here = {referral: alias if alias in peers else referral for referral, alias in aliases.items()}
        # The rows in a second statement, and of another's none: that one exists shows in no row that is decoded.
        found = load_referrals(conn, [one for one in here.values() if peers.get(one) == peer])
        records = {referral: found[one] for referral, one in here.items() if one in found}
        foreign = frozenset(aliases.keys() & peers.keys() - records.keys())
        if not records:
            return BatchMemory(answers, aliases, taken=taken, foreign=foreign)
        ids = [record.id for record in records.values()]
        events = events_of(conn, ids)
        sent: dict[str, set[str]] = defaultdict(set)
        received: dict[str, set[str]] = defaultdict(set)
        # Of what was said before only what is replied to: there may be much of it.
        if replied_to := {item.header.in_reply_to for item in listed if item.header.in_reply_to is not None}:
            for referral, envelope in made_among(conn, replied_to):
                sent[referral].add(envelope)
            for referral, envelope in arrived_among(conn, replied_to):
                received[referral].add(envelope)
        known, unreadable = dict[str, Known](), set[str]()
        for referral, record in records.items():
            try:
                facts = facts_of(node, record, events[record.id])
            except UNREADABLE as error:
                tell_unreadable(node, "referral", record.id, error, peer=peer)
                unreadable.add(referral)
            else:
                known[referral] = Known(record, facts, events[record.id], sent[record.id], received[record.id])
        versions = {record.id: record.version for record in records.values()}
        return BatchMemory(answers, aliases, known, versions, taken, foreign, frozenset(unreadable))

    return await node.database.read(read)


def _alias(node: Node, peer: str, referral: str) -> str:
    """An id for what this peer says about a referral that has another other party.

    Keyed, so that the peer cannot name it. It begins with the same time, so that it lies in the database where an
    unknown referral of that id would.
    """
    digest = node.storage_key.keyed_digest("referral-alias", f"{referral} {peer}".encode())
    return referral[:_TIME_CHARACTERS] + digest[: _ID_CHARACTERS - _TIME_CHARACTERS]
