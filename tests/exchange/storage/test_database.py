"""Databases that are killed, full, locked, read-only, removed or restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, make_url, text
from support import notes_process
from support.notes import add, create, names, notes
from support.postgres import PostgresServer, running_server

from exchange.storage.database import Database
from exchange.storage.engine import DatabaseURLError, SqliteFile
from exchange.storage.errors import (
    CommitFailedError,
    DatabaseEmptyError,
    StorageBusyError,
    StorageDamagedError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from exchange.storage.versions import ensure_current

sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])
postgresql_only = pytest.mark.parametrize("database_kind", ["postgresql"])


def file_of(url: str) -> Path:
    return Path(str(make_url(url).database))


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("node.db", id="no-scheme"),
        pytest.param("sqlite://", id="sqlite-in-memory"),
        pytest.param("sqlite:///:memory:", id="sqlite-in-memory-by-name"),
        pytest.param("mysql://root:secret@host/db", id="another-database"),
        pytest.param("postgresql://user:secret@host:port/db", id="broken-port"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(DatabaseURLError) as refused:
        Database.open(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError):
        Database.open(f"sqlite:///{tmp_path}/no/such/folder/node.db")


@sqlite_only
async def test_the_files_are_the_owners_alone_and_set_up_for_durability(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        file = file_of(empty_database_url)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
        assert modes == {"node.db": 0o600, "node.db-wal": 0o600, "node.db-shm": 0o600}

        def settings(connection: Connection) -> dict[str, object]:
            asked = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "temp_store", "trusted_schema")
            return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked}

        expected = {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "secure_delete": 1,
            "temp_store": 2,
            "trusted_schema": 0,
        }
        assert await database.write(settings) == expected
        assert await database.read(settings) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="Giving a folder to another user needs root.")
@sqlite_only
async def test_what_root_makes_belongs_to_the_owner_of_the_folder(empty_database_url: str) -> None:
    """Root makes a new key store with `exchange migrate`, and the node runs as another user."""
    file = file_of(empty_database_url)
    os.chown(file.parent, 65534, 65533)
    async with notes(empty_database_url):
        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in file.parent.glob("node.db*")}
        assert owners == dict.fromkeys(("node.db", "node.db-wal", "node.db-shm"), (65534, 65533))


async def test_killed_between_commit_and_answer_the_row_is_there(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        process = notes_process.start(empty_database_url, "write-then-hang", "kept")
        with process:
            assert process.stdout is not None
            assert (await asyncio.to_thread(process.stdout.readline)) == "committed\n"
            process.kill()
            assert process.stdout.read() == ""
        assert await database.read(names) == ["kept"]
        assert await database.write(partial(add, name="after")) == "after"


async def test_killed_before_the_commit_nothing_is_there(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        process = notes_process.start(empty_database_url, "hold", "60")
        with process:
            assert process.stdout is not None
            assert (await asyncio.to_thread(process.stdout.readline)) == "holding\n"
            process.kill()
        assert await database.write(partial(add, name="after")) == "after"
        assert await database.read(names) == ["after"]


async def test_two_processes_write_to_one_database(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        process = notes_process.start(empty_database_url, "write-many", "b", "100")
        with process:
            for n in range(100):
                await database.write(partial(add, name=f"a{n:03}"))
            assert process.stdout is not None
            assert (await asyncio.to_thread(process.stdout.readline)) == "answered\n"
        assert await database.read(names) == [f"{prefix}{n:03}" for prefix in "ab" for n in range(100)]


@sqlite_only
async def test_opened_twice_in_one_process_still_holds_its_locks(empty_database_url: str) -> None:
    """Closing any descriptor of a file drops this process's locks on it; then another process throws the log away."""
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="first"))
        await Database.open(empty_database_url).close()
        log = file_of(empty_database_url + "-wal")
        before = log.stat().st_ino
        script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM note'); c.close()"
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script, str(file_of(empty_database_url))], check=True
        )
        assert log.stat().st_ino == before
        await database.write(partial(add, name="second"))
        assert await database.read(names) == ["first", "second"]


