"""Connections to one database, set up so that what is committed stays and what is deleted goes.

Rules of every SQLite connection: write-ahead log, `synchronous=FULL` (a commit is on the disk before it returns),
foreign keys on, deleted bytes overwritten, temporary tables in memory only, no code from the schema trusted. The file
is created for its owner alone, and only when the database is opened the first time: a file that disappears later is
refused, never silently replaced by an empty one.

Rules of every PostgreSQL connection: no endless wait for a lock, a connection, or a server that is not there any more;
no transaction left open by a stalled process; READ COMMITTED for whoever writes, whatever the role's default is: a lock
is taken to see what was committed before it. A commit is on the disk before it returns, where the server or the role
says otherwise too; which standbys it waits for is theirs to say.

Reading connections cannot write on either database.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from exchange.storage.errors import (
    DAMAGED,
    NOT_OPENED,
    StorageBusyError,
    StorageDamagedError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a writer waits for another process's transaction on the same SQLite file."""
CONNECT_TIMEOUT_S: Final = 5
ROOM_BYTES: Final = 1024 * 1024
WRITES_SEE: Final = "READ COMMITTED"
READ_CONNECTIONS: Final = 4
WRITE_CONNECTIONS: Final = 4

_AGAIN_S: Final = 0.02
_CUT_EVERY_S: Final = 600.0
"""A log that was cut grows again, and whoever commits waits for that: not at every turn of the courier."""

