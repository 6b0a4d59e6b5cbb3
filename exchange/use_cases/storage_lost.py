"""A database whose tables are gone under a running node: an outage like others, not a mistake of this program.

The file was replaced by an empty one, the server's database was made anew, or a newer version migrated it although this
one still ran. What is asked of it then fails like a misspelt statement. Nobody restarts the node: it goes on as soon as
the right one is back.
"""

from __future__ import annotations

from typing import Final

from exchange.storage.errors import (
    NO_SUCH_COLUMN,
    NO_SUCH_TABLE,
    DatabaseEmptyError,
    RefusedByDatabaseError,
    StorageUnavailableError,
)

_NO_SUCH: Final = (NO_SUCH_TABLE, NO_SUCH_COLUMN, "42P01", "42703")
"""What SQLite and PostgreSQL say of a table, and of a column, that is not there."""


class StorageEmptyError(StorageUnavailableError):
    """There is no table, or not those of this program, in the database that was there before."""

    code = DatabaseEmptyError.code


def as_outage(error: Exception) -> StorageUnavailableError | None:
    """The outage that an error of the storage amounts to, or nothing: then it is about the request, or a mistake."""
    if isinstance(error, StorageUnavailableError):
        return error
    refused = getattr(error, "orig", None)
    if isinstance(refused, RefusedByDatabaseError) and str(refused).startswith(_NO_SUCH):
        return StorageEmptyError("The tables of the database are gone.")
    return None