@sqlite_only
async def test_waiting_for_another_process_does_not_stop_the_loop(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        with notes_process.start(empty_database_url, "hold", "0.5") as process:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            waiting = asyncio.create_task(database.write(partial(add, name="patient")))
            longest = 0.0
            while not waiting.done():
                start = time.perf_counter()
                await asyncio.sleep(0.005)
                longest = max(longest, time.perf_counter() - start)
            assert await waiting == "patient"
            assert longest < 0.2


@sqlite_only
async def test_a_lock_that_is_never_released_is_refused(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.storage.lanes.BUSY_TIMEOUT_MS", 100)
    async with notes(empty_database_url) as database:
        with notes_process.start(empty_database_url, "hold", "60") as process:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            with pytest.raises(StorageBusyError):
                await database.write(partial(add, name="1"))
            process.kill()
        assert await database.write(partial(add, name="2")) == "2"


@sqlite_only
@pytest.mark.parametrize("others", [pytest.param(0, id="alone"), pytest.param(3, id="in-a-batch")])
async def test_a_full_disk_refuses_and_recovers(empty_database_url: str, others: int) -> None:
    async with notes(empty_database_url) as database:

        def limit(connection: Connection, pages: int) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

        await database.write(partial(limit, pages=20))
        big = database.write(partial(add, name="big", body="x" * 500_000))
        small = [database.write(partial(add, name=str(n))) for n in range(others)]
        answers = await asyncio.gather(big, *small, return_exceptions=True)
        assert isinstance(answers[0], StorageFullError)
        assert await database.read(names) == [answer for answer in answers if isinstance(answer, str)]
        await database.write(partial(limit, pages=1_000_000))
        assert await database.write(partial(add, name="big", body="x" * 500_000)) == "big"


@sqlite_only
async def test_a_write_protected_file_is_refused_and_recovers(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        protect = "PRAGMA query_only={}"
        await database.write(lambda connection: connection.exec_driver_sql(protect.format("ON")).close())
        with pytest.raises(StorageReadOnlyError):
            await database.write(partial(add, name="1"))
        await database.write(lambda connection: connection.exec_driver_sql(protect.format("OFF")).close())
        assert await database.write(partial(add, name="2")) == "2"


@postgresql_only
async def test_a_standby_is_refused_and_recovers_when_it_leads(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:

        def lead(*, leading: bool) -> None:
            name = sql.Identifier(str(make_url(empty_database_url).database))
            value = sql.SQL("off" if leading else "on")
            with psycopg.connect(
                empty_database_url, autocommit=True, options="-c default_transaction_read_only=off"
            ) as c:
                c.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(name, value))
                c.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        await asyncio.to_thread(partial(lead, leading=False))
        with pytest.raises(StorageReadOnlyError):
            await database.write(partial(add, name="1"))
        assert await database.read(names) == []
        await asyncio.to_thread(partial(lead, leading=True))
        assert await database.write(partial(add, name="2")) == "2"


@sqlite_only
async def test_a_file_that_was_removed_is_refused_and_never_replaced_by_an_empty_one(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        file = file_of(empty_database_url)
        away = file.with_suffix(".away")
        file.rename(away)
        for attempt in (database.write(partial(add, name="2")), database.read(names), database.ping()):
            with pytest.raises(StorageUnavailableError):
                await attempt
        with pytest.raises(StorageUnavailableError):
            database.write_sync(partial(add, name="2"))
        assert not file.exists()
        away.rename(file)
        assert await database.write(partial(add, name="3")) == "3"
        assert await database.read(names) == ["1", "3"]


def _cut(file: Path) -> None:
    os.truncate(file, 5000)


def _overwrite(file: Path) -> None:
    with file.open("r+b") as pages:
        pages.seek(100)
        pages.write(b"\xa5" * (file.stat().st_size - 100))


@sqlite_only
@pytest.mark.parametrize("damage", [_cut, _overwrite])
async def test_a_file_that_is_damaged_in_place_is_called_so(
    empty_database_url: str, damage: Callable[[Path], None]
) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        await database.scrub("note")
        damage(file_of(empty_database_url))
        another = Database.open(empty_database_url)  # what a connection holds in memory is still whole
        await _called_damaged(another)
        await another.close()


@pytest.mark.parametrize(("relation", "flip"), [("note", 0xFF), ("note_pkey", None)], ids=["a table", "an index"])
def test_a_page_that_is_damaged_at_the_server_is_called_so(relation: str, flip: int | None) -> None:
    """The server has two words: for a sum that does not match, and for an index in which something is missing."""
    with running_server() as server:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute("CREATE TABLE note (id text PRIMARY KEY, body text)")
            admin.execute("INSERT INTO note SELECT g, g FROM generate_series(1, 2000) AS g")
            admin.execute("CHECKPOINT")
            [(path,)] = admin.execute("SELECT pg_relation_filepath(%s)", [relation]).fetchall()
        server.stop()
        file = server.data / path
        file.write_bytes(bytes(0 if flip is None else byte ^ flip for byte in file.read_bytes()))
        server.start()
        database = Database.open(server.admin_url)
        for ask in (database.read_sync, database.write_sync):
            with pytest.raises(StorageDamagedError, match=r"server's administrator.*When a database file is damaged"):
                ask(lambda conn: conn.execute(text("SELECT body FROM note WHERE id = '7'")).scalar_one())
        database.close_sync()


@sqlite_only
async def test_a_file_that_is_cut_to_nothing_is_damaged_and_not_busy(empty_database_url: str) -> None:
    """SQLite takes it for a new one whose log another one holds: somebody would look in vain for who that is."""
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        file = file_of(empty_database_url)
        await database.scrub("note")
        copy = file.with_suffix(".copy")
        copy.write_bytes(file.read_bytes())
        os.truncate(file, 0)
        await asyncio.sleep(0.01)  # a read that follows another at once does not look at the file again
        await _called_damaged(database)
        log = file.with_name(file.name + "-wal")
        log.write_bytes(b"what may be saved from it")
        with pytest.raises(DatabaseEmptyError):  # for who looks at it from outside, at once
            ensure_current(empty_database_url)
        assert log.read_bytes() == b"what may be saved from it"
        with pytest.raises(StorageDamagedError):
            await database.carry_log()
        for rest in ("-wal", "-shm"):
            file.with_name(file.name + rest).unlink(missing_ok=True)
        copy.replace(file)
        assert await database.write(partial(add, name="2")) == "2"
        assert await database.read(names) == ["1", "2"]


async def _called_damaged(database: Database) -> None:
    with pytest.raises(StorageDamagedError, match="When a database file is damaged"):
        await database.read(names)
    with pytest.raises(StorageDamagedError):
        await database.write(partial(add, name="2"))
    with pytest.raises(StorageDamagedError):
        database.write_sync(partial(add, name="2"))


@sqlite_only
async def test_what_was_deleted_does_not_stay_in_the_log_of_a_node_that_writes_little(empty_database_url: str) -> None:
    """Who only carries the log leaves in it what was written, until as much is written again."""
    log = file_of(empty_database_url).with_name(f"{file_of(empty_database_url).name}-wal")
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="a word that was deleted"))
        await database.write(lambda connection: connection.execute(text("DELETE FROM note")) and None)
        assert b"a word that was deleted" in log.read_bytes()
        with closing(sqlite3.connect(file_of(empty_database_url))) as reading:
            reading.execute("BEGIN")
            reading.execute("SELECT * FROM note").fetchall()
            await database.carry_log()  # and waits for nobody
            assert log.stat().st_size > 0
        await database.carry_log()
        assert b"a word that was deleted" not in log.read_bytes() + file_of(empty_database_url).read_bytes()
        await database.write(partial(add, name="2"))
        await database.carry_log()
        assert log.stat().st_size > 0, "not at every turn: a log that has to grow makes commits slower"


def restore(url: str) -> None:
    """As an operator would who does not stop the node first: another file, with the rows of this moment."""
    file = file_of(url)
    copy = file.with_suffix(".copy")
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=WAL")
    for rest in ("-wal", "-shm"):
        file.with_name(file.name + rest).unlink(missing_ok=True)
    copy.replace(file)


@sqlite_only
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda database: database.carry_log(), id="who carries the log"),
        pytest.param(lambda database: database.read(names), id="a reader"),
        pytest.param(lambda database: database.write(partial(add, name="lost")), id="a writer"),
        pytest.param(lambda database: database.ping(), id="who asks how it is"),
    ],
)
async def test_nothing_is_written_to_a_file_that_was_replaced_whoever_noticed_it_first(
    empty_database_url: str, first: Callable[[Database], Awaitable[object]]
) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        assert await database.read(names) == ["1"]
        restore(empty_database_url)
        with contextlib.suppress(StorageUnavailableError):
            await first(database)
        stored = []
        for name in ("2", "3"):
            # Refused once, by whoever still holds the old one; what is not refused is there.
            with contextlib.suppress(StorageUnavailableError):
                stored.append(await database.write(partial(add, name=name)))
        with contextlib.suppress(StorageUnavailableError):
            await database.read(names)
        assert await database.read(names) == ["1", *stored]
        assert "3" in stored
        with closing(sqlite3.connect(file_of(empty_database_url))) as anybody:
            assert [name for (name,) in anybody.execute("SELECT id FROM note ORDER BY 1")] == ["1", *stored]


