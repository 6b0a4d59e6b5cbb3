"""Brings the tables of a database to the version of the code, or leaves them exactly as they were.

Rules:

* All steps of one upgrade are one transaction, on both databases: a step that fails leaves nothing half-done.
* Only one process migrates at a time; others wait, then find nothing left to do.
* A database that a newer version migrated is refused, not touched. There is no way down: restore a backup instead.
* The main database and the key store have a history each.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar, cast

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect
from sqlalchemy.pool import NullPool

from exchange.storage.engine import CONNECT_TIMEOUT_S, SqliteFile, parse_url, sqlite_engine
from exchange.storage.errors import (
    DatabaseNewerError,
    DatabaseOlderError,
    MigrationError,
    SchemaDriftError,
    StorageError,
    as_unavailable,
)
from exchange.storage.tables import KEY_METADATA, METADATA

T = TypeVar("T")

_FOLDER: Final = Path(__file__).parent / "migrations"
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


def upgrade(url: str, history: History = History.MAIN, *, versions: Path | None = None) -> str:
    """Brings the database to the newest version and returns it; does nothing if it is there.

    Args:
        url: the database's address.
        history: which of the node's two databases it is.
        versions: another folder of migrations (tests).

    Raises:
        DatabaseNewerError: a newer version of the program has been here.
        MigrationError: a step failed; the database is as it was.
        StorageUnavailableError: the database is not reachable.
    """
    config = _config(history, versions)

    def run(connection: Connection) -> str:
        _refuse_newer(connection, config)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _refuse_broken_references(connection)
        return _revision(connection) or ""

    return _exclusively(url, run)


def current(url: str) -> str | None:
    """The version of the database; nothing for an empty one."""
    return _exclusively(url, _revision)


def newest(history: History = History.MAIN) -> str:
    """The version that this program needs."""
    return _head(_config(history, None))


def ensure_current(url: str, history: History = History.MAIN) -> None:
    """Returns if this program may use the database as it is.

    Raises:
        DatabaseOlderError: it must be upgraded first.
        DatabaseNewerError: a newer version of the program has been here.
    """
    config = _config(history, None)

    def run(connection: Connection) -> None:
        _refuse_newer(connection, config)
        if _revision(connection) != _head(config):
            raise DatabaseOlderError("The database is older than this program. Run: exchange migrate")

    _exclusively(url, run)


def check(url: str, metadata: MetaData) -> None:
    """Returns if the database has exactly the tables, columns and indexes that the code declares.

    Raises:
        SchemaDriftError: it has not; the text names kinds of differences and tables.
    """

    def run(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts=configuration(connection))
        return list(compare_metadata(context, metadata))

    differences = _exclusively(url, run)
    if differences:
        raise SchemaDriftError("Tables and code differ: " + "; ".join(map(_describe, differences)))


def draft(history: History, message: str) -> Path:
    """Writes the next step from what differs between the steps so far and the code; for developers, who review it."""
    config = _config(history, None)
    steps = len(list(ScriptDirectory.from_config(config).walk_revisions()))
    with TemporaryDirectory() as folder:

        def run(connection: Connection) -> Path:
            config.attributes["connection"] = connection
            if steps:
                command.upgrade(config, "head")
            revision = f"{history.value}_{steps + 1:04}"
            script = command.revision(config, message, autogenerate=True, rev_id=revision)
            return Path(cast("Script", script).path)

        return _exclusively(f"sqlite:///{folder}/draft.db", run)


def configuration(connection: Connection) -> dict[str, Any]:
    """Alembic's settings, the same for upgrading, comparing and writing new steps."""
    return {
        # Tables are rebuilt where SQLite cannot alter them.
        "render_as_batch": connection.dialect.name == "sqlite",
        "compare_type": True,
        # Our own transaction; Python's SQLite driver is told not to commit before DDL (engine.py).
        "transactional_ddl": True,
        "user_module_prefix": "sqlmodel.sql.sqltypes.",
    }


def _config(history: History, versions: Path | None) -> Config:
    config = Config()
    config.set_main_option("script_location", _escaped(_FOLDER))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", _escaped(versions or _FOLDER / "versions" / history.value))
    config.attributes["metadata"] = history.metadata
    return config


def _escaped(path: Path) -> str:
    # Alembic reads its options through configparser, which expands per-cent signs.
    return str(path).replace("%", "%%")


def _head(config: Config) -> str:
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise MigrationError("This program carries no migrations.")
    return head


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _revision(connection)
    if found is not None and found not in known:
        # The same happens when somebody exchanges the addresses of main database and key store.
        raise DatabaseNewerError("The database is not one that this version of the program made; nothing was changed.")
    if found is None and inspect(connection).get_table_names():
        raise MigrationError("The database holds tables of something else; nothing was changed.")


def _refuse_broken_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise MigrationError("A step would have left rows that refer to nothing; nothing was changed.")


def _exclusively(url: str, function: Callable[[Connection], T]) -> T:
    """Runs a function in one transaction while no other process migrates."""
    engine = _engine(url)
    try:
        with _locked(engine) as connection:
            return function(connection)
    except StorageError:
        raise
    except Exception as error:
        unavailable = as_unavailable(error)
        if unavailable is not None:
            raise unavailable from error
        raise MigrationError("A migration failed; the database is as it was before.") from error
    finally:
        engine.dispose()


@contextmanager
def _locked(engine: Engine) -> Any:
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


def _engine(url: str) -> Engine:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(SqliteFile.at(parsed), reading=False)
    # Without the limits of the other connections: a step may take its time, and so may the wait for another node.
    return create_engine(
        parsed, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}
    )


def _describe(difference: Any) -> str:
    # A difference is a tuple (kind, …) or, for a changed column, a list of such.
    first = difference[0] if isinstance(difference, list) else difference
    subject = next((str(part) for part in first[1:] if isinstance(part, str) and part), None)
    named = getattr(first[1], "name", None) or subject or ""
    table = getattr(getattr(first[1], "table", None), "name", "")
    return " ".join(filter(None, (str(first[0]), str(table), str(named))))
