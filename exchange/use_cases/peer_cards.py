"""When a peer is asked for its node card: whoever seals or releases must hear of a revoked key within the hour.

Rules:

* Before something is sealed or released to a peer its card is read, unless a process of this node has read it within
  the hour. Nobody waits for long: a peer that does not answer in time is as good as away, and then the keys count that
  are known. It is not waited for again for a while, unless it has accepted meanwhile. Where no key is known nobody
  seals, and whoever comes within that while is told at once to try again later.
* Before something goes to a peer that needs no key, her no as well, the courier asks likewise: on the line a question
  goes before what is sealed, and what came without one would be known for a no. Here her no holds from the moment it is
  written down; it reaches the peer as late as what is sealed would.
* While an envelope for a peer is held or queued here, the courier asks every hour: what is replaced by her no is judged
  by what lies here, and nobody is asked at that moment. Nor has a release to wait then.
* What one process has read or asked the others believe by a keyed digest beside the time in the database: who can write
  there, and has no key, keeps nobody from asking. An older row put back says an older time.
* Where a peer says that it has no key for what was sealed to it, its card is read at once: it was restored, or has a
  new key store, and whatever else is sealed within the hour would be refused as well.
* All others the courier asks twice a day. A federation is large and most of it is quiet: asked every hour, thirty
  members cost more of a line than all their referrals.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from exchange.limits import HOUR_MS, MINUTE_MS, SECOND_MS
from exchange.roster import Member
from exchange.storage.epochs import MarkedTime, card_times, note_card_asked
from exchange.use_cases.node import Node

ASK_EVERY_MS: Final = HOUR_MS
"""How long a revocation may go unseen by whoever seals or releases, while both nodes run."""
ASK_QUIET_EVERY_MS: Final = 12 * HOUR_MS
_ASK_AGAIN_MS: Final = 10 * MINUTE_MS
KEYLESS_AGAIN_MS: Final = 30 * SECOND_MS
"""Where no key is known nothing can be sealed at all: then it is asked sooner than one of which a key is known."""
_WAITED_FOR_S: Final = 5.0
"""Somebody waits in front of a screen. A line that takes longer is asked about by the courier, which has the time."""


async def read_card_again(node: Node, peer: Member, *, heard_at: int = 0) -> bool:
    """Ask the peer for its card if it was not read within the hour; returns whether something may be known now.

    Args:
        node: which asks.
        peer: to be sealed to.
        heard_at: when the peer was heard of. If it did not answer before that, it is asked all the same.
    """
    if read_within(node, peer, ASK_EVERY_MS):
        return False
    async with node.asking_for_card[peer.agency]:
        # Otherwise somebody has asked while this one waited, or shortly before, in this process or another one.
        if _asked_lately(node, peer, heard_at):
            return True
        times = await node.database.read(lambda conn: card_times(conn, peer.agency))
        node.card_read_at[peer.agency] = _proven(node, peer, times.read, "read")
        node.card_asked_at[peer.agency] = _proven(node, peer, times.asked, "asked")
        if not _asked_lately(node, peer, heard_at):
            await _ask(node, peer)
    return True


def _asked_lately(node: Node, peer: Member, heard_at: int) -> bool:
    if read_within(node, peer, ASK_EVERY_MS):
        return True
    return asked_within(node, peer, _ASK_AGAIN_MS) and node.card_asked_at[peer.agency] >= heard_at


async def ask_for_first_key(node: Node, peer: Member) -> None:
    """Ask a peer of which no key is known that could be sealed to. Many that want to seal wait for one question.

    Who comes when it has just been asked in vain waits for nothing: it is told when to try again.
    """
    async with node.asking_for_card[peer.agency]:
        if not asked_within(node, peer, KEYLESS_AGAIN_MS):
            await _ask(node, peer)


async def read_card_of_whom_a_key_is_lost(node: Node, peer: Member) -> None:
    """The peer has refused what was sealed to a key of its card: the keys that it has now stand on the card of now."""
    async with node.asking_for_card[peer.agency]:
        if not asked_within(node, peer, KEYLESS_AGAIN_MS):
            await _ask(node, peer)


async def _ask(node: Node, peer: Member) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WAITED_FOR_S):
            await node.fetch_peer_keys(peer)
    await note_asked(node, peer)


async def note_asked(node: Node, peer: Member) -> None:
    """The peer was asked for its card, with whatever success: the other processes of this node need not."""
    at = node.clock()
    node.card_asked_at[peer.agency] = at
    asked = _marked(node, peer, at, "asked")
    await node.database.write(lambda conn: note_card_asked(conn, peer.agency, asked), durable=False)


def card_read(node: Node, peer: Member, at: int) -> MarkedTime:
    """That this node read the peer's card, and found it good, as the other processes believe it."""
    return _marked(node, peer, at, "read")


def _marked(node: Node, peer: Member, at: int, what: str) -> MarkedTime:
    return MarkedTime(at, node.storage_key.keyed_digest(f"peer_card.{what}", _of(peer, at)))


def _proven(node: Node, peer: Member, found: MarkedTime, what: str) -> int:
    right = node.storage_key.has_marked(f"peer_card.{what}", _of(peer, found.at), found.mark)
    return found.at if right else 0


def _of(peer: Member, at: int) -> bytes:
    return f"{peer.agency} {at}".encode()


def read_within(node: Node, peer: Member, span_ms: int) -> bool:
    """Whether this process has read the peer's card, and found it good, so short a time ago."""
    return _within(node.card_read_at.get(peer.agency, 0), node.clock(), span_ms)


def asked_within(node: Node, peer: Member, span_ms: int) -> bool:
    """Whether this process has asked the peer for its card so short a time ago, with whatever success."""
    return _within(node.card_asked_at.get(peer.agency, 0), node.clock(), span_ms)


def _within(then: int, at: int, span_ms: int) -> bool:
    # A clock that was put back makes nothing recent that was read in a future.
    return then <= at < then + span_ms
