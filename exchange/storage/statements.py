"""Statements that are built once: building one, and finding it in the cache, costs more than SQLite takes to run it.

Rules:

* A statement of the hot path is a constant; what varies is a bound parameter. Names of parameters that are no column
  begin with `the_`.
* Where the two databases differ, a `Both` holds one statement for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import BindParameter, Connection, Insert, Table, bindparam, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable

from exchange.storage.visibility import NO_TRANSACTION, TRANSACTION_ID

StatementT = TypeVar("StatementT", bound=Executable)


@dataclass(frozen=True, slots=True)
class Both(Generic[StatementT]):
    """The same thing said to either database."""

    sqlite: StatementT
    postgresql: StatementT

    def on(self, conn: Connection) -> StatementT:
        """The statement for this connection."""
        return self.postgresql if conn.dialect.name == "postgresql" else self.sqlite


def insert_unless_there(table: Table) -> Both[Insert]:
    """Insert a row; one that clashes with it stays as it is."""
    return Both(sqlite.insert(table).on_conflict_do_nothing(), postgresql.insert(table).on_conflict_do_nothing())


def insert_listed(table: Table) -> Both[Insert]:
    """Insert a row that a cursor lists, with the id of its transaction in `xid`."""
    return Both(insert(table).values(xid=NO_TRANSACTION), insert(table).values(xid=TRANSACTION_ID))


def one_of(name: str) -> BindParameter[list[str]]:
    """A parameter for `in_`: a list."""
    return bindparam(name, expanding=True)
