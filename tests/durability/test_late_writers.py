"""A cursor on PostgreSQL never skips a row whose transaction commits late: of the inbox, and of the list of changes.

Sequence numbers are handed out before the commit: number 8 may be there while 7 is not, whichever transaction began
first. A reader that went on behind 8 would never see 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Table, create_engine, func, select, update
from support.postgres import Databases

from exchange.storage.batches import add_arrived, insert_referrals
from exchange.storage.database import Database
from exchange.storage.engine import parse_url
from exchange.storage.inbox import ArrivedRecord, forget_items, list_arrived
from exchange.storage.migrate import History, upgrade
from exchange.storage.referrals import ReferralRecord, add_change, forget_referral, list_changes
from exchange.storage.tables import CHANGE, INBOX
from exchange.storage.visibility import settle_restored


@pytest.fixture
def url(postgres: Databases) -> Iterator[str]:
    """A main database on PostgreSQL."""
    made = postgres.create()
    upgrade(made, History.MAIN)
    yield made
    postgres.drop(made)


class _InOrder:
    """What the lists have in common."""

    table: Table

    def dumped(self, conn: Connection, number: int) -> None:
        """All but what was read before come from another server, on which their transactions had this number."""
        conn.execute(update(self.table).where(self.table.c.seq > 1).values(xid=number))

    def restored(self, conn: Connection) -> None:
        """All come from another server, which had counted so many more transactions."""
        conn.execute(update(self.table).values(xid=self.table.c.xid + 1_000_000_007))

    def newest_transaction(self, conn: Connection) -> int:
        found: int = conn.execute(select(func.max(self.table.c.xid))).scalar_one()
        return found


class _Inbox(_InOrder):
    """What arrived."""

    table = INBOX

    def add(self, conn: Connection, name: str) -> None:
        item = ArrivedRecord(
            id=name, referral=name, sender="s", kind="offer", event=None, digest=name, status="new", received_at=0,
            respond_by=None, sealed_header=None, rewrapped_key=None, wrapped_key=None, ciphertext=None, signature=None,
            release=None,
        )  # fmt: skip
        add_arrived(conn, [item])

    def forget(self, conn: Connection, name: str) -> None:
        forget_items(conn, name)

    def after(self, conn: Connection, seq: int) -> list[tuple[int, str]]:
        return [(at, item.id) for at, item in list_arrived(conn, after=seq, limit=50, status=None, unit=None)]


class _Changes(_InOrder):
    """What the agency's own referrals have become."""

    table = CHANGE

    def add(self, conn: Connection, name: str) -> None:
        insert_referrals(conn, [ReferralRecord(name, "referring", "p", "s", "c", "sent", 0, 0, 0)])
        add_change(conn, name, "sent", 0)

    def forget(self, conn: Connection, name: str) -> None:
        forget_referral(conn, name)

    def after(self, conn: Connection, seq: int) -> list[tuple[int, str]]:
        return [(at, referral.id) for at, _, _, referral in list_changes(conn, seq, 50, None)]


_Listed = _Inbox | _Changes


@pytest.fixture(params=[_Inbox, _Changes], ids=["inbox", "changes"])
def listed(request: pytest.FixtureRequest) -> _Listed:
    """What is listed by a cursor."""
    made: _Listed = request.param()
    return made


@contextmanager
def _writer(url: str) -> Iterator[Connection]:
    """A transaction of another process, open until the test ends it."""
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        connection.begin()
        yield connection
    engine.dispose()


class _Reader:
    """Follows the cursor, page by page, and remembers what it saw."""

    def __init__(self, database: Database, listed: _Listed) -> None:
        self._database = database
        self._listed = listed
        self.after = 0
        self.seen: list[str] = []

    async def read(self) -> list[str]:
        rows = await self._database.read(lambda conn: self._listed.after(conn, self.after))
        fresh = [name for _, name in rows]
        self.after = rows[-1][0] if rows else self.after
        self.seen += fresh
        return fresh


