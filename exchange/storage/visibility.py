"""How a cursor never skips a row whose transaction commits late.

PostgreSQL hands out sequence numbers before commit, so a reader may see number 8 while 7 is still uncommitted. Rows
carry the id of their inserting transaction, and a cursor lists only rows whose transaction is below the snapshot's
xmin: everything older has ended. On SQLite writers are serialised and sequence order is commit order.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Text, cast, func, literal, true

TRANSACTION_ID: Final[ColumnElement[int]] = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
"""The value for `xid` of a row inserted now, on PostgreSQL."""
NO_TRANSACTION: Final[ColumnElement[int]] = literal(0)
"""The same on SQLite."""


FIRST_UNSETTLED: Final[ColumnElement[int]] = cast(
    cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger
)
"""On PostgreSQL: no earlier uncommitted row can still precede a row whose `xid` is below this."""


def settled(conn: Connection, xid: ColumnElement[int]) -> ColumnElement[bool]:
    """True for rows that no earlier uncommitted row can still precede."""
    return xid < FIRST_UNSETTLED if conn.dialect.name == "postgresql" else true()
