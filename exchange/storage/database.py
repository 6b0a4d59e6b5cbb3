"""One database of a node: reads that see one moment, writes that are durable when they answer.

Rules:

* `write` answers after the commit (see `exchange.storage.writer`); `read` sees one snapshot and cannot write.
* Opening connects to nothing on PostgreSQL, and a database that went away is refused as `StorageUnavailableError` until
  it is back; nobody has to restart the node.
* A process that still runs when a newer version of the program has migrated the database writes nothing more there:
  what it leaves out the newer one would misread. It looks every few seconds, and goes on if its own version is back.
* A `Database` belongs to one event loop. `read_sync` and `write_sync` are for the command line, which has none.

A read runs on the event loop on SQLite (40 µs against a thread's hand-over of twice that) and in one of a few threads
on PostgreSQL. Keep reads short: lists have limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Connection, Engine, text

from exchange.elapsed import elapsed_s
from exchange.storage.engine import (
    BUSY_TIMEOUT_MS,
    READ_CONNECTIONS,
    FileIdentity,
    SqliteFile,
    check_room,
    check_writable,
    parse_url,
    postgres_engine,
    sqlite_engine,
)
from exchange.storage.errors import (
    BatchConflictError,
    BatchLostError,
    StorageBusyError,
    StorageClosedError,
    StorageNewerError,
    as_unavailable,
    for_caller,
)
from exchange.storage.lanes import Job, Lane, PostgresLane, SqliteLane, execute_in_this_thread, in_thread
from exchange.storage.rewriting import rewrite_table
from exchange.storage.transaction import Share, Together, TransactionFunction, guard_endings
from exchange.storage.wake import Wake
from exchange.storage.wake_channels import Channel, NotifyChannel, PipeChannel
from exchange.storage.writer import Writer, happen

__all__ = ["Connection", "Database"]

T = TypeVar("T")
Item = TypeVar("Item")

_SYNC_ATTEMPTS = 3
_WRITTEN_AGAIN_S = 1.0
_WAITED_S = BUSY_TIMEOUT_MS / 1000
"""Who has waited so long for its turn to read is not made to wait for a lock as well: where a table is locked for an
hour, what is asked in that hour would be answered long after it, whoever asked being gone."""
_VERSION_LOOKED_AT_S = 5.0
_VERSION = text("SELECT version_num FROM alembic_version")
_SEEN_S = 0.005
"""A read that follows another so soon does not look again whether the file is still there."""


class Database:
    """The main database or the key store, on SQLite or PostgreSQL."""

    def __init__(
        self, read: Engine, write: Engine, channel: Channel, file: SqliteFile | None, versions: Collection[str] = ()
    ) -> None:
        """Use `Database.open`."""
        guard_endings(write)
        self._read_engine = read
        self._write_engine = write
        self._channel = channel
        self._file = file
        self._reader: Connection | None = None
        self._reader_file: FileIdentity | None = None
        self._readers = ThreadPoolExecutor(READ_CONNECTIONS, thread_name_prefix="read") if file is None else None
        self._closed = False
        self._written = -_WRITTEN_AGAIN_S
        self._versions = versions
        self._version_seen = elapsed_s()
        self.wake = Wake(channel)
        lane: Lane = SqliteLane(write, file) if file else PostgresLane(write, channel.announce)
        self._writer = Writer(lane, self.wake.send)

    @classmethod
    def open(cls, url: str, versions: Collection[str] = ()) -> Self:
        """The database at a `sqlite:///file` or `postgresql://…` address; its tables come from `migrate.upgrade`.

        Args:
            url: the address.
            versions: those of its tables that this program knows, where the process may outlast a migration.

        Raises:
            DatabaseURLError: the address is of another kind.
            StorageUnavailableError: the SQLite file cannot be opened.
        """
        parsed = parse_url(url)
        if parsed.get_backend_name() == "postgresql":
            read, write = postgres_engine(parsed, reading=True), postgres_engine(parsed, reading=False)
            return cls(read, write, NotifyChannel(parsed), None, versions)
        file = SqliteFile.at(parsed)
        read, write = sqlite_engine(file, reading=True), sqlite_engine(file, reading=False)
        return cls(read, write, PipeChannel(file.path), file, versions)

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which of the two kinds it is."""
        return "postgresql" if self._file is None else "sqlite"

    async def read(self, function: Callable[[Connection], T]) -> T:
        """What the function reads from one snapshot; it must fetch its rows and cannot write.

        Raises:
            StorageUnavailableError: the database is not reachable.
        """
        if self._readers is None:
            return self._read_here(function)
        self._refuse_if_closed()
        # Each has a connection of its own: who does not wait any more leaves it to its thread.
        return await asyncio.wrap_future(self._readers.submit(self._read_in_time, function, time.monotonic()))

    async def write(self, function: TransactionFunction[T], *, durable: bool = True) -> T:
        """What the function returned, once it is durable; see `exchange.storage.writer` for the rules.

        Args:
            function: what is written.
            durable: False for what a power cut may undo, such as a lease: it is committed, survives the end of the
                process, and does not wait for the disk.

        Raises:
            StorageUnavailableError: nothing is stored, or (`CommitFailedError`) nobody knows.
            Exception: what the function raised; nothing of it is stored.
        """
        await self._refuse_if_newer()
        return await self._writer.submit(function, durable=durable)

    async def write_together(self, function: Together[Item], item: Item) -> None:
        """As `write`; what is queued beside it for the same function is written with it, by one call.

        If that call raises, the function is called for each item by itself: what it raises then is its caller's answer.

        Raises:
            StorageUnavailableError: nothing is stored, or (`CommitFailedError`) nobody knows.
            Exception: what the function raised for this item alone; nothing of it is stored.
        """
        await self._refuse_if_newer()
        await self._writer.submit(Share(function, item))

    def read_sync(self, function: Callable[[Connection], T]) -> T:
        """As `read`, for the command line."""
        return self._read_pooled(function) if self._file is None else self._read_here(function)

    def write_sync(self, function: TransactionFunction[T]) -> T:
        """As `write`, for the command line: a transaction of its own in the calling thread."""
        self._refuse_if_closed()
        job = Job(function)
        for _ in range(_SYNC_ATTEMPTS):
            try:
                if self._file is not None:
                    self._file.check(None)
                effects = execute_in_this_thread(self._write_engine, [job], self._channel.announce)
            except BatchConflictError:
                continue
            except BatchLostError as lost:
                raise for_caller(lost.reason) from None
            if job.error is not None:
                raise for_caller(job.error) from None
            happen(effects, self._channel.send)
            result: T = job.result
            return result
        raise StorageBusyError("Other writers change the same rows; try again.")

    async def scrub(self, table: str) -> None:
        """Removes from the database's files what was deleted from a table before. On SQLite all of it is written anew.

        Raises:
            StorageUnavailableError: it is not certain that the bytes are gone; call it again.
        """
        self._refuse_if_closed()
        try:
            if self._file is not None:
                await asyncio.to_thread(self._file.write_anew)
            elif self._readers is not None:
                await in_thread(self._readers, rewrite_table, self._write_engine, table)
        except Exception as error:  # noqa: BLE001 - for_caller keeps the programming errors as they are
            raise for_caller(error) from None

    async def carry_log(self) -> None:
        """Does apart what a commit would have to do now and then, and somebody wait for. Nothing on PostgreSQL.

        Raises:
            StorageUnavailableError: the database is not reachable.
        """
        self._refuse_if_closed()
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.carry_log)
            except Exception as error:  # noqa: BLE001 - for_caller keeps the programming errors as they are
                raise for_caller(error) from None

    async def ping(self) -> None:
        """Returns if the database answers, takes writes and has room for them (tried at most once a second).

        Raises:
            StorageUnavailableError: it does not.
        """
        await self.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
        if self._file is not None:
            self._file.check_room()
        if time.monotonic() - self._written >= _WRITTEN_AGAIN_S:
            if self._file is None:
                await self.read(check_room)
            await self.write(check_writable)
            self._written = time.monotonic()

    async def close(self) -> None:
        """Finishes what is queued, then gives everything back. No call is answered afterwards."""
        self._closed = True
        await self._writer.close()
        await self.wake.close()
        self.close_sync()

    def close_sync(self) -> None:
        """As `close`, for the command line."""
        self._closed = True
        if self._readers is not None:
            self._readers.shutdown()
        self._forget_reader()
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _read_here(self, function: Callable[[Connection], T]) -> T:
        self._refuse_if_closed()
        try:
            return _in_one_snapshot(self._this_reader(), function)
        except Exception as error:  # noqa: BLE001 - for_caller keeps the programming errors as they are
            if as_unavailable(error) is not None or (self._reader is not None and self._reader.in_transaction()):
                self._forget_reader()
            raise for_caller(error) from None

    def _read_in_time(self, function: Callable[[Connection], T], asked: float) -> T:
        if time.monotonic() - asked > _WAITED_S:
            raise StorageBusyError("Every connection to the database is in use.")
        return self._read_pooled(function)

    def _read_pooled(self, function: Callable[[Connection], T]) -> T:
        try:
            with self._read_engine.connect() as connection, connection.begin():
                return function(connection)
        except Exception as error:  # noqa: BLE001 - for_caller keeps the programming errors as they are
            raise for_caller(error) from None

    def _this_reader(self) -> Connection:
        """The connection on which reads run here, if it is still to the file that lies there."""
        found = self._file.check(self._reader_file, unless_seen_s=_SEEN_S) if self._file is not None else None
        if self._reader is None:
            self._reader = self._read_engine.connect()
            # Looked at again: it may have been replaced while it was opened.
            self._reader_file = self._file.check(found) if self._file is not None else None
        return self._reader

    def _forget_reader(self) -> None:
        reader, self._reader, self._reader_file = self._reader, None, None
        if reader is not None:
            with contextlib.suppress(Exception):
                reader.close()

    async def _refuse_if_newer(self) -> None:
        now = elapsed_s()
        if not self._versions or now - self._version_seen < _VERSION_LOOKED_AT_S:
            return
        if await self.read(lambda connection: connection.execute(_VERSION).scalar_one()) not in self._versions:
            raise StorageNewerError("A newer version of the program has migrated the database: start that one.")
        self._version_seen = now

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageClosedError("This node is shutting down.")


def _in_one_snapshot(reader: Connection, function: Callable[[Connection], T]) -> T:
    # Through the driver: SQLAlchemy's own transactions cost more than a query. One that the function needs begins by
    # itself, inside this one, and ends it.
    driver: Any = reader.connection.driver_connection
    driver.execute("BEGIN")
    try:
        return function(reader)
    finally:
        if reader.in_transaction():
            reader.rollback()
        driver.rollback()
