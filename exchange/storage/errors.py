"""What storage can refuse, in words that carry no value of any row.

* `StorageUnavailableError` and its children: nothing is wrong with the request, try again later (HTTP 503).
* `StorageMisuseError`: a transaction function broke its rules; a mistake in this program.
* Everything else a transaction function raises reaches its caller as it was raised. Errors of the database driver are
  the exception: they keep their class (`IntegrityError`, …) but lose the texts in which PostgreSQL quotes values.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class StorageError(Exception):
    """Root of the family; `code` is stable, the text is for people."""

    code = "storage"


class StorageUnavailableError(StorageError):
    """The database cannot be reached or cannot be used at the moment."""

    code = "storage-unavailable"


class StorageFullError(StorageUnavailableError):
    """The disk, or the share of it that the database may use, is full."""

    code = "storage-full"


class StorageReadOnlyError(StorageUnavailableError):
    """The database refuses writes, for instance because it is a standby or its file is write-protected."""

    code = "storage-read-only"


class StorageDamagedError(StorageUnavailableError):
    """What lies in a database's files is not what was written there. No later try is any better: somebody must act."""

    code = "storage-damaged"


class StorageForbiddenError(StorageUnavailableError):
    """The server answers, and does not let the node's role do this. No later try is any better: somebody must act."""

    code = "storage-forbidden"


class StorageNewerError(StorageUnavailableError):
    """A newer version of the program has migrated the database under this process, which writes nothing more there."""

    code = "storage-newer"


class StorageBusyError(StorageUnavailableError):
    """Another writer held its lock for too long, or too much is queued already."""

    code = "storage-busy"


class StorageServedError(StorageUnavailableError):
    """Another node serves this SQLite database."""

    code = "storage-served"


class StorageClosedError(StorageUnavailableError):
    """This node is shutting down and takes no further work."""

    code = "storage-closed"


class CommitFailedError(StorageUnavailableError):
    """The commit was not confirmed: the work is stored or not stored, nobody knows. Repeat it under the same id."""

    code = "storage-commit-failed"


class StorageMisuseError(StorageError):
    """A transaction function ended the transaction itself, hid a database error, or did not return a plain value."""

    code = "storage-misuse"


class MigrationError(StorageError):
    """The tables of a database and this version of the program do not fit together."""

    code = "storage-migration"


class DatabaseEncodingError(MigrationError):
    """The database cannot hold every script: names in Thai or Burmese would be refused, or come back as others."""

    code = "storage-encoding"


class DatabaseNewerError(MigrationError):
    """The database was migrated by a newer version of the program, which this one must not touch."""

    code = StorageNewerError.code


class DatabaseOlderError(MigrationError):
    """The database needs `exchange migrate` before this version of the program may use it."""

    code = "storage-older"


class DatabaseEmptyError(DatabaseOlderError):
    """There is no database, or nothing in it: the node is new, or its database was lost."""

    code = "storage-empty"


class SchemaDriftError(MigrationError):
    """The tables of the database are not the tables that the code declares."""

    code = "storage-drift"


class BatchConflictError(Exception):
    """PostgreSQL asks to run the transaction again (serialization failure or deadlock). Never leaves the writer."""


class BatchLostError(Exception):
    """The whole transaction is gone because of one function in it. Never leaves the writer.

    Attributes:
        reason: what the caller of the guilty function is told.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__("the transaction was lost")
        self.reason = reason


class RefusedByDatabaseError(Exception):
    """What remains of a driver's error: its code and the name of the constraint, no values."""


NO_SUCH_TABLE: Final = "SQLITE_ERROR no such table"
NO_SUCH_COLUMN: Final = "SQLITE_ERROR no such column"
"""SQLite has one code for these and for every statement that is wrong."""
_UNREACHABLE: Final = "The database cannot be reached."
_FULL: Final = "The database has no space left."
_READ_ONLY: Final = "The database refuses writes."
_BUSY: Final = "The database is busy with another writer."
DAMAGED: Final = (
    "The database file is damaged. Stop the node and go by docs/running-a-node.md, When a database file is damaged."
)
_SERVER_DAMAGED: Final = (
    "The database server finds its files damaged. Stop the node, let the server's administrator look at its log and "
    "disk, and go by docs/running-a-node.md, When a database file is damaged."
)
_FORBIDDEN: Final = (
    "The database does not let this role use, make or change its tables: let the role in the address own that database "
    "and everything in it."
)
NOT_OPENED: Final = (
    "The database file cannot be opened: let the node's user read and write it, its folder, and what lies beside it "
    "(-wal, -shm, -wake, -served)."
)

