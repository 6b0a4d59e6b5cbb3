"""Rows that a batch of envelopes adds, with one statement for each table: fifty rows cost little more than one.

Rules:

* The order given is the order in which a cursor lists the rows.
* Nothing is overwritten. A row that is there raises IntegrityError; only an event that is on record stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, insert

from exchange.storage.inbox import ArrivedRecord
from exchange.storage.prepared import Prepared
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.storage.statements import insert_listed, insert_unless_there
from exchange.storage.tables import EVENT, INBOX, REFERRAL, SEEN_ENVELOPE


class GivenAnswer(NamedTuple):
    """What an envelope was answered with, and until when a repeat is answered with the same bytes."""

    sender: str
    id: str
    digest: str
    answer: bytes
    expires_at: int


_REFERRALS: Final = Prepared(insert(REFERRAL), columns=ReferralRecord._fields)
_EVENTS: Final = Prepared(insert_unless_there(EVENT), columns=EventRecord._fields)
_ARRIVED: Final = Prepared(insert_listed(INBOX), columns=ArrivedRecord._fields)
_ANSWERS: Final = Prepared(insert(SEEN_ENVELOPE), columns=GivenAnswer._fields)


def insert_referrals(conn: Connection, records: Iterable[ReferralRecord]) -> None:
    """New referrals.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the ids exists.
    """
    _REFERRALS.run_each(conn, records)


def add_events(conn: Connection, events: Iterable[EventRecord]) -> None:
    """Record events; one that is on record already stays as it is."""
    _EVENTS.run_each(conn, events)


def add_arrived(conn: Connection, items: Iterable[ArrivedRecord]) -> None:
    """New items of the inbox.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the ids was used before.
    """
    _ARRIVED.run_each(conn, items)


def remember_answers(conn: Connection, answers: Iterable[GivenAnswer]) -> None:
    """From now on repeats are answered with these bytes.

    Raises:
        sqlalchemy.exc.IntegrityError: another delivery of one of these envelopes was first.
    """
    _ANSWERS.run_each(conn, answers)