@sqlite_only
async def test_a_file_that_is_not_a_database_is_refused(empty_database_url: str) -> None:
    file_of(empty_database_url).write_bytes(os.urandom(8192))
    database = Database.open(empty_database_url)
    for attempt in (database.write(create), database.read(names)):
        with pytest.raises(StorageUnavailableError):
            await attempt
    await database.close()


async def test_a_programming_error_is_not_taken_for_an_outage(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        wrong = text("SELECT * FROM no_such_table")
        for attempt in (
            database.write(lambda connection: connection.execute(wrong).all()),
            database.read(lambda connection: connection.execute(wrong).all()),
        ):
            with pytest.raises(Exception, match=r"42P01|SQLITE_ERROR") as raised:
                await attempt
            assert not isinstance(raised.value, StorageUnavailableError)
        await database.ping()


async def refused(database: Database) -> bool:
    try:
        await database.write(partial(add, name="while-away"))
    except StorageUnavailableError:
        return True
    return False


async def test_a_restarted_server_is_used_again_without_help() -> None:
    with running_server() as server:
        async with notes(server.admin_url) as database:
            await database.write(partial(add, name="before"))
            # Open connections in both pools that the restart breaks.
            await database.ping()
            await asyncio.to_thread(server.stop)
            assert await refused(database)
            with pytest.raises(StorageUnavailableError):
                await database.ping()
            await asyncio.to_thread(server.start)
            assert await database.write(partial(add, name="after")) == "after"
            assert await database.read(names) == ["after", "before"]


async def test_a_server_that_stops_in_the_middle_of_a_batch_stores_nothing_of_it() -> None:
    with running_server() as server:
        async with notes(server.admin_url) as database:

            def interrupted(connection: Connection, server: PostgresServer) -> None:
                add(connection, "lost")
                server.stop()

            answers = await asyncio.gather(
                database.write(partial(add, name="1")),
                database.write(partial(interrupted, server=server)),
                database.write(partial(add, name="2")),
                return_exceptions=True,
            )
            assert all(isinstance(answer, StorageUnavailableError) for answer in answers)
            await asyncio.to_thread(server.start)
            assert await database.read(names) == []


def ended(connection: Connection) -> None:
    """The server ends this session while a statement runs, as it does with all of them where one met a PANIC."""
    add(connection, "lost")
    connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")


def ended_in_the_commit(connection: Connection) -> None:
    connection.exec_driver_sql(
        "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(5); RETURN NULL; END $$"
    )
    connection.exec_driver_sql(
        "CREATE CONSTRAINT TRIGGER end_it AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION end_it()"
    )
    add(connection, "lost")


@postgresql_only
@pytest.mark.parametrize("others", [pytest.param(0, id="alone"), pytest.param(3, id="in-a-batch")])
@pytest.mark.parametrize("when", [ended, ended_in_the_commit])
async def test_a_session_that_the_server_ends_is_an_outage(
    empty_database_url: str, when: Callable[[Connection], None], others: int
) -> None:
    async with notes(empty_database_url) as database:
        broken = database.write(when)
        small = [database.write(partial(add, name=str(n))) for n in range(others)]
        answers = await asyncio.gather(broken, *small, return_exceptions=True)
        told = CommitFailedError if when is ended_in_the_commit else StorageUnavailableError
        assert {type(answer) for answer in answers} == {told}
        assert await database.read(names) == []
        assert await database.write(partial(add, name="next")) == "next"


@postgresql_only
async def test_a_table_that_is_locked_holds_nobody_up_for_longer_than_two_locks(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VACUUM FULL of an hour, and a few connections to read with: those who come later are told, not queued."""
    wait_s = 0.3
    monkeypatch.setattr("exchange.storage.database._WAITED_S", wait_s)
    address = make_url(empty_database_url).update_query_dict({"options": f"-c lock_timeout={int(wait_s * 1000)}"})
    async with notes(address.render_as_string(hide_password=False)) as database:
        await database.read(names)
        with psycopg.connect(empty_database_url) as other:
            other.execute("LOCK TABLE note")
            started = time.monotonic()
            answers = await asyncio.gather(*(database.read(names) for _ in range(60)), return_exceptions=True)
            took_s = time.monotonic() - started
        assert {type(answer) for answer in answers} == {StorageBusyError}
        assert took_s < 4 * wait_s
        assert await database.read(names) == []


@postgresql_only
async def test_who_does_not_wait_for_a_read_any_more_holds_nobody_up(empty_database_url: str) -> None:
    """A peer is asked for a few seconds; where the database waits for longer the whole process stood still with it."""
    address = make_url(empty_database_url).update_query_dict({"options": "-c lock_timeout=1500"})
    async with notes(address.render_as_string(hide_password=False)) as database:
        with psycopg.connect(empty_database_url) as other:
            other.execute("LOCK TABLE note")
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await database.read(names)
            assert time.monotonic() - started < 1.0
        assert await database.read(names) == []


@postgresql_only
@pytest.mark.parametrize("asks", [Database.read_sync, Database.write_sync])
def test_a_pooler_that_drops_what_a_connection_asks_for_is_refused(
    empty_database_url: str, asks: Callable[[Database, Callable[[Connection], None]], None]
) -> None:
    """Without it there would be no end to a wait; and it is one that hands a session from one to the other."""
    address = make_url(empty_database_url).update_query_dict({"options": "-c lock_timeout=0"})
    database = Database.open(address.render_as_string(hide_password=False))
    with pytest.raises(StorageUnavailableError, match="pooler"):
        asks(database, lambda _: None)
    database.close_sync()


@postgresql_only
async def test_what_stands_still_in_a_transaction_loses_it_before_others_stop_waiting(empty_database_url: str) -> None:
    """A process that is stopped there would hold what it has locked for as long, and her no would be refused."""

    def limits(connection: Connection) -> list[int]:
        said = "SELECT CAST(setting AS int) FROM pg_settings WHERE name = :name"
        names = ("idle_in_transaction_session_timeout", "lock_timeout")
        return [connection.execute(text(said), {"name": name}).scalar_one() for name in names]

    async with notes(empty_database_url) as database:
        idle_ms, waits_ms = await database.write(limits)
    assert 0 < 2 * idle_ms <= waits_ms


@postgresql_only
async def test_what_a_role_has_set_weakens_no_promise(empty_database_url: str) -> None:
    """Whoever writes looks again behind each lock, and what is answered is on the disk."""
    with psycopg.connect(empty_database_url, autocommit=True) as server:
        for said in (
            "default_transaction_isolation = 'serializable'",
            "synchronous_commit = off",
            "timezone = 'Asia/Dhaka'",
        ):
            server.execute(
                sql.SQL("ALTER DATABASE {} SET ").format(sql.Identifier(str(make_url(empty_database_url).database)))
                + sql.SQL(said)
            )

    def settings(connection: Connection) -> tuple[str, str]:
        asked = "SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit')"
        isolation, durable = connection.exec_driver_sql(asked).one()
        return isolation, durable

    async with notes(empty_database_url) as database:
        assert await database.write(settings) == ("read committed", "on")
        assert (await database.write(settings, durable=False))[1] == "off"
        assert (await database.read(settings))[0] == "repeatable read"


@postgresql_only
async def test_a_stricter_commit_than_usual_stays(empty_database_url: str) -> None:
    address = make_url(empty_database_url).update_query_dict({"options": "-c synchronous_commit=remote_apply"})
    async with notes(address.render_as_string(hide_password=False)) as database:
        asked = text("SELECT current_setting('synchronous_commit')")
        assert await database.write(lambda connection: connection.execute(asked).scalar_one()) == "remote_apply"


@postgresql_only
@pytest.mark.parametrize(("said", "ends_after_ms"), [({}, 25_000), ({"tcp_user_timeout": "60000"}, 60_000)])
async def test_a_server_whose_machine_is_gone_is_not_waited_for(
    empty_database_url: str, said: dict[str, str], ends_after_ms: int
) -> None:
    """It sends nothing, also not that it is gone: only the kernel can tell, and untold it takes two hours."""
    address = make_url(empty_database_url).update_query_dict(said).render_as_string(hide_password=False)

    def limits(connection: Connection) -> tuple[int, int]:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            unanswered = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            silent_s = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            return unanswered, silent_s

    async with notes(address) as database:
        assert await database.write(limits) == (ends_after_ms, 10)
        assert await database.read(limits) == (ends_after_ms, 10)


def test_those_that_open_a_new_file_at_the_same_time_all_get_it(tmp_path: Path) -> None:
    together = threading.Barrier(5)

    def open_at_once(file: SqliteFile) -> str:
        together.wait(10)
        connection = file.connect()
        try:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as threads:
        for number in range(20):
            file = SqliteFile(tmp_path / f"{number}.db")
            assert set(threads.map(open_at_once, [file] * together.parties)) == {"wal"}
