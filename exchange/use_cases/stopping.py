"""Sending a stop: event, envelope and everything that ends with it, in one commit."""

from __future__ import annotations

from typing import Final

from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.referral.lifecycle import EventName
from exchange.stops import Stop
from exchange.storage.database import Connection
from exchange.storage.outbox import delete_queued, give_up
from exchange.storage.referrals import EventRecord, ReferralRecord, hold_referrals, remove_events
from exchange.use_cases.answers_that_wait import say_less
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import make_stop, put_out_stop
from exchange.use_cases.taking_back import FORWARDS, disclosure_waits, never_disclosed, take_back_release
from exchange.use_cases.unheard import LATER, lacks_something

ANSWERS: Final = frozenset(kind.value for kind in Kind if class_of(kind) is KindClass.ANSWER)


def take_back(node: Node, conn: Connection, record: ReferralRecord, name: EventName) -> ReferralRecord:
    """Delete every forward that has not left; a release that never left is taken back with it.

    A disclosure that was put on its way may have arrived although no receipt came: it is not sent again, and the
    release stays on record. Where she ends the service no answer leaves any more either: feedback is disclosure too.
    Of a question the id stays: it may have arrived, and have been answered already. Where she only stops sharing, what
    waits says less or stays at home (`answers_that_wait`). What a recall destroys is told, because it can be undone
    (`unheard`).
    """
    hold_referrals(conn, [record.id])
    if name is EventName.STOP_SHARING:
        say_less(node, conn, record)
    if name in {EventName.STOP_SERVICE, EventName.ERASE}:
        give_up(conn, record.id, [Kind.INFORMATION_REQUEST.value], node.clock())
        delete_queued(conn, record.id, ANSWERS)
    if name is EventName.RECALLED:
        give_up(conn, record.id, LATER, node.clock())
        record = record._replace(undeliverable=record.undeliverable or lacks_something(conn, record))
        if disclosure_waits(conn, record.id):
            record = record._replace(hold="awaiting-disclosure")
    never_told = take_back_release(conn, record.id)
    remove_events(conn, record.id, delete_queued(conn, record.id, FORWARDS))
    return never_disclosed(record) if never_told else record


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
        record = take_back(node, conn, record, name)
    changed = change_referral(node, conn, record, what=name.value, events=[event])
    put_out_stop(node, conn, sealed, record.id)
    return changed
