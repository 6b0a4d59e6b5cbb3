"""Whether what lies here can still be opened: the key store has no backup, and a new one opens nothing of before.

Rules:

* What was not destroyed and does not open is lost here, and is said to be: whoever waits for it would wait in vain.
* After the key store was lost, what comes next for a referral brings a new key, which opens that and what comes later.
* Nothing is promised about what nobody here can read. A no passes.
* A key whose row is damaged is not lost: what needs it waits, or is refused (`sealed-row`), until the row is mended.
* A referral of which a row is damaged, or has a word of a later version, is not changed by what comes about it: nothing
  can be said of it. What a peer has answered about it is written down as far as that can be done without the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import Dek, EpochKey, ReferralKey
from exchange.envelope.rewrap import unwrap_again
from exchange.referral.lifecycle import State
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord, load_arrived
from exchange.storage.referrals import EventRecord, ReferralRecord, hold_referrals
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Keyring, Node
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


def unreadable_keys(node: Node, keys: Mapping[str, ReferralKey | None], *, peer: str | None = None) -> frozenset[str]:
    """The referrals whose key lies here and does not open; the log says so."""
    unreadable = frozenset(referral for referral, key in keys.items() if key is None)
    for referral in unreadable:
        tell_unreadable(node, "referral-key", referral, SealedRowError(), peer=peer)
    return unreadable


async def epoch_keys(node: Node, keyring: Keyring, names: Iterable[str], peer: str) -> dict[str, EpochKey | None]:
    """Those of these weekly keys that lie here; `None` for one that does not open, of which the log says so."""
    found = dict[str, EpochKey | None]()
    for name in names:
        try:
            key = await keyring.epoch_key(name)
        except SealedRowError as error:
            tell_unreadable(node, "epoch-key", name, error, peer=peer)
            found[name] = None
        else:
            found |= {name: key} if key is not None else {}
    return found


def facts_of(node: Node, record: ReferralRecord, events: Iterable[EventRecord]) -> Facts | None:
    """What is sealed in a referral's row, where whatever a change asks of it can be read; nothing of a tombstone.

    Raises:
        EnvelopeError, KeyError, ValueError: it cannot (`row_by_row.UNREADABLE`).
    """
    State(record.state)
    as_events(events)
    return open_facts(node, record.id, record.sealed_facts) if record.sealed_facts is not None else None


class TogetherOrApart:
    """Referrals that change with a peer: all at once, as long as all can be changed here; else each for itself.

    Whether one can be changed is seen by changing it: what is damaged in it may not be asked for. What cannot be
    changed stays as it was, and the log says so.
    """

    def __init__(self, node: Node, peer: str) -> None:
        """For one change, with this peer."""
        self._node, self._peer = node, peer
        self._apart = False
        self.left: frozenset[str] = frozenset()
        """The referrals that could not be changed, by the last commit."""

    async def write(self, commit: Callable[[Connection], T]) -> T:
        """Write what `commit` does with `change`; a second time where a row of one of them cannot be read."""
        try:
            return await self._node.database.write(commit)
        except UNREADABLE:
            self._apart = True
            return await self._node.database.write(commit)

    def change(
        self, conn: Connection, referrals: Collection[str], change: Callable[[Connection, Collection[str]], None]
    ) -> None:
        """Change these, within `write`; those in `left` are not changed."""
        if not self._apart:
            change(conn, referrals)
            return
        hold_referrals(conn, referrals)  # of all, before anything of one: everybody locks in this order
        left = set[str]()
        for referral in sorted(referrals):
            try:
                # What was written before it failed must not stay.
                with conn.begin_nested():
                    change(conn, [referral])
            except UNREADABLE as error:
                tell_unreadable(self._node, "referral", referral, error, peer=self._peer)
                left.add(referral)
        self.left = frozenset(left)


async def refuse_unreadable(node: Node, offer: str) -> None:
    """Nothing, where this node can open the offer, or never opens any.

    Raises:
        ConflictError: `key-lost`.
        SealedRowError: the row of its key is damaged.
    """
    if node.keyring is None:
        return
    found = await node.database.read(lambda conn: load_arrived(conn, [offer]))
    row = found[offer][1] if offer in found else None
    if row is None or data_key(row, await node.key_store.get(row.referral)) is None:
        raise key_lost()
