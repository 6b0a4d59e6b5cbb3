"""Brings the tables of a database to the version of the code, or leaves them exactly as they were.

Rules:

* All steps of one upgrade are one transaction, on both databases: a step that fails leaves nothing half-done.
* Only one process migrates at a time; others wait, then find nothing left to do.
* A database that a newer version migrated is refused, not touched. There is no way down: restore a backup instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, MetaData

from exchange.storage.errors import MigrationError, SchemaDriftError
from exchange.storage.versions import History, exclusively, known_versions, refuse_unknown, stored_version

_FOLDER: Final = Path(__file__).parent / "migrations"


AfterSteps = Callable[[Connection, str | None], None]


def upgrade(
    url: str, history: History = History.MAIN, *, after: AfterSteps | None = None, versions: Path | None = None
) -> str:
    """Brings the database to the newest version and returns it; does nothing if it is there.

    Args:
        url: the database's address.
        history: which of the node's two databases it is.
        after: run in the transaction of the steps, with the version from before them; nothing for an empty database.
        versions: another folder of migrations (tests).

    Raises:
        DatabaseNewerError: a newer version of the program has been here.
        DatabaseEncodingError: it does not hold text as UTF-8.
        MigrationError: a step failed; the database is as it was.
        StorageUnavailableError: the database is not reachable.
    """
    folder = versions or history.folder
    known, config = known_versions(folder), _config(history, folder)

    def run(connection: Connection) -> str:
        refuse_unknown(connection, known)
        before = stored_version(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if after is not None:
            after(connection, before)
        _refuse_broken_references(connection)
        return stored_version(connection) or ""

    return exclusively(url, run)


def check(url: str, metadata: MetaData) -> None:
    """Returns if the database has exactly the tables, columns and indexes that the code declares.

    Raises:
        SchemaDriftError: it has not; the text names kinds of differences and tables.
    """

    def run(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts=configuration(connection))
        return list(compare_metadata(context, metadata))

    differences = exclusively(url, run)
    if differences:
        raise SchemaDriftError("Tables and code differ: " + "; ".join(map(_describe, differences)))


def draft(history: History, message: str) -> Path:
    """Writes the next step from what differs between the steps so far and the code; for developers, who review it."""
    config = _config(history, history.folder)
    steps = len(list(ScriptDirectory.from_config(config).walk_revisions()))
    with TemporaryDirectory() as folder:

        def run(connection: Connection) -> Path:
            config.attributes["connection"] = connection
            if steps:
                command.upgrade(config, "head")
            revision = f"{history.value}_{steps + 1:04}"
            script = command.revision(config, message, autogenerate=True, rev_id=revision)
            return Path(cast("Script", script).path)

        return exclusively(f"sqlite:///{folder}/draft.db", run)


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


def _config(history: History, versions: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", _escaped(_FOLDER))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", _escaped(versions))
    config.attributes["metadata"] = history.metadata
    return config


def _escaped(path: Path) -> str:
    # Alembic reads its options through configparser, which expands per-cent signs.
    return str(path).replace("%", "%%")


def _refuse_broken_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise MigrationError("A step would have left rows that refer to nothing; nothing was changed.")


def _describe(difference: Any) -> str:
    # A difference is a tuple (kind, …) or, for a changed column, a list of such.
    first = difference[0] if isinstance(difference, list) else difference
    subject = next((str(part) for part in first[1:] if isinstance(part, str) and part), None)
    named = getattr(first[1], "name", None) or subject or ""
    table = getattr(getattr(first[1], "table", None), "name", "")
    return " ".join(filter(None, (str(first[0]), str(table), str(named))))
