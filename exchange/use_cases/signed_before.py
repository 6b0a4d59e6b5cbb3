"""What waits to leave and was signed by a key of this agency that the roster no longer lists.

Rules:

* It is looked at when the peer has said `later`: nothing of it was accepted, since what was is answered from memory. A
  peer that has the roster of before still takes it.
* A stop has nothing inside: it is made anew with the key of today, under a fresh id, with the same number, `seen` and
  time. Her no would otherwise go for 400 days and be put off each time.
* What is sealed cannot be signed anew. It is destroyed here and told, as what is barred.
* An attestation of the agency's own software, which holds the agency key, waits: this node cannot make it.
"""

from __future__ import annotations

from exchange.envelope.header import parse_header
from exchange.envelope.keys import AgencyKey, NodeKey, key_id
from exchange.envelope.kinds import KindClass, SignedBy
from exchange.messages import SealedMessage, stop_signed_anew
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, delete_waiting, lock_queued
from exchange.use_cases.barring import bar
from exchange.use_cases.headers import class_here, outgoing_header
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import put_out_again


def signed_before(node: Node, item: OutgoingRecord) -> bool:
    """Whether the roster lists another key than the one that signed it."""
    header = parse_header(outgoing_header(node, item))
    return header.signing_key != key_id(_listed(node, header.signed_by))


def make_anew_or_bar(node: Node, conn: Connection, item: OutgoingRecord) -> None:
    """Of one that is still queued: a stop goes on with a signature that peers believe, anything else is told."""
    if class_here(item) is not KindClass.STOP:
        bar(node, conn, [item] if item.id in lock_queued(conn, [item.id]) else [])
        return
    made = _made_anew(node, item)
    if made is not None and delete_waiting(conn, item.id):
        put_out_again(node, conn, made, item.referral)


def _made_anew(node: Node, item: OutgoingRecord) -> SealedMessage | None:
    header = parse_header(outgoing_header(node, item))
    key: AgencyKey | NodeKey | None = node.node_key
    if header.signed_by is SignedBy.AGENCY:
        key = node.keyring.agency_key if node.keyring is not None else None
    # A node that still runs with the old key would make another each time that it is put off.
    if key is None or key.public != _listed(node, header.signed_by):
        return None
    return stop_signed_anew(header, key, envelope_id=node.timed_id(node.clock()), entropy=node.entropy)


def _listed(node: Node, signed_by: SignedBy) -> bytes:
    return node.member.agency_key if signed_by is SignedBy.AGENCY else node.member.node_key
