"""Whether what lies here can still be opened: the key store has no backup, and a new one opens nothing of before.

Rules:

* What was not destroyed and does not open is lost here, and is said to be: whoever waits for it would wait in vain.
* After the key store was lost, what comes next for a referral brings a new key, which opens that and what comes later.
* Nothing is promised about what nobody here can read. A no passes.
* A referral of which a row is damaged, or has a word of a later version, is not changed: nothing can be said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import Dek, ReferralKey
from exchange.envelope.rewrap import unwrap_again
from exchange.referral.lifecycle import State
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord, load_arrived
from exchange.storage.referrals import EventRecord, ReferralRecord, events_of, load_referrals
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import key_lost
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.use_cases.transitions import as_events

T = TypeVar("T")


def data_key(row: ArrivedRecord, key: ReferralKey | None) -> Dek | None:
    """What opens the content of a row; nothing where the key or the body is gone, or the key is a later one."""
    if key is None or row.rewrapped_key is None or row.ciphertext is None:
        return None
    try:
        return unwrap_again(row.rewrapped_key, referral_key=key, referral=row.referral, envelope=row.id)
    except SealedRowError:
        return None


def facts_of(node: Node, record: ReferralRecord, events: Iterable[EventRecord]) -> Facts | None:
    """What is sealed in a referral's row, where whatever a change asks of it can be read; nothing of a tombstone.

    Raises:
        EnvelopeError, KeyError, ValueError: it cannot (`row_by_row.UNREADABLE`).
    """
    State(record.state)
    as_events(events)
    return open_facts(node, record.id, record.sealed_facts) if record.sealed_facts is not None else None


async def write_what_is_readable(
    node: Node,
    peer: str,
    concerned: Callable[[Connection], Collection[str]],
    commit: Callable[[Connection], T],
    without: set[str],
) -> T:
    """Change these referrals with a peer; where one cannot be changed here, all others, and the log says so.

    `commit` leaves out the referrals in `without`, which is empty at first: what cannot be read stays as it is.
    """
    try:
        return await node.database.write(commit)
    except UNREADABLE:
        without |= await _unreadable_among(node, peer, concerned)
        if not without:
            raise
        return await node.database.write(commit)


async def _unreadable_among(
    node: Node, peer: str, concerned: Callable[[Connection], Collection[str]]
) -> frozenset[str]:
    def read(conn: Connection) -> tuple[dict[str, ReferralRecord], dict[str, list[EventRecord]]]:
        referrals = concerned(conn)
        return load_referrals(conn, referrals), events_of(conn, referrals)

    records, events = await node.database.read(read)
    found = set[str]()
    for record in records.values():
        try:
            facts_of(node, record, events[record.id])
        except UNREADABLE as error:
            tell_unreadable(node, "referral", record.id, error, peer=peer)
            found.add(record.id)
    return frozenset(found)


async def refuse_unreadable(node: Node, offer: str) -> None:
    """Nothing, where this node can open the offer, or never opens any.

    Raises:
        ConflictError: `key-lost`.
    """
    if node.keyring is None:
        return
    found = await node.database.read(lambda conn: load_arrived(conn, [offer]))
    row = found[offer][1] if offer in found else None
    if row is None or data_key(row, await node.key_store.get(row.referral)) is None:
        raise key_lost()
