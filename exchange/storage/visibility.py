"""How a cursor never skips a row whose transaction commits late.

PostgreSQL hands out sequence numbers before commit, so a reader may see number 8 while 7 is still uncommitted. Rows
carry the id of their inserting transaction, and a cursor lists only rows whose transaction is below the snapshot's
xmin: every transaction with a lower id has ended, and no other one gets such an id any more.

They are listed in the order of these ids, and of one transaction in that of their numbers: a transaction that began
earlier may have taken the later number, and whoever went by numbers would pass the earlier one before it is there. A
cursor is the number of a row; its transaction is looked up.

On SQLite writers are serialised and sequence order is commit order.

Into a new server a dump brings ids that this one has not given out yet: they are those of another one
(`settle_restored`).
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Function,
    Table,
    Text,
    cast,
    func,
    literal,
    select,
    text,
    tuple_,
    update,
)

from exchange.storage.tables import CHANGE, INBOX


def _number(xid: Function[Any]) -> ColumnElement[int]:
    return cast(cast(xid, Text), BigInteger)


TRANSACTION_ID: Final = _number(func.pg_current_xact_id())
"""The value for `xid` of a row inserted now, on PostgreSQL."""
NO_TRANSACTION: Final[ColumnElement[int]] = literal(0)
"""The same on SQLite."""


FIRST_UNSETTLED: Final = _number(func.pg_snapshot_xmin(func.pg_current_snapshot()))
"""On PostgreSQL: no uncommitted row can still precede a row whose `xid` is below this."""


def settled_after(table: Table, after: ColumnElement[int]) -> ColumnElement[bool]:
    """On PostgreSQL, of the rows behind a cursor those that no uncommitted row can still precede.

    Where the cursor's row was forgotten meanwhile, none is left out that has a higher number; one that has a lower one
    may come again.
    """
    named, higher = table.alias(), table.alias()
    begins = func.coalesce(
        select(named.c.xid).where(named.c.seq == after).scalar_subquery(),
        select(func.min(higher.c.xid) - 1).where(higher.c.seq > after).scalar_subquery(),
    )
    return (tuple_(table.c.xid, table.c.seq) > tuple_(begins, after)) & (table.c.xid < FIRST_UNSETTLED)


def is_beyond(conn: Connection, table: Table, seq: int) -> bool:
    """Whether no row of the table ever had a number as high as this: a cursor of it is of another list, or database."""
    if conn.dialect.name == "postgresql":
        given = conn.execute(text(f"SELECT last_value FROM {table.name}_seq_seq")).scalar_one()  # noqa: S608 - a constant
    else:
        asked = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = conn.execute(asked, {"name": table.name}).scalar() or 0
    return seq > int(given)


def settle_restored(conn: Connection) -> None:
    """Rows of another server's transactions would be hidden until this one has counted so far, and passed meanwhile.

    Run before a process lists anything. All rows go by their numbers then, as a cursor from before is one.
    """
    if conn.dialect.name != "postgresql":
        return
    for table in (INBOX, CHANGE):
        one = table.alias()
        # A row that is visible was inserted by a transaction that the snapshot has seen end.
        newest = select(func.max(one.c.xid)).scalar_subquery()
        restored = newest >= _number(func.pg_snapshot_xmax(func.pg_current_snapshot()))
        conn.execute(update(table).where(table.c.xid != NO_TRANSACTION, restored).values(xid=NO_TRANSACTION))
