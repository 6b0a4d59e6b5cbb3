"""What waits to leave and was signed by a key of this agency that was replaced since.

Rules:

* It is looked at when the peer has not taken it: nothing of it was accepted, since what was is answered from memory. A
  peer that has the roster of before still takes it.
* A stop has nothing inside: it is made anew with the key of today, under a fresh id, with the same number, `seen` and
  time. Her no would otherwise go for 400 days and be put off (`later`) each time.
* The release of a disclosure lies beside the envelope, and says the same with a signature by the node key of today and
  the roster of today, which lists that key. The peer has refused the other one (`release-invalid`); nobody has to ask
  her again because of a machine's key. Signed is only what this node has released (`use_cases.released_here`): what
  else stands there, or is about something else, somebody has written into the database. It is refused, and told.
* What is sealed cannot be signed anew. It is destroyed here and told, as what is barred. An answer is taken back with
  its event, of which nobody else has heard: said again it would be a repeat, and an acceptance would never arrive.
* A node that still runs with the old key makes nothing anew: that would be put off as well, each time.
* An attestation of the agency's own software, which holds the agency key, this node cannot make: it is owed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from exchange.envelope.errors import StatementError
from exchange.envelope.header import Header, parse_header
from exchange.envelope.keys import AgencyKey, NodeKey, key_id
from exchange.envelope.kinds import KindClass, SignedBy
from exchange.envelope.statements import ReleaseStatement, parse_statement, sign_statement
from exchange.messages import stop_signed_anew
from exchange.schemas.federation import ItemAnswer
from exchange.storage.access import add_audit
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, change_release, delete_waiting, lock_queued
from exchange.storage.referrals import lock_referral, owe_again, remove_events
from exchange.use_cases.barring import bar
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.headers import class_here, outgoing_header
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key, put_out_stop
from exchange.use_cases.released_here import is_marked, marked

Step = Callable[[Connection], None]


def signed_anew(node: Node, item: OutgoingRecord, given: ItemAnswer) -> Step | None:
    """What has to be done with an envelope that was answered so because of its key; nothing for any other."""
    if node.agency not in node.world().roster.members:
        return None  # nobody knows which keys are today's
    if given.result == "later":
        return _instead(node, item)
    if given.result == "refused" and given.problem is not None and given.problem.code == "release-invalid":
        return _with_another_release(node, item)
    return None


def _instead(node: Node, item: OutgoingRecord) -> Step | None:
    header = parse_header(outgoing_header(node, item))
    if header.signing_key == key_id(_listed(node, header.signed_by)):
        return None
    if class_here(item) is KindClass.STOP:
        return _stop_anew(node, item, header)
    return lambda conn: _told(node, conn, item)


def _told(node: Node, conn: Connection, item: OutgoingRecord) -> None:
    if item.id not in lock_queued(conn, [item.id]):
        return  # another courier has delivered it, or her no deleted it, since it was read
    record = lock_referral(conn, item.referral)
    if record is None or record.destroyed_at is not None or class_here(item) is not KindClass.ANSWER:
        bar(node, conn, [item])
        return
    delete_waiting(conn, item.id)
    remove_events(conn, item.referral, [item.digest])
    barred = f"{item.kind}-barred"
    change_referral(node, conn, record, what=barred, adjust=lambda read: read._replace(undeliverable=True))


def _stop_anew(node: Node, item: OutgoingRecord, header: Header) -> Step | None:
    if header.signed_by is SignedBy.AGENCY and node.keyring is None:
        return lambda conn: _owed_again(node, conn, item)
    key: AgencyKey | NodeKey = node.node_key
    if header.signed_by is SignedBy.AGENCY:
        key = agency_key(node)
    if key.public != _listed(node, header.signed_by):
        return None
    made = stop_signed_anew(header, key, envelope_id=node.timed_id(node.clock()), entropy=node.entropy)

    def step(conn: Connection) -> None:
        if delete_waiting(conn, item.id):
            put_out_stop(node, conn, made, item.referral)

    return step


def _owed_again(node: Node, conn: Connection, item: OutgoingRecord) -> None:
    if delete_waiting(conn, item.id):
        owe_again(conn, item.referral, "own-agency")
        add_audit(conn, at=node.clock(), action="erasure-owed-again", subject_id=item.referral, detail=item.digest)


def _with_another_release(node: Node, item: OutgoingRecord) -> Step | None:
    if item.release is None or not is_marked(node, item) or node.node_key.public != node.member.node_key:
        return None
    try:
        signed = parse_statement(ReleaseStatement, item.release)
    except StatementError:
        return None
    try:
        signed.verify(node.node_key.public)
    except StatementError:
        said = signed.unverified
        if (said.disclosure, said.referral) != (item.digest, parse_header(outgoing_header(node, item)).referral):
            return None
        anew = replace(said, roster_version=node.world().roster.version)
        release = marked(node, item.id, sign_statement(anew, node.node_key.sign))
        return lambda conn: change_release(conn, item.id, release)
    return None


def _listed(node: Node, signed_by: SignedBy) -> bytes:
    return node.member.agency_key if signed_by is SignedBy.AGENCY else node.member.node_key
