"""The key store: keys that stand, keys that are wrapped, and above all keys that are gone when it says so."""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Table, delete, insert, make_url, select, text, update
from support.databases import MakeDatabase

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import EpochKey, ReferralKey, RowKey
from exchange.storage import engine, rewriting
from exchange.storage import key_store as key_store_module
from exchange.storage.database import Database
from exchange.storage.errors import StorageBusyError, StorageFullError, StorageUnavailableError
from exchange.storage.key_store import (
    ORPHANS_OLDER_THAN_MS,
    SWEEP_PAGE,
    EpochPrivate,
    KeyStore,
    epoch_keys_of,
    is_anothers_key_store,
)
from exchange.storage.tables import EPOCH_PRIVATE, REFERRAL_KEY

MASTER = RowKey(bytes(range(32)))
NOW = 1_800_000_000_000


def referral(number: int) -> str:
    return f"{number:032x}"


def key(number: int) -> ReferralKey:
    return ReferralKey(number.to_bytes(32, "big"))


def epoch(number: int, destroy_at: int = NOW) -> EpochPrivate:
    return EpochPrivate(EpochKey(number.to_bytes(32, "big")), NOW - 20, NOW - 10, destroy_at)


@asynccontextmanager
async def key_store(url: str, master: RowKey = MASTER) -> AsyncIterator[KeyStore]:
    database = Database.open(url)
    try:
        yield KeyStore(database, master)
    finally:
        await database.close()


def wrapped(connection: Connection, name: str) -> bytes:
    found = connection.execute(select(REFERRAL_KEY.c.wrapped).where(REFERRAL_KEY.c.referral == name)).scalar_one()
    return bytes(found)


async def test_a_key_stands_when_put_returns(key_store_url: str) -> None:
    keys = {referral(n): key(n) for n in range(50)}
    async with key_store(key_store_url) as store:
        assert await store.put_many(keys, at=NOW) == keys
    async with key_store(key_store_url) as store:
        assert await store.get_many([*keys, referral(99)]) == keys
        assert await store.get(referral(7)) == key(7)
        assert await store.get(referral(99)) is None


async def test_the_first_key_of_a_referral_stays(key_store_url: str) -> None:
    async with key_store(key_store_url) as here, key_store(key_store_url) as there:
        await here.put_many({referral(1): key(1)}, at=NOW)
        stands = await there.put_many({referral(1): key(11), referral(2): key(2)}, at=NOW)
        assert stands == {referral(1): key(1), referral(2): key(2)}


async def test_of_two_keys_at_the_same_moment_both_callers_get_the_same(key_store_url: str) -> None:
    async with key_store(key_store_url) as here, key_store(key_store_url) as there:
        for n in range(20):
            one, other = await asyncio.gather(
                here.put_many({referral(n): key(1)}, at=NOW), there.put_many({referral(n): key(11)}, at=NOW)
            )
            assert one == other == await here.get_many([referral(n)])


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_key_that_is_destroyed_while_it_is_found_is_none_that_stands(
    key_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with key_store(key_store_url) as here, key_store(key_store_url) as there:
        await there.put_many({referral(1): key(1)}, at=NOW)
        insert_new = key_store_module._insert_new

        def found_and_gone(connection: Connection, table: Table, rows: Sequence[Any]) -> None:
            insert_new(connection, table, rows)
            there.database.write_sync(lambda conn: conn.execute(delete(REFERRAL_KEY)) and None)

        with monkeypatch.context() as patch:
            patch.setattr(key_store_module, "_insert_new", found_and_gone)
            with pytest.raises(StorageBusyError):
                await here.put_many({referral(1): key(11)}, at=NOW)
        assert await here.put_many({referral(1): key(12)}, at=NOW) == {referral(1): key(12)}


async def test_no_key_is_stored_as_it_is(key_store_url: str) -> None:
    secret = secrets.token_bytes(32)
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): ReferralKey(secret)}, at=NOW)
        assert secret not in await store.database.read(partial(wrapped, name=referral(1)))


