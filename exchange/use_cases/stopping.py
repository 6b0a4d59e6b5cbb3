"""Sending a stop: event, envelope and everything that ends with it, in one commit."""

from __future__ import annotations

from sqlalchemy import Connection

from exchange.referral.lifecycle import EventName
from exchange.stops import Stop
from exchange.storage.outbox import delete_held, delete_queued_forwards
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import make_stop, put_out
from exchange.use_cases.store_arrival import FORWARDS


def stop_referral(
    node: Node, conn: Connection, record: ReferralRecord, stop: Stop, name: EventName, *, ends_sharing: bool
) -> ReferralRecord:
    """Make the stop and its event. What has not left yet and must not leave any more is deleted in the same commit.

    Raises:
        StaleReferralError: take the step again.
    """
    sealed = make_stop(node, stop, record)
    header = sealed.header
    event = EventRecord(
        record.id, record.side, header.number or 0, name.value, header.seen, header.created, digest=sealed.digest
    )
    if ends_sharing:
        delete_queued_forwards(conn, record.id, FORWARDS)
        delete_held(conn, record.id)
    changed = change_referral(node, conn, record, what=name.value, events=[event])
    put_out(node, conn, sealed)
    return changed
