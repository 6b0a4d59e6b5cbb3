"""Rows that a batch of envelopes adds, with one statement for each table: fifty rows cost little more than one.

Rules:

* The order given is the order in which a cursor lists the rows.
* Nothing is overwritten. A row that is there raises IntegrityError; only an event that is on record stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from sqlalchemy import Connection, Insert, insert

from exchange.storage.inbox import ArrivedRecord
from exchange.storage.prepared import Prepared, Row
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.storage.statements import Both, insert_listed, insert_unless_there
from exchange.storage.tables import EVENT, INBOX, REFERRAL, SEEN_ENVELOPE


class GivenAnswer(NamedTuple):
    """What an envelope was answered with, and until when a repeat is answered with the same bytes."""

    sender: str
    id: str
    digest: str
    answer: bytes
    expires_at: int


class _Adding:
    """Inserts rows, without the columns that few new rows have where none of these has them.

    To bind nothing takes the driver of SQLite longer than to bind something, and what is not named is nothing too.
    """

    def __init__(self, statement: Insert | Both[Insert], fields: Sequence[str], seldom: Collection[str]) -> None:
        often = [name for name in fields if name not in seldom]
        self._all = Prepared(statement, columns=fields)
        self._few = Prepared(statement, columns=often)
        self._often = itemgetter(*map(fields.index, often))
        self._seldom = itemgetter(*map(fields.index, seldom))
        self._nothing = (None,) * len(seldom)

    def run_each(self, conn: Connection, rows: Iterable[Row]) -> None:
        """Insert them, in this order."""
        given = list(rows)
        if all(self._seldom(row) == self._nothing for row in given):
            self._few.run_each(conn, map(self._often, given))
        else:
            self._all.run_each(conn, given)


_REFERRALS: Final = _Adding(
    insert(REFERRAL),
    ReferralRecord._fields,
    [
        "disclosed_at",
        "overdue_at",
        "sharing_stopped_at",
        "closed_at",
        "blocked_at",
        "destroy_at",
        "destroyed_at",
        "forget_at",
        "unserved_until",
        "known_as",
    ],
)
_EVENTS: Final = Prepared(insert_unless_there(EVENT), columns=EventRecord._fields)
_ARRIVED: Final = _Adding(
    insert_listed(INBOX), ArrivedRecord._fields, ["wrapped_key", "release", "opened_at", "consent_ended_at"]
)
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