@pytest.mark.parametrize("ends", ["commits", "rolls back"])
async def test_the_cursor_waits_for_the_earlier_transaction(url: str, listed: _Listed, ends: str) -> None:
    database = Database.open(url)
    reader = _Reader(database, listed)
    try:
        await database.write(lambda conn: listed.add(conn, "before"))
        assert await reader.read() == ["before"]
        with _writer(url) as late:
            listed.add(late, "late")
            for name in ("after-1", "after-2"):
                await database.write(lambda conn, name=name: listed.add(conn, name))  # type: ignore[misc]
                assert await reader.read() == []
            if ends == "commits":
                late.commit()
            else:
                late.rollback()
        expected = ["late", "after-1", "after-2"] if ends == "commits" else ["after-1", "after-2"]
        assert await reader.read() == expected
        assert await reader.read() == []
    finally:
        await database.close()


async def test_two_late_writers_that_commit_in_the_other_order(url: str, listed: _Listed) -> None:
    database = Database.open(url)
    reader = _Reader(database, listed)
    try:
        with _writer(url) as first, _writer(url) as second:
            listed.add(first, "first")
            listed.add(second, "second")
            second.commit()
            assert await reader.read() == []
            first.commit()
        assert await reader.read() == ["first", "second"]
    finally:
        await database.close()


async def test_a_writer_that_began_earlier_and_takes_the_later_number(url: str, listed: _Listed) -> None:
    database = Database.open(url)
    reader = _Reader(database, listed)
    try:
        with _writer(url) as long, _writer(url) as late:
            # As in every batch of several callers, and in most functions: something else was written first.
            insert_referrals(long, [ReferralRecord("other", "receiving", "p", "s", "c", "received", 0, 0, 0)])
            listed.add(late, "late")
            listed.add(long, "long")
            long.commit()
            assert await reader.read() == ["long"]
            late.commit()
        await database.write(lambda conn: listed.add(conn, "after"))
        assert await reader.read() == ["late", "after"]
        assert await reader.read() == []
    finally:
        await database.close()


async def test_what_was_restored_from_the_dump_of_another_server_is_listed(url: str, listed: _Listed) -> None:
    """Its transactions have numbers that this server has not reached yet."""
    database = Database.open(url)
    reader = _Reader(database, listed)
    try:
        for name in ("read before", "first", "second"):
            await database.write(lambda conn, name=name: listed.add(conn, name))  # type: ignore[misc]
            await reader.read()
        reader.after = 1
        await database.write(lambda conn: listed.dumped(conn, 1_000_000_007))
        await database.write(settle_restored)
        await database.write(lambda conn: listed.add(conn, "after"))
        assert await reader.read() == ["first", "second", "after"]
        await database.write(settle_restored)
        assert await database.read(listed.newest_transaction) > 0
    finally:
        await database.close()


async def test_what_a_dump_brings_keeps_the_order_in_which_it_was_read(url: str, listed: _Listed) -> None:
    """Who has read up to a later number may not have read an earlier one of a later transaction."""
    database = Database.open(url)
    reader = _Reader(database, listed)
    try:
        with _writer(url) as long, _writer(url) as late:
            insert_referrals(long, [ReferralRecord("other", "receiving", "p", "s", "c", "received", 0, 0, 0)])
            listed.add(late, "late")
            listed.add(long, "long")
            long.commit()
            assert await reader.read() == ["long"]
            late.commit()
        for name in ("after", "on a third server"):
            await database.write(listed.restored)
            await database.write(settle_restored)
            await database.write(lambda conn, name=name: listed.add(conn, name))  # type: ignore[misc]
        assert await reader.read() == ["late", "after", "on a third server"]
    finally:
        await database.close()


async def test_the_row_of_a_cursor_may_be_forgotten(url: str, listed: _Listed) -> None:
    database = Database.open(url)
    try:
        for name in ("first", "second", "third"):
            await database.write(lambda conn, name=name: listed.add(conn, name))  # type: ignore[misc]
        rows = await database.read(lambda conn: listed.after(conn, 0))
        await database.write(lambda conn: listed.forget(conn, "second"))
        left = await database.read(lambda conn: listed.after(conn, rows[1][0]))
        assert left == rows[2:]
        await database.write(lambda conn: listed.forget(conn, "third"))
        assert await database.read(lambda conn: listed.after(conn, rows[2][0])) == []
        await database.write(lambda conn: listed.add(conn, "fourth"))
        assert [name for _, name in await database.read(lambda conn: listed.after(conn, rows[2][0]))] == ["fourth"]
    finally:
        await database.close()
