"""Which version a database has and which one this program needs, without the machinery that migrates.

Rules:

* Whatever looks at a version holds the lock of the migrations: it never sees a step half-way.
* The name of a step's file begins with its version, such as `main_0004`; the steps follow each other by number.
* A database with a version that no step here has, or with tables of something else, is refused and not touched.
* The main database and the key store have a history each.
* A PostgreSQL database of another encoding than UTF-8 is refused: what does not fit into it could not be written.
* Looking makes no file. A database that is not there is told apart from an old one: to migrate would make an empty one.

Every process of a node asks at its start. Alembic takes a good part of a second to load, so only
`exchange.storage.migrate` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.pool import NullPool

from exchange.storage.engine import (
    CONNECT_TIMEOUT_S,
    WRITES_SEE,
    SqliteFile,
    ends_when_gone,
    parse_url,
    sqlite_engine,
)
from exchange.storage.errors import (
    DatabaseEmptyError,
    DatabaseEncodingError,
    DatabaseNewerError,
    DatabaseOlderError,
    MigrationError,
    StorageError,
    StorageUnavailableError,
    as_unavailable,
)
from exchange.storage.tables import KEY_METADATA, METADATA

T = TypeVar("T")

VERSION_TABLE: Final = "alembic_version"
_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
# Any constant does, as long as every version of the program uses the same.
_LOCK: Final = 0x5265666572


class History(StrEnum):
    """Which of a node's two databases."""

    MAIN = "main"
    KEYS = "keys"

    @property
    def metadata(self) -> MetaData:
        """The tables that the code declares."""
        return METADATA if self is History.MAIN else KEY_METADATA

    @property
    def folder(self) -> Path:
        """Where its steps lie."""
        return _VERSIONS / self.value


_EMPTY: Final = {
    History.MAIN: "It is not there, or empty. Restore it from its backup; only a new node runs: exchange migrate",
    History.KEYS: "It is not there, or empty. If it was lost, contents stay lost. A new one: exchange migrate",
}
_NOT_UTF8: Final = (
    "The database does not hold text as UTF-8; nothing was changed. Let the server's administrator make another one "
    "(CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0), and restore into it what is in this one; of a key store "
    "keep no copy."
)


def current(url: str) -> str | None:
    """The version of the database; nothing for an empty one."""
    return None if _file_is_empty(url) else exclusively(url, stored_version)


def newest(history: History = History.MAIN) -> str:
    """The version that this program needs."""
    return known_versions(history.folder)[-1]


def ensure_current(url: str, history: History = History.MAIN) -> None:
    """Returns if this program may use the database as it is.

    Raises:
        DatabaseEmptyError: there is none, or nothing in it.
        DatabaseOlderError: it must be upgraded first.
        DatabaseNewerError: a newer version of the program has been here.
        DatabaseEncodingError: it does not hold text as UTF-8.
    """
    known = known_versions(history.folder)

    def run(connection: Connection) -> None:
        refuse_unknown(connection, known)
        found = stored_version(connection)
        if found is None:
            raise DatabaseEmptyError(_EMPTY[history])
        if found != known[-1]:
            raise DatabaseOlderError("The database is older than this program. Run: exchange migrate")

    if _file_is_empty(url):
        raise DatabaseEmptyError(_EMPTY[history])
    exclusively(url, run)


def known_versions(folder: Path) -> list[str]:
    """The versions of a folder of steps, the newest last."""
    known = sorted("_".join(file.stem.split("_")[:2]) for file in folder.glob("*_*.py"))
    if not known:
        raise MigrationError("This program carries no migrations.")
    return known


def stored_version(connection: Connection) -> str | None:
    """The version that is written in the database; nothing if none is."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one_or_none()  # noqa: S608
    return None if found is None else str(found)


def refuse_unknown(connection: Connection, known: Sequence[str]) -> None:
    """Returns if the database is empty or at a known version."""
    found = stored_version(connection)
    if found is not None and found not in known:
        # The same happens when somebody exchanges the addresses of main database and key store.
        raise DatabaseNewerError("The database is not one that this version of the program made; nothing was changed.")
    if found is None and inspect(connection).get_table_names():
        raise MigrationError("The database holds tables of something else; nothing was changed.")


def exclusively(url: str, function: Callable[[Connection], T]) -> T:
    """Runs a function in one transaction while no other process migrates."""
    engine = _engine(url)
    try:
        with _locked(engine) as connection:
            return function(connection)
    except StorageError:
        raise
    except Exception as error:
        outage = _outage(error)
        if outage is not None:
            raise outage from error
        raise MigrationError("A migration failed; the database is as it was before.") from error
    finally:
        engine.dispose()


def _outage(error: BaseException | None) -> StorageUnavailableError | None:
    """What an error or one before it says of the database.

    A full disk ends SQLite's whole transaction: tidying up after the step fails then, and only that error is raised.
    """
    while error is not None:
        if (found := as_unavailable(error)) is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            # Rebuilding a table drops the old one, which would delete the rows that refer to it.
            driver.execute("PRAGMA foreign_keys=OFF")
            driver.execute("BEGIN IMMEDIATE")
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection


def _file_is_empty(url: str) -> bool:
    """Whether a file is empty, or missing in a folder that is there; without the folder the address is wrong.

    One that was cut to nothing is not opened: SQLite waits for who has it open, and throws its log away.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return False
    path = Path(str(parsed.database)).absolute()
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return path.parent.is_dir()
    except OSError:
        return False  # whoever opens it is told why


def _engine(url: str) -> Engine:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(SqliteFile.at(parsed), reading=False)
    # Without the limits of the other connections: a step may take its time, and so may the wait for another node.
    engine = create_engine(
        ends_when_gone(parsed),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        # What another process has just migrated is seen by whoever waited for its lock.
        isolation_level=WRITES_SEE,
    )
    # First of all: with no encoding the driver hands out bytes, and SQLAlchemy fails at its own first look.
    event.listen(engine, "connect", _refuse_other_encodings, insert=True)
    return engine


def _refuse_other_encodings(dbapi_connection: Any, _record: Any) -> None:
    if dbapi_connection.info.parameter_status("server_encoding") != "UTF8":
        dbapi_connection.close()
        raise DatabaseEncodingError(_NOT_UTF8)
