"""Statements that are built once: building one, and finding it in the cache, costs more than SQLite takes to run it.

Rules:

* A statement of the hot path is a constant; what varies is a bound parameter. Names of parameters that are no column
  begin with `the_`.
* Where the two databases differ, a `Both` holds one statement for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic_core import to_json
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Insert,
    Integer,
    Select,
    Table,
    Text,
    TextClause,
    TypeDecorator,
    Update,
    all_,
    any_,
    bindparam,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.types import TypeEngine

from exchange.storage.visibility import NO_TRANSACTION, TRANSACTION_ID, settled_after

StatementT = TypeVar("StatementT", bound=Executable)

SLICE: Final = 1000
"""How many rows are looked at at once for those that a branch may see."""


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


def insert_or_replace(table: Table, columns: Sequence[str]) -> Both[Insert]:
    """Insert a row; of one with the same key these columns are written over."""
    lite, post = sqlite.insert(table), postgresql.insert(table)
    key = list(table.primary_key.columns)
    return Both(
        lite.on_conflict_do_update(index_elements=key, set_={name: lite.excluded[name] for name in columns}),
        post.on_conflict_do_update(index_elements=key, set_={name: post.excluded[name] for name in columns}),
    )


def insert_listed(table: Table) -> Both[Insert]:
    """Insert a row that a cursor lists, with the id of its transaction in `xid`."""
    return Both(insert(table).values(xid=NO_TRANSACTION), insert(table).values(xid=TRANSACTION_ID))


def select_listed(query: Select[Any], table: Table) -> Both[Select[Any]]:
    """What a cursor lists of such rows: those behind `after`, at most `most`, in the order of `storage.visibility`."""
    return _behind(query.limit(bindparam("most", type_=Integer())), table)


def select_in_sight(query: Select[Any], table: Table, *conditions: TextClause) -> Both[Select[Any]]:
    """As `select_listed`, but no more than the next `SLICE` rows are looked at; `query` says which of them to show.

    Args:
        query: joins the table, and has the condition of the branch.
        table: whose rows are listed.
        conditions: what the rows have to be that are looked at.
    """
    page = query.limit(bindparam("most", type_=Integer()))

    def one(rows: Select[Any]) -> Select[Any]:
        looked_at = rows.limit(literal_column(str(SLICE))).subquery()
        return page.join(looked_at, looked_at.c.seq == table.c.seq).order_by(looked_at.c.xid, looked_at.c.seq)

    rows = _slice(table, *conditions)
    return Both(one(rows.sqlite), one(rows.postgresql))


def end_of_slice(table: Table, *conditions: TextClause) -> Both[Select[Any]]:
    """The number of the last row that `select_in_sight` looks at; nothing where that are all there are."""
    rows = _slice(table, *conditions)

    def last(one: Select[Any]) -> Select[Any]:
        return one.offset(literal_column(str(SLICE - 1))).limit(literal_column("1"))

    return Both(last(rows.sqlite), last(rows.postgresql))


def _slice(table: Table, *conditions: TextClause) -> Both[Select[Any]]:
    """Numbers and transactions of the rows that a cursor lists behind `after`."""
    return _behind(select(table.c.seq, table.c.xid).where(*conditions), table)


def _behind(rows: Select[Any], table: Table) -> Both[Select[Any]]:
    """Those of the rows that are behind the cursor `after`, in its order."""
    after = bindparam("after", type_=BigInteger())
    return Both(
        rows.where(table.c.xid == NO_TRANSACTION, table.c.seq > after).order_by(table.c.seq),
        rows.where(settled_after(table, after)).order_by(table.c.xid, table.c.seq),
    )


FORGOTTEN_AT_ONCE: Final = 200
"""As many rows as other writers wait for without anybody noticing."""


def delete_expired(table: Table) -> Both[Delete]:
    """Delete rows whose `expires_at` is not after `the_time`, at most `FORGOTTEN_AT_ONCE` of them."""

    def some(place: str) -> Select[Any]:
        # By their places, which no plan looks up in the whole table.
        rows: Select[Any] = (
            select(literal_column(place)).select_from(table).where(table.c.expires_at <= bindparam("the_time"))
        )
        return rows.limit(literal_column(str(FORGOTTEN_AT_ONCE)))

    return Both(
        table.delete().where(literal_column("rowid").in_(some("rowid"))),
        table.delete().where(literal_column("ctid") == any_(func.array(some("ctid").scalar_subquery()))),
    )


class TextList(TypeDecorator[list[str]]):
    """A list of texts as one parameter, so that a statement has one text whatever its length: JSON on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """An array where the database has them."""
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        """What the driver takes."""
        return value if dialect.name == "postgresql" else to_json(value).decode()


ListedT = TypeVar("ListedT", Select[Any], Update, Delete)


def where_listed(statement: ListedT, column: ColumnElement[str]) -> Both[ListedT]:
    """The statement for the rows whose column is one of the parameter `the_ids`, a list."""
    the_ids = bindparam("the_ids", type_=TextList())
    entries = func.json_each(the_ids).table_valued("value")
    return Both(statement.where(column.in_(select(entries.c.value))), statement.where(column == any_(the_ids)))


def where_not_listed(
    statement: ListedT | Both[ListedT], column: ColumnElement[str], *, name: str = "the_ids"
) -> Both[ListedT]:
    """As `where_listed`, for the rows whose column is none of the parameter `name`, a list."""
    listed = bindparam(name, type_=TextList())
    entries = func.json_each(listed).table_valued("value")
    both = statement if isinstance(statement, Both) else Both(statement, statement)
    return Both(
        both.sqlite.where(column.not_in(select(entries.c.value))), both.postgresql.where(column != all_(listed))
    )
