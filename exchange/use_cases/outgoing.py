"""Making envelopes and putting them into the outbox: what every sending use case shares."""

from __future__ import annotations

from typing import Final

from exchange.envelope.epochs import EpochStatement
from exchange.envelope.errors import EpochError
from exchange.envelope.keys import AgencyKey
from exchange.envelope.kinds import KindClass
from exchange.limits import MINUTE_MS
from exchange.messages import Posting, SealedMessage, Signers, seal_stop_message
from exchange.roster import Member
from exchange.stops import Stop
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, enqueue
from exchange.storage.peer_leases import hurry
from exchange.storage.referrals import ReferralRecord, hold_referrals
from exchange.storage.transaction import signal
from exchange.use_cases.node import Node
from exchange.use_cases.peer_cards import ask_for_first_key, read_card_again
from exchange.use_cases.peer_epochs import read_peer_epochs
from exchange.use_cases.refusals import keys_elsewhere, peer_keys_unknown
from exchange.use_cases.transitions import next_number

EPOCH_MEMORY_MS: Final = MINUTE_MS
"""How long a process seals to a key without looking whether another process has learned that it was revoked."""


def agency_key(node: Node) -> AgencyKey:
    """The key that speaks for the agency.

    Raises:
        ConflictError: `keys-elsewhere`.
    """
    if node.keyring is None:
        raise keys_elsewhere()
    return node.keyring.agency_key


def signers(node: Node) -> Signers:
    """What this node can sign with."""
    key = node.keyring.agency_key if node.keyring is not None else None
    return Signers(node.agency, key, node.node_key)


async def current_peer_epoch(node: Node, peer: Member) -> EpochStatement:
    """The key of this week of a peer; asked for, if it is not known, or may have been revoked meanwhile.

    Raises:
        UnavailableError: `peer-keys-unknown`.
    """
    found = await _known_epoch(node, peer)
    if found is None:
        await ask_for_first_key(node, peer)
    elif not await read_card_again(node, peer):
        return found
    found = await _known_epoch(node, peer)
    if found is None:
        raise peer_keys_unknown()
    return found


async def _known_epoch(node: Node, peer: Member) -> EpochStatement | None:
    at = node.clock()
    # Under the agency key of today: a key that was changed takes along what it had signed.
    memory = (peer.agency, peer.agency_key)
    known, looked_at = node.epoch_memory.get(memory, (None, 0))
    if known is not None and known.covers(at) and looked_at <= at < looked_at + EPOCH_MEMORY_MS:
        return known
    stored = await node.database.read(lambda conn: read_peer_epochs(conn, peer.agency))
    try:
        found = stored.standing(peer).current(at)
    except EpochError:
        return None
    node.epoch_memory[memory] = found, at
    return found


def latest_peer_epoch(node: Node, conn: Connection, agency: str) -> EpochStatement | None:
    """The latest key of a peer whose week has begun, from what lies here: nobody is asked inside a transaction.

    For what replaces an envelope that waits: its own week is not forgotten before a later one is known, and so the
    private half lives as long as what is sealed to it. Nothing where no key stands under the agency key of today.
    """
    peer = node.world().roster.members.get(agency)
    return read_peer_epochs(conn, agency).standing(peer).latest(node.clock()) if peer is not None else None


def put_out(node: Node, conn: Connection, sealed: SealedMessage, *, status: str = "queued") -> None:
    """Store an envelope for the courier, with its header sealed at rest."""
    _store(node, conn, sealed, sealed.header.referral, status)


def put_out_stop(node: Node, conn: Connection, sealed: SealedMessage, referral: str) -> None:
    """As `put_out`, for what `make_stop` made: it lies with this referral, whatever id its header names."""
    _store(node, conn, sealed, referral, "queued")


def _store(node: Node, conn: Connection, sealed: SealedMessage, referral: str, status: str) -> None:
    header = sealed.header
    hold_referrals(conn, [referral])  # before the row of the peer, as everybody does
    enqueue(conn, [outgoing_record(node, sealed, referral, status)])
    if status == "queued":
        hurry(conn, header.recipient, node.clock(), stop=header.kind_class is KindClass.STOP)
        signal(conn, "outbox")


def outgoing_record(node: Node, sealed: SealedMessage, referral: str, status: str) -> OutgoingRecord:
    """An envelope as its row, with its header sealed at rest, for what stores it together with others."""
    header, envelope = sealed.header, sealed.envelope
    return OutgoingRecord(
        id=header.id,
        referral=referral,
        peer=header.recipient,
        kind=header.kind.value,
        status=status,
        digest=sealed.digest,
        created_at=header.created,
        expires_at=header.expires,
        sealed_header=node.seal_row(envelope.header, "outbox", "sealed_header", header.id),
        wrapped_key=envelope.wrapped_key,
        ciphertext=envelope.ciphertext,
        signature=envelope.signature,
        consent_receipt=header.receipt.receipt_id if header.receipt is not None else None,
    )


def make_stop(node: Node, stop: Stop, record: ReferralRecord, *, in_reply_to: str | None = None) -> SealedMessage:
    """A stop for the other party of a referral, by the id it knows. Needs no keys of the peer and no agency key."""
    at = node.clock()
    posting = Posting(
        envelope_id=node.timed_id(at),
        referral=record.known_as or record.id,
        recipient=record.peer,
        roster=node.world().roster,
        seen=record.seen,
        created=at,
        expires=at + node.limits.stop_expires_ms,
        number=next_number(record, at),
        in_reply_to=in_reply_to,
    )
    return seal_stop_message(stop, posting, signers(node), entropy=node.entropy)
