"""How a cursor never skips a row whose transaction commits late.

PostgreSQL hands out sequence numbers before commit, so a reader may see number 8 while 7 is still uncommitted. Rows
carry the id of their inserting transaction, and a cursor lists only rows whose transaction is below the snapshot's
xmin: everything older has ended. On SQLite writers are serialised and sequence order is commit order.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, Text, cast, func, literal, text, true

TRANSACTION_ID: Final[ColumnElement[int]] = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
"""The value for `xid` of a row inserted now, on PostgreSQL."""
NO_TRANSACTION: Final[ColumnElement[int]] = literal(0)
"""The same on SQLite."""


FIRST_UNSETTLED: Final[ColumnElement[int]] = cast(
    cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger
)
"""On PostgreSQL: no earlier uncommitted row can still precede a row whose `xid` is below this."""


def is_beyond(conn: Connection, table: Table, seq: int) -> bool:
    """Whether no row of the table ever had a number as high as this: a cursor of it is of another list, or database."""
    if conn.dialect.name == "postgresql":
        given = conn.execute(text(f"SELECT last_value FROM {table.name}_seq_seq")).scalar_one()  # noqa: S608 - a constant
    else:
        asked = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        given = conn.execute(asked, {"name": table.name}).scalar() or 0
    return seq > int(given)


def settled(conn: Connection, xid: ColumnElement[int]) -> ColumnElement[bool]:
    """True for rows that no earlier uncommitted row can still precede."""
    return xid < FIRST_UNSETTLED if conn.dialect.name == "postgresql" else true()
