"""What this side has said of a referral and nobody has heard: its envelope was destroyed on its way, or refused."""

from __future__ import annotations

from exchange.storage.database import Connection
from exchange.storage.outbox import came_to_nothing
from exchange.storage.referrals import ReferralRecord, events_of


def unheard(conn: Connection, record: ReferralRecord) -> frozenset[str]:
    """The digests of the envelopes that carried such events."""
    said = [event for event in events_of(conn, [record.id])[record.id] if event.side == record.side]
    return came_to_nothing(conn, record.id, [event.digest for event in said if event.digest is not None])


def heard_again(conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """What was said last goes, or has arrived: nothing is undeliverable any more, unless something else is."""
    return record._replace(undeliverable=record.undeliverable and bool(unheard(conn, record)))