_SQLITE_PRAGMAS: Final = (
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "temp_store=MEMORY",
    "trusted_schema=OFF",
    # The courier carries the log into the file every few seconds; a commit does it only where there is too much of it.
    "wal_autocheckpoint=4000",
)
# What the driver does with them anyway. Unless it is told, it asks each such value at each statement whether there is
# another way, which takes several times as long as binding it.
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), {None: None}.get)
_POSTGRES_ALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A server whose machine is gone sends nothing, also not that it is gone: a failover, or a line that was cut. Without
these whoever waits for its answer waits for a quarter of an hour, or two."""
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)
_ENDS_WAITS: Final = "SELECT current_setting('lock_timeout') <> '0'"
_POOLER: Final = (
    "What a connection asks for does not hold, as where a pooler stands before the server: give the node the server "
    "itself (docs/running-a-node.md, Make it)."
)
STANDS_STILL_MS: Final = BUSY_TIMEOUT_MS // 2
"""A process that was stopped, or starves, in the middle of a transaction loses it: whoever waits for its locks, her no
among them, has them before it gives up."""
_POSTGRES_OPTIONS: Final = f"-c lock_timeout={BUSY_TIMEOUT_MS} -c idle_in_transaction_session_timeout={STANDS_STILL_MS}"


class DatabaseURLError(StorageError):
    """The configured address is not one of a database this program can use."""

    code = "storage-url"


def parse_url(url: str) -> URL:
    """A `sqlite:///file` or `postgresql://…` address with the driver this program uses.

    Raises:
        DatabaseURLError: for any other address, and for SQLite in memory, which no second connection could see.
    """
    try:
        parsed = make_url(url)
    except Exception:  # noqa: BLE001 - the parser's own text quotes the address, which may hold a password
        parsed = None
    if parsed is not None and parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite")
    message = "The database address must look like sqlite:////folder/node.db or postgresql://user@host/name."
    raise DatabaseURLError(message) from None


FileIdentity = tuple[int, int]
"""Device and inode."""


class SqliteFile:
    """The file of a SQLite database, and the question whether it is still the one that was opened."""

    def __init__(self, path: Path) -> None:
        """Creates the file, for its folder's owner alone, if there is none; write-ahead log and index inherit that."""
        self.path = path
        self._name = str(path)
        self._filled: FileIdentity | None = None
        try:
            # Never opened when it is there already: closing any descriptor of a file drops all locks that SQLite holds
            # on it in this process, and then two connections throw each other's log away.
            with suppress(FileExistsError):
                create_file(path)
            self._seen = self._look()
        except OSError as error:
            raise StorageUnavailableError(NOT_OPENED) from error
        self._seen_at = -math.inf
        self._cut_at = -math.inf

    @classmethod
    def at(cls, url: URL) -> SqliteFile:
        """The file that a parsed address names."""
        return cls(Path(str(url.database)).absolute())

    def check(self, opened: FileIdentity | None, *, unless_seen_s: float = 0.0) -> FileIdentity:
        """Which file lies there now. Who holds a connection to another one must not go on with it.

        The rows of a file that was removed or replaced are lost with the last process that has it open. Each connection
        is compared by whoever holds it: of two that hold one, neither learns from what the other was told.

        Args:
            opened: the file to which the caller's connection is; nothing where it has none.
            unless_seen_s: who reads may trust a look that is so recent; who writes never does.

        Raises:
            StorageUnavailableError: there is none, or it is another one. The connection is to be dropped.
            StorageDamagedError: it was cut to nothing.
        """
        now = time.monotonic()
        if not 0 <= now - self._seen_at < unless_seen_s:
            try:
                self._seen = self._look()
            except OSError as error:
                self._seen_at = -math.inf
                raise StorageUnavailableError("The database file is gone.") from error
            self._seen_at = now
        if opened not in {None, self._seen}:
            raise StorageUnavailableError("The database file was replaced.")
        return self._seen

    def check_room(self, needed: int = 0) -> None:
        """Refuses where the disk is as good as full: small transactions may still fit, and the next one does not."""
        found = os.statvfs(self.path.parent)
        if found.f_bavail * found.f_frsize < needed + ROOM_BYTES:
            raise StorageFullError("The database has no space left.")

    def connect(self) -> sqlite3.Connection:
        """One more connection; it may be handed from thread to thread, but is never used by two at a time."""
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def carry_log(self) -> None:
        """Carries what it can of the write-ahead log into the file, and holds nobody up.

        Now and then it is cut as well, unless somebody is in the way: what was deleted would lie in it until as much is
        written again, and that takes a quiet node weeks.
        """
        self.check(None)
        with closing(self.connect()) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            now = time.monotonic()
            if now - self._cut_at >= _CUT_EVERY_S:
                connection.execute("PRAGMA busy_timeout=0")
                if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    self._cut_at = now

    def write_anew(self) -> None:
        """Writes the file anew from what stands in its tables, and cuts the write-ahead log to nothing.

        To overwrite what is deleted is not enough: where SQLite moves a row to another page, a copy stays in what is
        unused of the first then, and is not overwritten when the row is deleted.

        Raises:
            sqlite3.OperationalError: another process writes for so long.
            StorageFullError: it does not fit on the disk twice.
            StorageBusyError: somebody read for so long that the log could not be cut.
        """
        self.check(None)
        with closing(self.connect()) as connection:
            # It goes through the log: with a reader that never ends that would grow by all of it at each try.
            _cut_log(connection)
            self.check_room(self.path.stat().st_size)
            connection.execute("VACUUM")
            _cut_log(connection)

    def _look(self) -> FileIdentity:
        found = os.stat(self._name)  # noqa: PTH116 - before every commit; a path takes as long again as the question
        identity = found.st_dev, found.st_ino
        if found.st_size:
            self._filled = identity
        elif self._filled == identity:
            # SQLite takes it for a new file whose log another one holds, waits, and calls it busy.
            raise StorageDamagedError(DAMAGED)
        return identity


def _cut_log(connection: sqlite3.Connection) -> None:
    # SQLite waits for readers by itself, but not for another process that cuts the log at this moment.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= deadline:
            raise StorageBusyError("The write-ahead log is in use; deleted content may still be in it.")
        time.sleep(_AGAIN_S)


def create_file(path: Path) -> None:
    """An empty file beside others of a node, for their owner alone.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            # Made by root, who migrates for the node's user: SQLite gives log and index to the owner of the file.
            folder = os.stat(path.parent)  # noqa: PTH116 - beside `os.fchown`
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def _set_up(connection: sqlite3.Connection) -> None:
    mode = _write_ahead(connection)
    if mode != "wal":
        raise StorageUnavailableError("The database file lies on a disk that cannot share it safely.")
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> str:
    """The journal's mode, asked to be the write-ahead log. Of two that ask first SQLite refuses one without waiting."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(_AGAIN_S)


