"""Prepared statements do what the same statements do through SQLAlchemy, and fail as they would."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from exchange.storage.database import Database
from exchange.storage.errors import StorageMisuseError, StorageUnavailableError
from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_listed, insert_unless_there, where_listed
from exchange.storage.tables import CHANGE, CONSENT, PEER, REFERRAL


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database.open(database_url)
    yield opened
    await opened.close()


CANARY = "canary-of-a-value"
_INSERT = Prepared(
    insert(CONSENT), columns=["id", "subject", "version", "state", "expires_at", "updated_at", "sealed_record"]
)
_LOAD = Prepared(
    select(CONSENT.c.id, CONSENT.c.sealed_record, CONSENT.c.unit).where(CONSENT.c.id == bindparam("the_id"))
)
_RENAME = Prepared(update(CONSENT).where(CONSENT.c.id == bindparam("the_id"), CONSENT.c.state == "given"), ["subject"])
_LISTED = Prepared(insert_listed(CHANGE), columns=["referral", "what", "at"])
_KNOW = Prepared(insert_unless_there(PEER), columns=["agency", "due_at"])


def consent(name: str, **more: Any) -> dict[str, Any]:
    row = {
        "subject": "s",
        "version": 1,
        "state": "given",
        "expires_at": 2**40,
        "updated_at": 1,
        "sealed_record": b"\0x",
    }
    return {"id": name, **row, **more}


async def test_values_come_back_as_core_promises(database: Database) -> None:
    def work(conn: Connection) -> tuple[Any, ...]:
        _INSERT.run(conn, consent("a"))
        _INSERT.run(conn, consent("b", sealed_record=None))
        return _LOAD.row(conn, {"the_id": "a"}), _LOAD.rows(conn, {"the_id": "b"}), _LOAD.row(conn, {"the_id": "c"})

    assert await database.write(work) == (("a", b"\0x", None), [("b", None, None)], None)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_what_the_driver_is_told_to_take_as_it_is_is_stored_as_it_is(database: Database) -> None:
    values = (b"\0x", b"", None, True, False, 7, "text")

    def kinds(conn: Connection) -> list[tuple[str, Any]]:
        driver: Any = conn.connection.driver_connection
        return [driver.execute("SELECT typeof(?1), ?1", (value,)).fetchone() for value in values]

    names = ("blob", "blob", "null", "integer", "integer", "integer", "text")
    assert await database.read(kinds) == list(zip(names, values, strict=True))


async def test_booleans_are_booleans(database: Database) -> None:
    columns = {"id": "r", "side": "s", "peer": "p", "sector": "x", "contract": "c", "state": "t"} | dict.fromkeys(
        ("created_at", "updated_at", "respond_by"), 1
    )
    add = Prepared(insert(REFERRAL), columns=[*columns, "undeliverable"])
    load = Prepared(select(REFERRAL.c.undeliverable, REFERRAL.c.resend, REFERRAL.c.hold))

    def work(conn: Connection) -> Any:
        add.run(conn, columns | {"undeliverable": True})
        return load.row(conn, {})

    # What no call gives has the default of its column.
    assert await database.write(work) == (True, False, "none")


async def test_a_row_is_what_its_names_would_be(database: Database) -> None:
    columns = ["unit", "id", "state", "subject", "version", "expires_at", "updated_at", "sealed_record"]
    add = Prepared(insert(CONSENT), columns=columns)
    load = Prepared(select(*(CONSENT.c[name] for name in columns)))
    row = (None, "a", "given", "s", 1, 2**40, 2, b"\0x")
    other = ("north", "b", "given", "t", 3, 4, 5, None)

    def work(conn: Connection) -> Any:
        add.run(conn, row)
        add.run_each(conn, [other])
        return sorted(load.rows(conn, {}), key=lambda found: str(found[1]))

    assert await database.write(work) == [row, other]


async def test_a_row_with_booleans_and_defaults(database: Database) -> None:
    columns = ["undeliverable", "state", "id", "side", "peer", "sector", "contract"]
    times = ["created_at", "updated_at", "respond_by"]
    add = Prepared(insert(REFERRAL), columns=[*columns, *times])
    load = Prepared(select(REFERRAL.c.undeliverable, REFERRAL.c.resend, REFERRAL.c.hold, REFERRAL.c.peer))

    def work(conn: Connection) -> Any:
        add.run(conn, (True, "t", "r", "s", "p", "x", "c", 1, 2, 3))
        return load.row(conn, {})

    assert await database.write(work) == (True, False, "none", "p")


@pytest.mark.parametrize("row", [("x", "what"), ("x", "what", 1, 2)])
async def test_a_row_of_another_length_is_a_mistake(database: Database, row: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="in their order"):
        await database.write(lambda conn: _LISTED.run(conn, row))


async def test_rows_that_were_changed_are_counted(database: Database) -> None:
    def work(conn: Connection) -> list[int]:
        _INSERT.run(conn, consent("a"))
        return [_RENAME.run(conn, {"the_id": name, "subject": "t"}) for name in ("a", "b")]

    assert await database.write(work) == [1, 0]


async def test_many_at_once(database: Database) -> None:
    def work(conn: Connection) -> list[int]:
        _INSERT.run_each(conn, [consent("a"), consent("b")])
        changed = _RENAME.run_each(conn, [{"the_id": name, "subject": "t"} for name in ("a", "b", "c")])
        return [changed, _RENAME.run_each(conn, [])]

    assert await database.write(work) == [2, 0]


@pytest.mark.parametrize("names", ["a", "ab", "abc"], ids=["one", "two", "several"])
async def test_who_stands_still_after_many_at_once_loses_the_transaction(database: Database, names: str) -> None:
    """On PostgreSQL, and its locks with it, however many were given: its driver's pipeline switched that off."""
    if database.dialect != "postgresql":
        return
    ended = list[bool]()

    def stands_still(conn: Connection) -> None:
        conn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        _INSERT.run_each(conn, [consent(name) for name in names])
        time.sleep(1)
        try:
            _INSERT.run(conn, consent("last"))
        except DBAPIError as error:
            ended.append(error.connection_invalidated)
            raise

    with pytest.raises(StorageUnavailableError):
        await database.write(stands_still)
    assert True in ended


