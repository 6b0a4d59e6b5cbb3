"""Peers' epoch keys: fetched from their node cards, verified against the roster, remembered.

Rules:

* Every statement must be signed by the agency key in the roster, be about that agency, cover exactly one week, and
  name a key that can be sealed to.
* A list whose highest number is below one seen before is old, and nothing of it is used. Only what today's agency key
  has signed counts as seen: who stole the key before cannot use up the numbers of the key after.
* A list that has a number twice, or gives one that is known to another statement, is not used.
* What an earlier agency key has signed is deleted before what a card says is stored: it takes no place.
* A statement for a week far ahead is passed over, and the rest of the card counts: the peer's clock may have jumped,
  and what it published then stands on its card for long.
* Every revocation must be signed by the same key and be about that agency's keys. It is remembered also where its key
  is not known: a statement that comes later revives nothing.
* A card carries no more statements and revocations than a member has reason to publish.
* Five weeks are published ahead, so a peer that sleeps can still be written to: fetching is done long before it is
  needed, and more often, because a key may have been revoked (`use_cases.peer_cards` says when).
* Whether anything has answered is told beside what it said: where nothing does, the line is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from exchange.envelope.epochs import (
    EpochRevocation,
    EpochStatement,
    check_epoch,
    check_not_older,
    check_numbered_once,
    is_far_ahead,
    revocation_ends,
)
from exchange.envelope.errors import EnvelopeError, TooLargeError
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url
from exchange.federation.transport import PeerTransport, PeerUnreachableError
from exchange.limits import HOUR_MS, LIMITS
from exchange.roster import Member, Status
from exchange.schemas.node import MOST_REVOCATIONS, MOST_STATEMENTS, NodeCard
from exchange.storage.database import Connection
from exchange.storage.epochs import StoredEpoch, StoredRevocation, remember_card
from exchange.storage.outbox import peers_waited_for
from exchange.storage.peer_leases import lock_peer, sign_of_life
from exchange.telemetry.logs import get_logger
from exchange.use_cases.node import Node
from exchange.use_cases.peer_cards import (
    ASK_EVERY_MS,
    ASK_QUIET_EVERY_MS,
    asked_within,
    card_read,
    note_asked,
    read_within,
)
from exchange.use_cases.peer_epochs import forget_outlived, read_peer_epochs

_ASKED_AT_A_TIME: Final = 4
"""So many that are slow may be waited for at once; all at once would be too much for a thin line."""


class Asked(NamedTuple):
    """What came of asking one member, or all of them."""

    heard: bool
    """Whether one has said what it was asked for: its card, or that it takes this node's word for the time."""
    answered: bool
    """Whether anything has answered."""


async def fetch_peer_keys(node: Node, transport: PeerTransport, peer: Member) -> bool:
    """Ask the peer for its card and remember what it says of epoch keys; returns whether that worked. Never raises."""
    return (await _ask_for_card(node, transport, peer)).heard


async def _ask_for_card(node: Node, transport: PeerTransport, peer: Member) -> Asked:
    at = node.clock()
    try:
        card = await transport.node_card(peer)
        statements, revocations = verified_statements(card, peer), verified_revocations(card, peer)
        stored = await node.database.read(lambda conn: read_peer_epochs(conn, peer.agency))
        known = stored.standing(peer)
        check_not_older(known.highest_seq, [*statements, *revocations])
        check_numbered_once([*known.statements, *known.revocations], [*statements, *revocations])
    except PeerUnreachableError as error:
        get_logger().info("peer-card-not-reached", peer=peer.agency, code=error.code)
        return Asked(heard=False, answered=not error.is_silence)
    except EnvelopeError as error:
        get_logger().warning("peer-card-refused", peer=peer.agency, code=error.code)
        return Asked(heard=False, answered=True)
    rows = [
        StoredEpoch(item.key_id, item.seq, item.not_before, item.not_after, raw)
        for item, raw in zip(statements, _raw(card), strict=True)
        if not is_far_ahead(item, at)
    ]
    # Whatever time it claims, it is kept no longer than one that was made now.
    ends = [revocation_ends(min(item.revoked_at, at)) for item in revocations]
    revoked = [
        StoredRevocation(item.key_id, item.seq, end, raw)
        for item, end, raw in zip(revocations, ends, _raw_revocations(card), strict=True)
    ]
    read = card_read(node, peer, at)

    def commit(conn: Connection) -> None:
        lock_peer(conn, peer.agency)
        forget_outlived(node, conn, peer.agency)
        remember_card(conn, peer.agency, rows, revoked, read)

    await node.database.write(commit)
    node.card_read_at[peer.agency] = at
    # A week's key that was changed within its week counts from now on, not from the next start.
    node.epoch_memory.pop((peer.agency, peer.agency_key), None)
    return Asked(heard=True, answered=True)


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
        _check_own(statement.agency, peer)
        check_epoch(statement)
        found.append(statement)
    return found


