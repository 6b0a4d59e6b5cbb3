"""New referrals of many callers in one transaction, with one statement for each table.

Rules:

* What each of them was decided on is looked at again inside the transaction: a withdrawal that commits first wins.
* A referral, its envelopes, its line of the record and the answer to its caller are there together, or none of them.
* The order given is the order in which a cursor lists them, and in which their envelopes leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from exchange.storage.access import AuditEntry, KeptAnswer, add_audits, store_answers
from exchange.storage.batches import add_events, insert_referrals
from exchange.storage.consents import ClientCode, guard_client_codes, guard_consents
from exchange.storage.outbox import OutgoingRecord, enqueue
from exchange.storage.peer_leases import hurry
from exchange.storage.referrals import EventRecord, ReferralRecord, add_changes
from exchange.storage.transaction import signal


class HandIn(NamedTuple):
    """One new referral: what it was decided on, and every row that it adds."""

    consent: tuple[str, int]
    """Its id, and the version that was read."""
    code: ClientCode | None
    """Nothing where only the agency's own software knows the survivor."""
    code_is_new: bool
    """It was made for this hand-in, and not read."""
    referral: ReferralRecord
    offered: EventRecord
    envelopes: tuple[OutgoingRecord, ...]
    audit: AuditEntry
    answer: KeptAnswer


def store_hand_ins(conn: Connection, hand_ins: Sequence[HandIn]) -> None:
    """Store new referrals.

    Raises:
        StaleConsentError: a consent changed or a code was erased meanwhile, or a receiver knows a survivor by another.
        sqlalchemy.exc.IntegrityError: one of the ids or idempotency keys was used before.
    """
    guard_consents(conn, [made.consent for made in hand_ins])
    codes = [(made.code, made.code_is_new) for made in hand_ins if made.code is not None]
    guard_client_codes(conn, [code for code, new in codes if not new], [code for code, new in codes if new])
    insert_referrals(conn, [made.referral for made in hand_ins])
    add_events(conn, [made.offered for made in hand_ins])
    enqueue(conn, [envelope for made in hand_ins for envelope in made.envelopes])
    for peer in sorted({made.referral.peer for made in hand_ins}):
        hurry(conn, peer, max(made.referral.created_at for made in hand_ins))
    signal(conn, "outbox")
    add_changes(conn, [(made.referral.id, made.referral.state, made.referral.created_at) for made in hand_ins])
    signal(conn, "changes")
    add_audits(conn, [made.audit for made in hand_ins])
    store_answers(conn, [made.answer for made in hand_ins])