async def test_values_of_the_statement_itself(database: Database) -> None:
    def work(conn: Connection) -> tuple[Any, ...]:
        _LISTED.run(conn, {"referral": "r", "what": "sent", "at": 5})
        _KNOW.run(conn, {"agency": "p", "due_at": 0})
        _KNOW.run(conn, {"agency": "p", "due_at": 9})
        change = conn.execute(select(CHANGE.c.referral, CHANGE.c.at, CHANGE.c.xid > 0)).one()
        return (*change, *conn.execute(select(PEER.c.due_at, PEER.c.attempts)).one())

    listed_with_transaction = database.dialect == "postgresql"
    assert await database.write(work) == ("r", 5, listed_with_transaction, 0, 0)


async def test_clash_is_sqlalchemys_and_shows_no_value(database: Database) -> None:
    def work(conn: Connection) -> None:
        _INSERT.run(conn, consent(CANARY))

    await database.write(work)
    with pytest.raises(IntegrityError) as caught:
        await database.write(work)
    assert CANARY not in f"{caught.value} {caught.value.params} {caught.value.orig!r} {caught.value.__context__!r}"


async def test_hidden_clash_is_refused(database: Database) -> None:
    def hide(conn: Connection) -> None:
        for _ in range(2):
            try:
                _INSERT.run(conn, consent("a"))
            except IntegrityError:
                return

    if database.dialect == "postgresql":
        with pytest.raises(StorageMisuseError):
            await database.write(hide)
    else:
        await database.write(hide)


async def test_reading_connection_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match="refuses writes"):
        await database.read(lambda conn: _INSERT.run(conn, consent("a")))
    assert await database.read(lambda conn: _LOAD.row(conn, {"the_id": "a"})) is None


async def test_a_read_may_use_both_ways(database: Database) -> None:
    await database.write(lambda conn: _INSERT.run(conn, consent("a")))

    def read(conn: Connection) -> tuple[Any, Any, Any]:
        before = _LOAD.row(conn, {"the_id": "a"})
        count = conn.execute(select(func.count()).select_from(CONSENT)).scalar()
        return before and before[0], count, _LOAD.row(conn, {"the_id": "b"})

    for _ in range(2):
        assert await database.read(read) == ("a", 1, None)


async def test_missing_parameter_is_a_mistake(database: Database) -> None:
    with pytest.raises(Exception, match="the_id"):
        await database.read(lambda conn: _LOAD.row(conn, {}))


@pytest.mark.parametrize(
    "statement",
    [
        select(CONSENT.c.id).where(CONSENT.c.id.in_(bindparam("the_ids", expanding=True))),
        select(CONSENT.c.id).where(CONSENT.c.id.in_(["a"])),
    ],
    ids=["named-list", "list"],
)
async def test_a_list_is_not_prepared(database: Database, statement: Any) -> None:
    prepared = Prepared(statement)
    with pytest.raises(TypeError):
        await database.read(lambda conn: prepared.rows(conn, {"the_ids": ["a"]}))


@pytest.mark.parametrize("given", [[], ["a"], ["b", "a", "absent", 'a"]', "a'"]], ids=["none", "one", "some"])
async def test_a_list_is_one_parameter_where_the_statement_says_so(database: Database, given: list[str]) -> None:
    listed = Prepared(where_listed(select(PEER.c.agency).order_by(PEER.c.agency), PEER.c.agency))
    insert_peer = Prepared(insert_unless_there(PEER), columns=["agency", "due_at"])
    there = ["a", "b", "c"]

    def write(conn: Connection) -> None:
        insert_peer.run_each(conn, [{"agency": agency, "due_at": 0} for agency in there])

    await database.write(write)
    found = await database.read(lambda conn: listed.rows(conn, {"the_ids": given}))
    assert [agency for (agency,) in found] == sorted({*there} & {*given})
