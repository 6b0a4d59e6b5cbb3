"""Peers' epoch keys: fetched from their node cards, verified against the roster, remembered.

Rules:

* Every statement must be signed by the agency key in the roster, be about that agency, cover exactly one week, and
  name a key that can be sealed to.
* A list whose highest number is below one seen before is old, and nothing of it is used. Only what today's agency key
  has signed counts as seen: who stole the key before cannot use up the numbers of the key after.
* A card carries no more statements than a member has reason to publish.
* Five weeks are published ahead, so a peer that sleeps can still be written to: fetching is done long before it is
  needed, and again whenever fewer than four weeks are known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from exchange.envelope.epochs import EpochStatement, check_epoch, check_not_older
from exchange.envelope.errors import EnvelopeError, TooLargeError
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url
from exchange.federation.transport import PeerTransport, PeerUnreachableError
from exchange.limits import LIMITS
from exchange.roster import Member, Status
from exchange.schemas.node import NodeCard
from exchange.storage.epochs import StoredEpoch, peer_epochs, remember_peer_epochs
from exchange.storage.peer_leases import sign_of_life
from exchange.telemetry.logs import get_logger
from exchange.use_cases.node import Node

WEEKS_ENOUGH_MS = 4 * LIMITS.epoch_ms
MOST_STATEMENTS = 32
"""On one card. Six weeks are published at a time, and more than one statement for a week where a key was changed."""


async def fetch_peer_keys(node: Node, transport: PeerTransport, peer: Member) -> bool:
    """Ask the peer for its card and remember the epoch keys on it; returns whether that worked. Never raises."""
    try:
        card = await transport.node_card(peer)
        statements = verified_statements(card, peer)
        known = await node.database.read(lambda conn: peer_epochs(conn, peer.agency))
        check_not_older(max((item.seq for item in _standing(known, peer)), default=0), statements)
    except PeerUnreachableError as error:
        get_logger().info("peer-card-not-reached", peer=peer.agency, code=error.code)
        return False
    except EnvelopeError as error:
        get_logger().warning("peer-card-refused", peer=peer.agency, code=error.code)
        return False
    rows = [
        StoredEpoch(item.key_id, item.seq, item.not_before, item.not_after, raw)
        for item, raw in zip(statements, _raw(card), strict=True)
    ]
    await node.database.write(lambda conn: remember_peer_epochs(conn, peer.agency, rows, node.clock()))
    # A week's key that was changed within its week counts from now on, not from the next start.
    node.epoch_memory.pop((peer.agency, peer.agency_key), None)
    return True


def verified_statements(card: NodeCard, peer: Member) -> list[EpochStatement]:
    """The statements on a card, each signed by the peer's agency key and about that agency.

    Raises:
        EnvelopeError: one of them is not.
    """
    if len(card.epochs) > MOST_STATEMENTS:
        raise TooLargeError
    found = []
    for raw in _raw(card):
        statement = parse_statement(EpochStatement, raw).verify(peer.agency_key)
        if statement.agency != peer.agency:
            raise ForeignStatementError
        check_epoch(statement)
        found.append(statement)
    return found


def _standing(rows: Iterable[StoredEpoch], peer: Member) -> list[EpochStatement]:
    """Those of the remembered statements for which the peer's agency key in the roster stands today."""
    found = []
    for row in rows:
        with contextlib.suppress(EnvelopeError):
            found.append(parse_statement(EpochStatement, row.statement).verify(peer.agency_key))
    return found


class ForeignStatementError(EnvelopeError):
    """A card carries a statement about another agency."""

    code = "statement-foreign"
    sentence = "The peer's card carries a statement about another agency."


def _raw(card: NodeCard) -> list[bytes]:
    return [
        from_base64url(epoch.statement, member="statement", longest=LIMITS.statement_bytes) for epoch in card.epochs
    ]


async def greet_peers(node: Node, transport: PeerTransport) -> None:
    """Tell every member that this node is there; what waits here for those that answer is due."""

    async def greet(peer: Member) -> None:
        try:
            await transport.greet(peer)
        except PeerUnreachableError as error:
            get_logger().info("peer-not-reached", peer=peer.agency, code=error.code)
            return
        await node.database.write(lambda conn: sign_of_life(conn, peer.agency, node.clock()))

    members = node.world().roster.members.values()
    await asyncio.gather(*(greet(peer) for peer in members if peer.agency != node.agency))


async def refresh_peers(node: Node, transport: PeerTransport) -> None:
    """Fetch the keys of every member of which fewer than four weeks are known."""
    at = node.clock()
    for peer in node.world().roster.members.values():
        if peer.agency == node.agency or peer.status is not Status.ACTIVE:
            continue
        known = await node.database.read(lambda conn, agency=peer.agency: peer_epochs(conn, agency))  # type: ignore[misc]
        if max((epoch.not_after for epoch in _standing(known, peer)), default=0) < at + WEEKS_ENOUGH_MS:
            await fetch_peer_keys(node, transport, peer)