def verified_revocations(card: NodeCard, peer: Member) -> list[EpochRevocation]:
    """The revocations on a card, each signed by the peer's agency key and about a key of that agency.

    A card of a node that does not know revocations has none.

    Raises:
        EnvelopeError: one of them is not.
    """
    if len(card.revocations or ()) > MOST_REVOCATIONS:
        raise TooLargeError
    found = []
    for raw in _raw_revocations(card):
        revocation = parse_statement(EpochRevocation, raw).verify(peer.agency_key)
        _check_own(revocation.agency, peer)
        found.append(revocation)
    return found


def _check_own(agency: str, peer: Member) -> None:
    if agency != peer.agency:
        raise ForeignStatementError


class ForeignStatementError(EnvelopeError):
    """A card carries a statement about another agency."""

    code = "statement-foreign"
    sentence = "The peer's card carries a statement about another agency."


def _raw(card: NodeCard) -> list[bytes]:
    return [_decoded(epoch.statement) for epoch in card.epochs]


def _raw_revocations(card: NodeCard) -> list[bytes]:
    return [_decoded(text) for text in card.revocations or ()]


def _decoded(text: str) -> bytes:
    return from_base64url(text, member="statement", longest=LIMITS.statement_bytes)


async def greet_peers(node: Node, transport: PeerTransport) -> Asked:
    """Tell every member that this node is there; what waits here for those that hear it is due."""

    async def greet(peer: Member) -> Asked:
        try:
            await transport.greet(peer)
        except PeerUnreachableError as error:
            get_logger().info("peer-not-reached", peer=peer.agency, code=error.code)
            return Asked(heard=False, answered=not error.is_silence)
        await node.database.write(lambda conn: sign_of_life(conn, peer.agency, node.clock()))
        return Asked(heard=True, answered=True)

    members = node.world().roster.members.values()
    each = await asyncio.gather(*(greet(peer) for peer in members if peer.agency != node.agency))
    return Asked(any(one.heard for one in each), any(one.answered for one in each))


async def refresh_peers(node: Node, transport: PeerTransport) -> Mapping[str, Asked]:
    """Fetch the keys of every member that is due; what came of asking each.

    Of one for which something lies here the card is at most an hour old, or asked for at every call until it comes. Of
    the others it is half a day old, and asked for once an hour until it comes. A few are asked at a time: one that is
    slow keeps no other waiting.
    """
    waited_for = await node.database.read(peers_waited_for)
    at_a_time = asyncio.Semaphore(_ASKED_AT_A_TIME)

    async def ask(peer: Member) -> tuple[str, Asked]:
        async with at_a_time:
            came = await _ask_for_card(node, transport, peer)
            await note_asked(node, peer)
            return peer.agency, came

    def due(peer: Member) -> bool:
        if peer.agency == node.agency or peer.status is not Status.ACTIVE:
            return False
        if peer.agency in waited_for:
            return not read_within(node, peer, ASK_EVERY_MS)
        return not read_within(node, peer, ASK_QUIET_EVERY_MS) and not asked_within(node, peer, HOUR_MS)

    return dict(await asyncio.gather(*(ask(peer) for peer in node.world().roster.members.values() if due(peer))))