def sqlite_engine(file: SqliteFile, *, reading: bool) -> Engine:
    """An engine without a pool: its few connections are kept open by those who use them."""
    # hide_parameters: values of rows never stand in the text of an exception.
    engine = create_engine("sqlite://", creator=file.connect, poolclass=NullPool, hide_parameters=True)
    if reading:
        event.listen(engine, "connect", _sqlite_query_only)
    return engine


def postgres_engine(url: URL, *, reading: bool) -> Engine:
    """An engine whose pool tests a connection before use, so that it survives a restart of the server."""
    # A caller's own options stand last and win.
    options = f"{_POSTGRES_OPTIONS} {own_options(url)}"
    connect_args: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "options": options}
    url = ends_when_gone(url)
    engine = create_engine(
        url.difference_update_query(["options"]),
        connect_args=connect_args,
        pool_size=READ_CONNECTIONS if reading else WRITE_CONNECTIONS,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        hide_parameters=True,
        # One snapshot for all statements of a read, as on SQLite.
        isolation_level="REPEATABLE READ" if reading else WRITES_SEE,
    )
    event.listen(engine, "connect", _refuse_pooler)
    event.listen(engine, "connect", _postgres_read_only if reading else _postgres_durable)
    return engine


def ends_when_gone(url: URL) -> URL:
    """A PostgreSQL address whose connections end when the server's machine is gone; what it says itself counts."""
    return url.update_query_dict({name: str(value) for name, value in _POSTGRES_ALIVE.items() if name not in url.query})


def own_options(url: URL) -> str:
    """What a PostgreSQL address asks of the server in `options`, as one text: it may stand there more than once."""
    own = url.query.get("options", "")
    return own if isinstance(own, str) else " ".join(own)


def check_writable(connection: Connection) -> None:
    """Writes what stands there already; a transaction function.

    Raises:
        StorageUnavailableError, sqlalchemy.exc.DBAPIError: it cannot be written.
    """
    if connection.dialect.name == "sqlite":
        version = connection.execute(text("PRAGMA user_version")).scalar_one()
        connection.execute(text(f"PRAGMA user_version={int(version)}"))
    elif connection.execute(text("SELECT current_setting('transaction_read_only')")).scalar_one() != "off":
        raise StorageReadOnlyError("The database refuses writes.")


def check_whole(connection: Connection) -> None:
    """Reads through a SQLite file, and finds damage that no statement has met yet; takes seconds for a gigabyte.

    Raises:
        StorageDamagedError, sqlalchemy.exc.DBAPIError: it is damaged.
    """
    # What it found names tables and pages only, and no operator can do anything with that.
    if connection.dialect.name == "sqlite" and connection.execute(text("PRAGMA quick_check(1)")).scalar_one() != "ok":
        raise StorageDamagedError(DAMAGED)


_NARROW: Final = text("SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)")
"""For this transaction: what takes more memory goes to a temporary file, beside the tables of this database."""
_HOLD_ROOM: Final = text(
    f"WITH room AS MATERIALIZED (SELECT repeat('x', 8192) FROM generate_series(1, {ROOM_BYTES // 8192}))"  # noqa: S608
    " SELECT count(*) FROM room"
)


def check_room(connection: Connection) -> None:
    """Has the PostgreSQL server hold that much room on the disk of the tables; its log may lie on another one.

    It does not say how much there is. A temporary file is in no log, nobody waits for the disk, and it is gone at once.

    Raises:
        sqlalchemy.exc.DBAPIError: there is less.
    """
    connection.execute(_NARROW)
    connection.execute(_HOLD_ROOM)


def _sqlite_query_only(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.execute("PRAGMA query_only=ON")


def _refuse_pooler(dbapi_connection: Any, _record: Any) -> None:
    """One that drops the options of a connection also hands the session on after each transaction.

    Statements that were prepared are not there any more then, nothing is heard, and no wait has an end.
    """
    holds = dbapi_connection.execute(_ENDS_WAITS).fetchone()
    dbapi_connection.rollback()
    if holds != (True,):
        raise StorageUnavailableError(_POOLER)


def _postgres_durable(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.execute(_DURABLE)
    dbapi_connection.commit()


def _postgres_read_only(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.read_only = True