_SQLITE: Final[dict[int, tuple[type[StorageUnavailableError], str]]] = {
    sqlite3.SQLITE_BUSY: (StorageBusyError, _BUSY),
    sqlite3.SQLITE_LOCKED: (StorageBusyError, _BUSY),
    sqlite3.SQLITE_FULL: (StorageFullError, _FULL),
    sqlite3.SQLITE_READONLY: (StorageReadOnlyError, _READ_ONLY),
    sqlite3.SQLITE_IOERR: (StorageUnavailableError, "The database file cannot be read or written."),
    sqlite3.SQLITE_CANTOPEN: (StorageUnavailableError, NOT_OPENED),
    sqlite3.SQLITE_CORRUPT: (StorageDamagedError, DAMAGED),
    sqlite3.SQLITE_NOTADB: (StorageDamagedError, DAMAGED),
    sqlite3.SQLITE_NOMEM: (StorageUnavailableError, "There is not enough memory for the database."),
    sqlite3.SQLITE_PERM: (StorageUnavailableError, NOT_OPENED),
}
_POSTGRES_LOCKED: Final = "55P03"
_POSTGRES_STOPPED: Final = "57014"
_POSTGRES: Final[dict[str, tuple[type[StorageUnavailableError], str]]] = {
    "53100": (StorageFullError, _FULL),
    "25006": (StorageReadOnlyError, _READ_ONLY),
    "42501": (StorageForbiddenError, _FORBIDDEN),
    _POSTGRES_LOCKED: (StorageBusyError, _BUSY),
    _POSTGRES_STOPPED: (StorageBusyError, "The database stopped a statement that took too long."),
    "25P03": (StorageUnavailableError, "The database ended a transaction that was idle."),
    "58030": (StorageUnavailableError, "The database cannot read or write its files."),
    "XX001": (StorageDamagedError, _SERVER_DAMAGED),
    "XX002": (StorageDamagedError, _SERVER_DAMAGED),
}
# Connection exceptions, wrong password or role, unknown database, insufficient resources, shutdown and start-up.
_POSTGRES_UNREACHABLE: Final = ("08", "28", "3D", "53", "57P")
_POSTGRES_CONFLICT: Final = ("40001", "40P01")


def driver_error(error: BaseException) -> BaseException:
    """The driver's own exception inside one of SQLAlchemy's, or the exception itself."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL asks to run the same transaction again."""
    inner = driver_error(error)
    return isinstance(inner, psycopg.Error) and inner.sqlstate in _POSTGRES_CONFLICT


def is_locked(error: BaseException) -> bool:
    """Whether PostgreSQL has waited for a lock as long as it was told to."""
    inner = driver_error(error)
    return isinstance(inner, psycopg.Error) and inner.sqlstate == _POSTGRES_LOCKED


def has_waited(error: BaseException) -> bool:
    """Whether PostgreSQL has waited as long as it was told to: for a lock, or in a statement that was to end before.

    Where a statement may take less than a wait for a lock, that wait ends as a statement that took too long. No word of
    the server tells it from a slow one.
    """
    inner = driver_error(error)
    return is_locked(error) or (isinstance(inner, psycopg.Error) and inner.sqlstate == _POSTGRES_STOPPED)


def as_unavailable(error: BaseException) -> StorageUnavailableError | None:
    """The refusal that a driver's error amounts to, or nothing if it says that the request itself was wrong."""
    if isinstance(error, StorageUnavailableError):
        return error
    if isinstance(error, PoolTimeoutError):
        return StorageBusyError("Every connection to the database is in use.")
    inner = driver_error(error)
    if isinstance(inner, sqlite3.Error):
        if getattr(inner, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
            return StorageFullError(_FULL)  # the index of the write-ahead log finds no room
        kind, text = _SQLITE.get(getattr(inner, "sqlite_errorcode", 0) & 0xFF, (None, ""))
        return kind(text) if kind else None
    if isinstance(inner, psycopg.Error):
        return _postgres_unavailable(error, inner)
    return None


def _postgres_unavailable(error: BaseException, inner: psycopg.Error) -> StorageUnavailableError | None:
    state = inner.sqlstate or ""
    if is_conflict(inner):
        return StorageBusyError(_BUSY)
    if state in _POSTGRES:
        kind, text = _POSTGRES[state]
        return kind(text)
    if state.startswith(_POSTGRES_UNREACHABLE):
        return StorageUnavailableError(_UNREACHABLE)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # Without an SQLSTATE the error did not come from the server: the connection is broken.
    broken = not state and isinstance(inner, psycopg.OperationalError | psycopg.InterfaceError)
    return StorageUnavailableError(_UNREACHABLE) if lost or broken else None


def for_caller(error: Exception) -> Exception:
    """What the caller of a transaction function may see: availability as such, driver errors without values."""
    unavailable = as_unavailable(error)
    if unavailable is not None:
        return unavailable
    if not isinstance(error, DBAPIError):
        return error
    summary = RefusedByDatabaseError(_summary(driver_error(error)))
    bare = type(error)(error.statement, None, summary, hide_parameters=True)
    bare.__suppress_context__ = True
    return bare


def _summary(inner: BaseException) -> str:
    if isinstance(inner, psycopg.Error):
        return " ".join(filter(None, (inner.sqlstate, inner.diag.constraint_name, inner.diag.table_name)))
    if isinstance(inner, sqlite3.IntegrityError):
        # SQLite names columns here, never values.
        return str(inner)
    if str(inner).startswith("no such table"):
        return NO_SUCH_TABLE
    if str(inner).startswith("no such column") or " has no column named " in str(inner):
        return NO_SUCH_COLUMN
    return getattr(inner, "sqlite_errorname", None) or type(inner).__name__


__all__ = [
    "DAMAGED",
    "NOT_OPENED",
    "NO_SUCH_COLUMN",
    "NO_SUCH_TABLE",
    "CommitFailedError",
    "DatabaseEmptyError",
    "DatabaseEncodingError",
    "DatabaseNewerError",
    "DatabaseOlderError",
    "IntegrityError",
    "MigrationError",
    "RefusedByDatabaseError",
    "SchemaDriftError",
    "StorageBusyError",
    "StorageClosedError",
    "StorageDamagedError",
    "StorageError",
    "StorageForbiddenError",
    "StorageFullError",
    "StorageMisuseError",
    "StorageNewerError",
    "StorageReadOnlyError",
    "StorageUnavailableError",
]