async def test_another_storage_key_opens_nothing(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW)
    async with key_store(key_store_url, RowKey(bytes(32))) as store:
        with pytest.raises(SealedRowError):
            await store.get(referral(1))


async def test_a_key_that_was_moved_to_another_referral_opens_nothing(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1), referral(2): key(2)}, at=NOW)

        def move(connection: Connection) -> None:
            stolen = wrapped(connection, referral(1))
            where = REFERRAL_KEY.c.referral == referral(2)
            connection.execute(update(REFERRAL_KEY).where(where).values(wrapped=stolen))

        await store.database.write(move)
        with pytest.raises(SealedRowError):
            await store.get(referral(2))
        # It stays, and no other waits for it.
        found = {referral(1): key(1), referral(2): None}
        assert await store.get_many([*found, referral(99)]) == found
        stands = await store.put_many({referral(n): key(10 + n) for n in (1, 2, 3)}, at=NOW)
        assert stands == {**found, referral(3): key(13)}


async def test_a_referral_key_is_no_epoch_key(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW)

        def move(connection: Connection) -> None:
            values = {"key_id": referral(1), "wrapped": wrapped(connection, referral(1))}
            connection.execute(insert(EPOCH_PRIVATE).values(**values, not_before=0, not_after=0, destroy_at=0))

        await store.database.write(move)
        with pytest.raises(SealedRowError):
            await store.epoch_key(referral(1))


def found_in_files(files: Sequence[Path], needles: Collection[bytes]) -> set[tuple[str, bytes]]:
    return {(file.name, needle) for file in files for needle in needles if needle in file.read_bytes()}


