"""Destruction: the keys first, then the rows, then the signed word that it is done.

Rules:

* Keys end before rows: a crash in between leaves ciphertext that nobody can open any more, and the step is repeated.
* That takes seconds, and a word in time may undo the end meanwhile: then the rows stay, and the referral goes on. What
  had arrived before cannot be opened any more (`key-lost`); what this agency knows of it is under another key.
* What remains is the tombstone: ids, coarse sector, states, times, contract digest, digests of envelopes. Answers that
  were kept for a repeated request go in the same commit; their keys stay to their end.
* Where she asked for erasure the other party is told by a signed stop, once; also if nothing was left to destroy.
* The other party's word counts only after somebody asked for erasure: nothing else makes it owed, and who signs it
  before it holds anything has said nothing of what it gets later.
* It may be repeated at any time and does nothing twice.
* Whose client code ends with her erasure the referral says, or the consent where that cannot be read.
* A referral of which what has to be read cannot be is neither destroyed nor attested, and holds up no other.
"""

from __future__ import annotations

from collections.abc import Sequence

from exchange.envelope.kinds import ERASED_BY_NODE, STOPS
from exchange.referral.lifecycle import EventName, Side
from exchange.stops import Erased, erasure_receipt
from exchange.storage.access import add_audit, wipe_answers
from exchange.storage.consents import forget_client_code, load_consent
from exchange.storage.database import Connection
from exchange.storage.inbox import wipe_items
from exchange.storage.outbox import delete_queued, wipe_bodies
from exchange.storage.referrals import (
    ReferralRecord,
    attestations_of,
    events_of,
    hold_referrals,
    lock_referral,
    record_attestation,
    save_referral,
)
from exchange.use_cases.facts import open_facts
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import make_stop, put_out_stop
from exchange.use_cases.row_by_row import AT_ONCE, UNREADABLE, Failures, pages_due
from exchange.use_cases.storage_lost import as_outage
from exchange.use_cases.taking_back import FORWARDS


async def destroy_due(node: Node) -> int:
    """Destroy everything whose time has come; returns how many referrals that was.

    Raises:
        PartlyFailedError: of some only the keys are destroyed; all others are.
        StorageUnavailableError: it is not certain that the keys are gone; repeat.
    """
    failures, due = Failures(), 0
    async for page in pages_due(node, "destroy", failures):
        with failures.kept("destroy"):
            await destroy_referrals(node, [record.id for record in page])
        due += len(page)
    failures.raise_kept()
    return due


async def destroy_referrals(node: Node, referrals: Sequence[str]) -> None:
    """Destroy these referrals, now and for ever; of one whose time has not come, or no longer, only the keys end.

    Raises:
        PartlyFailedError: of some only the keys are destroyed; all others are.
        StorageUnavailableError: it is not certain that the keys are gone; repeat.
    """
    if not referrals:
        return
    await node.key_store.destroy(referrals)
    # In one order everywhere: two processes that destroy the same referrals never wait for each other in a circle.
    failures, ordered, go_on = Failures(), sorted(referrals), set[str]()

    for first in range(0, len(ordered), AT_ONCE):
        some = ordered[first : first + AT_ONCE]

        def commit(conn: Connection, which: Sequence[str] = some) -> None:
            hold_referrals(conn, which)  # all of them before the row of a peer, as everybody does
            for referral in which:
                record = lock_referral(conn, referral)
                if record is None or record.destroyed_at is not None:
                    continue
                if record.destroy_at is None or record.destroy_at > node.clock():
                    go_on.add(referral)
                else:
                    _destroy(node, conn, record)

        try:
            await node.database.write(commit)
        except Exception as error:
            if as_outage(error) is not None:
                raise
            for referral in some:
                with failures.kept("destroy"):
                    await node.database.write(lambda conn, one=referral: commit(conn, [one]))  # type: ignore[misc]
    # An envelope that was committed between the two steps brought a key of its own; its row is wiped like the others.
    # That of one which goes on is needed.
    if late := await node.key_store.get_many(set(referrals) - go_on):
        await node.key_store.destroy(late)
    failures.raise_kept()


def _destroy(node: Node, conn: Connection, record: ReferralRecord) -> None:
    at = node.clock()
    erased = _asked_for(conn, record.id)
    wipe_items(conn, record.id, but=STOPS)
    delete_queued(conn, record.id, FORWARDS)
    wipe_bodies(conn, record.id, but=STOPS)
    wipe_answers(conn, record.id)
    if erased and record.side == Side.REFERRING and record.sealed_facts is not None:
        subject = _subject(node, conn, record, record.sealed_facts)
        if subject is not None:
            forget_client_code(conn, subject, record.peer)
    changed = record._replace(destroyed_at=at, sealed_facts=None, updated_at=at)
    save_referral(conn, _attested(node, conn, changed) if erased else changed)
    add_audit(conn, at=at, action="destroyed", subject_id=record.id)


def _asked_for(conn: Connection, referral: str) -> bool:
    return any(event.name == EventName.ERASE for event in events_of(conn, [referral])[referral])


def _subject(node: Node, conn: Connection, record: ReferralRecord, sealed_facts: bytes) -> str | None:
    try:
        return open_facts(node, record.id, sealed_facts).subject
    except UNREADABLE:
        consent = load_consent(conn, record.consent_id) if record.consent_id is not None else None
        if consent is None:
            raise
        return consent.subject


def record_peers_word(conn: Connection, referral: str, said: str | None, at: int, digest: str) -> bool:
    """The other side says that it is destroyed. Returns whether that is news: it was asked for, and not said before."""
    party = "peer-node" if said == ERASED_BY_NODE else "peer-agency"
    return _asked_for(conn, referral) and record_attestation(conn, referral, party, at, digest)


def attest_if_destroyed(node: Node, conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """She said `erase` about a referral of which only the tombstone was left: that is said now, once."""
    done = {entry.party for entry in attestations_of(conn, record.id) if entry.done_at is not None}
    if record.destroyed_at is None or "own-node" in done:
        return record
    consent = load_consent(conn, record.consent_id) if record.consent_id is not None else None
    if consent is not None and record.side == Side.REFERRING:
        # What ended by its retention has left it, for the next referral to this receiver.
        forget_client_code(conn, consent.subject, record.peer)
    return save_referral(conn, _attested(node, conn, record))


def _attested(node: Node, conn: Connection, record: ReferralRecord) -> ReferralRecord:
    sealed = make_stop(node, erasure_receipt(Erased.BY_NODE), record)
    put_out_stop(node, conn, sealed, record.id)
    record_attestation(conn, record.id, "own-node", node.clock(), sealed.digest)
    return record._replace(number=sealed.header.number or record.number)
