"""When a peer is asked for its node card: whoever seals or releases must hear of a revoked key within the hour.

Rules:

* Before something is sealed or released to a peer its card is read, unless this process has read it within the hour,
  or another one has read something new on it, which lies in the database with the revocations that stood beside it.
  Nobody waits for long: a peer that does not answer in time is as good as away, and then the keys count that are
  known. It is not waited for again for a while, unless it has accepted meanwhile. Where no key is known nobody seals,
  and whoever comes within that while is told at once to try again later.
* While an envelope for a peer is held or queued here, the courier asks every hour: what is replaced by her no is judged
  by what lies here, and nobody is asked at that moment. Nor has a release to wait then.
* All others the courier asks twice a day. A federation is large and most of it is quiet: asked every hour, thirty
  members cost more of a line than all their referrals.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from exchange.limits import HOUR_MS, MINUTE_MS, SECOND_MS
from exchange.roster import Member
from exchange.storage.epochs import last_new_statement_at
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
        # Otherwise somebody has asked while this one waited, or shortly before.
        if read_within(node, peer, ASK_EVERY_MS):
            return True
        if asked_within(node, peer, _ASK_AGAIN_MS) and node.card_asked_at[peer.agency] >= heard_at:
            return True
        # Another process of this node may have read it, as the courier does for a peer that was never written to.
        new_at = await node.database.read(lambda conn: last_new_statement_at(conn, peer.agency))
        if _within(new_at, node.clock(), ASK_EVERY_MS):
            node.card_read_at[peer.agency] = new_at
        else:
            await _ask(node, peer)
    return True


async def ask_for_first_key(node: Node, peer: Member) -> None:
    """Ask a peer of which no key is known that could be sealed to. Many that want to seal wait for one question.

    Who comes when it has just been asked in vain waits for nothing: it is told when to try again.
    """
    async with node.asking_for_card[peer.agency]:
        if not asked_within(node, peer, KEYLESS_AGAIN_MS):
            await _ask(node, peer)


async def _ask(node: Node, peer: Member) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WAITED_FOR_S):
            await node.fetch_peer_keys(peer)
    node.card_asked_at[peer.agency] = node.clock()


def read_within(node: Node, peer: Member, span_ms: int) -> bool:
    """Whether this process has read the peer's card, and found it good, so short a time ago."""
    return _within(node.card_read_at.get(peer.agency, 0), node.clock(), span_ms)


def asked_within(node: Node, peer: Member, span_ms: int) -> bool:
    """Whether this process has asked the peer for its card so short a time ago, with whatever success."""
    return _within(node.card_asked_at.get(peer.agency, 0), node.clock(), span_ms)


def _within(then: int, at: int, span_ms: int) -> bool:
    # A clock that was put back makes nothing recent that was read in a future.
    return then <= at < then + span_ms