def sqlite_files(url: str) -> list[Path]:
    file = Path(str(make_url(url).database))
    return [path for path in sorted(file.parent.iterdir()) if path.is_file()]


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_destroyed_bytes_are_in_no_file_of_a_sqlite_key_store(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        keys = {referral(n): key(n) for n in range(300)}
        await store.put_many(keys, at=NOW)
        doomed = [referral(n) for n in range(0, 300, 7)]
        # The wrapped value, and the id in the way it stands in the row and in the index.
        needles = [await store.database.read(partial(wrapped, name=name)) for name in doomed]
        needles += [name.encode() for name in doomed]
        assert len({needle for _, needle in found_in_files(sqlite_files(key_store_url), needles)}) == len(needles)
        await store.destroy(doomed)
        assert found_in_files(sqlite_files(key_store_url), needles) == set()
        assert await store.get_many(keys) == {name: kept for name, kept in keys.items() if name not in doomed}


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_destroyed_bytes_are_in_no_table_file_of_a_postgresql_key_store(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        keys = {referral(n): key(n) for n in range(300)}
        await store.put_many(keys, at=NOW)
        doomed = [referral(n) for n in range(0, 300, 7)]
        needles = [await store.database.read(partial(wrapped, name=name)) for name in doomed]
        needles += [name.encode() for name in doomed]

        def table_files(connection: Connection) -> list[bytes]:
            connection.execute(text("CHECKPOINT"))
            paths = connection.execute(
                text("SELECT pg_relation_filepath(oid) FROM pg_class WHERE relname LIKE '%referral_key'")
            ).scalars()
            read = text("SELECT pg_read_binary_file(:path)")
            return [bytes(connection.execute(read, {"path": path}).scalar_one()) for path in paths.all()]

        before = await store.database.write(table_files)
        assert all(any(needle in content for content in before) for needle in needles)
        await store.destroy(doomed)
        after = await store.database.write(table_files)
        assert not any(needle in content for content in after for needle in needles)
        assert await store.get_many(keys) == {name: kept for name, kept in keys.items() if name not in doomed}


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(("keys", "seed", "rounds"), [(150, 9, 2), (200, 2, 5), (300, 26, 6)])
async def test_no_copy_of_a_destroyed_key_stays_in_a_page_from_which_it_was_moved(
    key_store_url: str, keys: int, seed: int, rounds: int
) -> None:
    """SQLite moves rows together where many were deleted; `secure_delete` overwrites only where a row lay last."""
    choice, living = random.Random(seed), [referral(n) for n in range(keys)]  # noqa: S311 - the same each time
    async with key_store(key_store_url) as store:
        await store.put_many({referral(n): key(n) for n in range(keys)}, at=NOW)
        query = select(REFERRAL_KEY.c.referral, REFERRAL_KEY.c.wrapped)
        kept = await store.database.read(lambda conn: {name: bytes(value) for name, value in conn.execute(query)})
        for _ in range(rounds):
            some = choice.sample(living, choice.choice([1, len(living) // 3, len(living) // 2]))
            await store.destroy(some)
            living = [name for name in living if name not in some]
            gone = [kept[name] for name in kept.keys() - set(living)]
            assert found_in_files(sqlite_files(key_store_url), gone) == set()
        assert len(found_in_files(sqlite_files(key_store_url), [kept[name] for name in living])) == len(living)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("hindrance", ["a-reader", "a-full-disk"])
async def test_a_destruction_that_is_tried_again_and_again_fills_no_disk(
    key_store_url: str, monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    """The courier tries every few seconds, and what is written anew goes through the log."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    file = sqlite_files(key_store_url)[0]
    log = file.with_name(f"{file.name}-wal")
    async with key_store(key_store_url) as store:
        await store.put_many({referral(n): key(n) for n in range(300)}, at=NOW)
        needle = await store.database.read(partial(wrapped, name=referral(1)))
        await store.finish()
        with closing(sqlite3.connect(file)) as reading, monkeypatch.context() as patch:
            if hindrance == "a-reader":
                reading.execute("BEGIN")
                reading.execute("SELECT * FROM referral_key").fetchall()
            else:
                patch.setattr(engine, "ROOM_BYTES", 2**62)
            for _ in range(5):
                with pytest.raises(StorageBusyError if hindrance == "a-reader" else StorageFullError):
                    await store.destroy([referral(1)])
            assert log.stat().st_size < file.stat().st_size
        await store.finish()
        assert found_in_files(sqlite_files(key_store_url), [needle]) == set()


READS = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "SELECT 1 FROM pg_class LIMIT 1")
WRITES = ("SELECT pg_current_xact_id()",)
OLD_TRANSACTIONS = {
    "that-reads-here": ("here", READS),
    "that-writes-here": ("here", WRITES),
    "that-writes-in-another-database": ("elsewhere", WRITES),
}


def in_table_file(database: psycopg.Connection[Any], needle: bytes, relation: str = "referral_key") -> bool:
    """Whether these bytes are in the file of a table, as it is on the disk."""
    database.execute("CHECKPOINT")
    row = database.execute("SELECT pg_read_binary_file(pg_relation_filepath(%s))", [relation]).fetchone()
    assert row is not None
    return needle in bytes(row[0])


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("ends", [True, False], ids=["that-ends", "that-does-not"])
@pytest.mark.parametrize(("where", "statements"), OLD_TRANSACTIONS.values(), ids=list(OLD_TRANSACTIONS))
async def test_destruction_is_not_claimed_while_an_older_transaction_runs(
    make_database: MakeDatabase,
    key_store_url: str,
    where: str,
    statements: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    ends: bool,
) -> None:
    """PostgreSQL takes deleted rows along into the new table as long as a snapshot reaches back to their time."""
    monkeypatch.setattr(rewriting, "BUSY_TIMEOUT_MS", 10_000 if ends else 200)
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW)
        needle = await store.database.read(partial(wrapped, name=referral(1)))
        with make_database(None) as elsewhere, psycopg.connect({"here": key_store_url}.get(where, elsewhere)) as old:
            for statement in statements:
                old.execute(statement)
            destroying = asyncio.create_task(store.destroy([referral(1)]))
            if ends:
                await asyncio.sleep(0.2)
                assert not destroying.done()
                old.rollback()
                await destroying
            else:
                with pytest.raises(StorageUnavailableError):
                    await destroying
                old.rollback()
                await store.destroy([referral(1)])
        with psycopg.connect(key_store_url, autocommit=True) as looks:
            assert not in_table_file(looks, needle)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_destruction_is_not_claimed_while_a_session_that_the_server_hides_sees_what_was_deleted(
    key_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role sees the sessions of others only by name: what a rewrite took along tells."""
    monkeypatch.setattr(rewriting, "BUSY_TIMEOUT_MS", 200)
    with psycopg.connect(key_store_url, autocommit=True) as server, a_role(server) as role:
        server.execute(f"ALTER TABLE referral_key OWNER TO {role}")
        async with key_store(make_url(key_store_url).set(username=role).render_as_string()) as store:
            await store.put_many({referral(1): key(1)}, at=NOW)
            needle = await store.database.read(partial(wrapped, name=referral(1)))
            with psycopg.connect(key_store_url) as old:
                for statement in READS:
                    old.execute(statement)
                with pytest.raises(StorageBusyError):
                    await store.destroy([referral(1)])
                assert in_table_file(server, needle)
            await store.finish()
            assert not in_table_file(server, needle)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_destruction_that_waits_for_a_session_that_the_server_hides_holds_no_reader_up(
    key_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for a lock on the whole table stands before everybody who comes later."""
    monkeypatch.setattr(rewriting, "BUSY_TIMEOUT_MS", 2_500)
    with psycopg.connect(key_store_url, autocommit=True) as server, a_role(server) as role:
        server.execute(f"ALTER TABLE referral_key OWNER TO {role}")
        async with key_store(make_url(key_store_url).set(username=role).render_as_string()) as store:
            await store.put_many({referral(n): key(n) for n in (1, 2)}, at=NOW)
            with psycopg.connect(key_store_url) as old:
                old.execute("SELECT count(*) FROM referral_key")
                destroying = asyncio.create_task(store.destroy([referral(1)]))
                waited = []
                while not destroying.done():
                    started = time.monotonic()
                    assert await store.get(referral(2)) == key(2)
                    waited.append(time.monotonic() - started)
                    await asyncio.sleep(0.02)
                assert isinstance(destroying.exception(), StorageBusyError)
                assert max(waited) < 1.0
            await store.finish()


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
async def test_destruction_takes_as_long_as_it_takes_whatever_a_role_allows(key_store_url: str, limit: str) -> None:
    """Of a table that takes longer to write than a statement may take nothing would ever be destroyed."""
    with psycopg.connect(key_store_url, autocommit=True) as server, a_role(server) as role:
        server.execute(f"ALTER TABLE referral_key OWNER TO {role}")
        server.execute(f"ALTER ROLE {role} SET {limit} = '300ms'")
        async with key_store(make_url(key_store_url).set(username=role).render_as_string()) as store:
            await store.put_many({referral(1): key(1)}, at=NOW)
            needle = await store.database.read(partial(wrapped, name=referral(1)))
            # The rewrite is as slow as a large table: it has to wait for one expression of an index.
            server.execute(
                "CREATE FUNCTION slow(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(0.6)'"
            )
            server.execute("SET statement_timeout = 0")
            server.execute("INSERT INTO referral_key VALUES ('slow', '', 0)")
            server.execute("CREATE INDEX slow ON referral_key (slow(referral)) WHERE referral = 'slow'")
            await store.destroy([referral(1)])
            assert not in_table_file(server, needle)

            def limits(connection: Connection) -> tuple[str, str]:
                shown = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in ("lock_timeout", limit)]
                return shown[0], shown[1]

            assert await store.database.write(limits) == ("10s", "300ms")


@contextmanager
def a_role(server: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that may do with the key store what a node does, and sees nobody else's sessions."""
    name = f"keys_{secrets.token_hex(6)}"
    server.execute(f"CREATE ROLE {name} LOGIN")
    server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}; GRANT CREATE ON SCHEMA public TO {name}")
    yield name
    server.execute(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_no_statistics_are_kept_of_keys(key_store_url: str) -> None:
    """What ANALYZE keeps of a column's values would outlive the key."""
    async with key_store(key_store_url) as store:
        await store.put_many({referral(n): key(n) for n in range(60)}, at=NOW)
        await store.put_epochs([epoch(n) for n in range(60)])
        needle = await store.database.read(partial(wrapped, name=referral(1)))
        with psycopg.connect(key_store_url, autocommit=True) as server:
            server.execute("ANALYZE")
            kept = server.execute("SELECT tablename, attname FROM pg_stats WHERE schemaname = 'public'").fetchall()
            assert ("referral_key", "created_at") in kept
            assert not [column for _, column in kept if column == "wrapped"]
            assert not in_table_file(server, needle, "pg_statistic")


@pytest.mark.parametrize("what", ["a-referral-key", "a-private-half"])
async def test_what_was_deleted_and_not_overwritten_is_overwritten_later(
    key_store_url: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a private half ended, which is in no table any more to be asked for again."""
    scrubbed: list[str] = []
    async with key_store(key_store_url) as store:
        await store.finish()
        await store.put_many({referral(1): key(1)}, at=NOW)
        await store.put_epochs([epoch(1)])
        real = store.database.scrub
        fails = [True]

        async def scrub(table: str) -> None:
            if fails:
                raise StorageBusyError("Somebody reads.")
            scrubbed.append(table)
            await real(table)

        monkeypatch.setattr(store.database, "scrub", scrub)
        with pytest.raises(StorageBusyError):
            await (store.destroy([referral(1)]) if what == "a-referral-key" else store.destroy_ended_epochs(NOW))
        with pytest.raises(StorageBusyError):
            await store.finish()
        fails.clear()
        for _ in range(2):
            await store.finish()
        assert scrubbed == ["referral_key" if what == "a-referral-key" else "epoch_private"]
    # A process that died left it undone as well.
    async with key_store(key_store_url) as store:
        assert store._unfinished == {"referral_key", "epoch_private"}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_destruction_is_not_claimed_while_a_reader_holds_the_log(
    key_store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.storage.engine.BUSY_TIMEOUT_MS", 100)
    async with key_store(key_store_url) as store, key_store(key_store_url) as other:
        await store.put_many({referral(1): key(1)}, at=NOW)
        reading = other.database._read_engine.connect()
        reading.exec_driver_sql("BEGIN")
        reading.execute(select(REFERRAL_KEY)).all()
        with pytest.raises(StorageBusyError):
            await store.destroy([referral(1)])
        reading.close()
        await store.destroy([referral(1)])
        assert await store.get(referral(1)) is None


async def test_destroying_again_or_what_never_was_is_no_error(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW)
        for _ in range(2):
            await store.destroy([referral(1), referral(2)])
        await store.destroy([])
        assert await store.get(referral(1)) is None


async def test_a_destroyed_referral_may_get_another_key(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW)
        await store.destroy([referral(1)])
        assert await store.put_many({referral(1): key(11)}, at=NOW) == {referral(1): key(11)}


@pytest.mark.parametrize("count", [pytest.param(10, id="one-page"), pytest.param(SWEEP_PAGE + 7, id="two-pages")])
async def test_orphans_are_swept_and_young_or_needed_keys_stay(key_store_url: str, count: int) -> None:
    async with key_store(key_store_url) as store:
        old = {referral(n): key(n) for n in range(count)}
        young = {referral(10_000): key(1)}
        await store.put_many(old, at=NOW - 1)
        await store.put_many(young, at=NOW)
        needed = set(list(old)[::2])

        async def known(referrals: Sequence[str]) -> set[str]:
            assert len(referrals) <= SWEEP_PAGE
            return needed & set(referrals)

        assert await store.sweep_orphans(known, before=NOW) == count - len(needed)
        assert set(await store.get_many([*old, *young])) == needed | set(young)
        assert await store.sweep_orphans(known, before=NOW) == 0


async def test_an_orphan_that_a_delivery_takes_up_again_while_it_is_swept_stays(key_store_url: str) -> None:
    """A process died between key and row, and the envelope comes again when the next one has just asked for the row."""
    long_ago, swept = NOW - 6 * ORPHANS_OLDER_THAN_MS, NOW - ORPHANS_OLDER_THAN_MS
    async with key_store(key_store_url) as store, key_store(key_store_url) as receiving:
        await store.put_many({referral(1): key(1), referral(2): key(2)}, at=long_ago)

        async def known(_referrals: Sequence[str]) -> set[str]:
            assert await receiving.put_many({referral(1): key(11)}, at=NOW) == {referral(1): key(1)}
            return set()

        assert await store.sweep_orphans(known, before=swept) == 1
        assert await store.get_many([referral(1), referral(2)]) == {referral(1): key(1)}


async def test_an_orphan_sweep_that_cannot_ask_destroys_nothing(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        await store.put_many({referral(1): key(1)}, at=NOW - 1)

        async def unreachable(_referrals: Sequence[str]) -> set[str]:
            raise StorageUnavailableError("The database cannot be reached.")

        with pytest.raises(StorageUnavailableError):
            await store.sweep_orphans(unreachable, before=NOW)
        assert await store.get(referral(1)) == key(1)


async def test_a_sweep_takes_no_key_of_another_node(key_store_url: str) -> None:
    """Two nodes on one server, and somebody mixed up the addresses: no backup would bring those keys back."""
    another = RowKey(bytes(range(1, 33)))
    async with key_store(key_store_url) as store, key_store(key_store_url, another) as mixed_up:
        await store.put_many({referral(1): key(1), referral(2): key(2)}, at=NOW - 1)
        await mixed_up.put_many({referral(3): key(3)}, at=NOW - 1)

        async def nothing(_referrals: Sequence[str]) -> set[str]:
            return set()

        assert await mixed_up.sweep_orphans(nothing, before=NOW) == 1
        assert await store.get_many([referral(1), referral(2)]) == {referral(1): key(1), referral(2): key(2)}
        assert await mixed_up.get(referral(3)) is None


async def test_whose_a_key_store_is(key_store_url: str) -> None:
    another = RowKey(bytes(range(1, 33)))
    async with key_store(key_store_url) as store, key_store(key_store_url, another) as mixed_up:
        assert not await store.is_anothers()
        assert not await mixed_up.is_anothers()  # a new one is everybody's
        await store.put_epochs([epoch(1)])
        await store.put_many({referral(1): key(1)}, at=NOW)
        assert not await store.is_anothers()
        assert await mixed_up.is_anothers()
        assert is_anothers_key_store(key_store_url, another)
        assert not is_anothers_key_store(key_store_url, MASTER)


async def test_a_retired_private_half_goes_on_opening_and_does_not_stand_again(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        retired, standing = epoch(1, destroy_at=NOW), epoch(2)
        await store.put_epochs([retired, standing])
        await store.retire_epochs([retired.key.key_id, "of nobody"])
        await store.put_epochs([retired])
        assert await store.standing_epoch_key_ids() == {standing.key.key_id}
        assert await store.epoch_key_ids() == {retired.key.key_id, standing.key.key_id}
        assert await store.epoch_key(retired.key.key_id) == retired.key
    assert epoch_keys_of(key_store_url) == {retired.key.key_id: False, standing.key.key_id: True}


async def test_private_halves_stand_and_end(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        ending, staying = epoch(1, destroy_at=NOW), epoch(2, destroy_at=NOW + 1)
        await store.put_epochs([ending, staying])
        await store.put_epochs([staying])
        assert await store.epoch_key(ending.key.key_id) == ending.key
        assert await store.destroy_ended_epochs(NOW - 1) == 0
        assert await store.destroy_ended_epochs(NOW) == 1
        assert await store.destroy_ended_epochs(NOW) == 0
        assert await store.epoch_key(ending.key.key_id) is None
        assert await store.epoch_key_ids() == {staying.key.key_id}


async def test_the_key_store_shows_no_key(key_store_url: str) -> None:
    async with key_store(key_store_url) as store:
        assert "0b0b" not in f"{store!r} {epoch(0x0B0B)!r} {await store.put_many({referral(1): key(0x0B0B)}, at=NOW)!r}"
