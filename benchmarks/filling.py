"""A large inbox, without the years: rows that a node reads as its own, written straight into its database.

Of a hundred items one is new and ninety-nine have been destroyed, as after some retention periods: ids, times and
states remain. The new ones are copies of an item that really arrived, with its header sealed anew for its own row.
"""

from __future__ import annotations

import os
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, text

from benchmarks.nodes import Node
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.envelope.keys import NONCE_BYTES
from exchange.envelope.sealed_rows import SealedRows
from exchange.settings import KEYS_NAME
from exchange.storage.database import Database
from exchange.storage.tables import INBOX, REFERRAL

NEW_EVERY: Final = 100
_AT_ONCE: Final = 50_000
"""Rows of one transaction: the node beside it must not wait long for its own."""

_Row = dict[str, Any]


def fill_inbox(node: Node, upto: int) -> None:
    """Add items until there are so many."""
    keys = open_keys(read_key_file(node.made.home / KEYS_NAME), node.made.passphrase.encode())
    assert keys.storage is not None
    rows = SealedRows(keys.storage.row_key())
    database = Database.open(node.main_database)
    try:
        there, item, referral = database.read_sync(_pattern)
        header = rows.open(item["sealed_header"], table="inbox", column="sealed_header", row=item["id"])
        for first in range(there + 1, upto + 1, _AT_ONCE):
            last = min(first + _AT_ONCE - 1, upto)

            def add(conn: Connection, first: int = first, last: int = last) -> None:
                _add_destroyed(conn, item, referral, first, last)
                _add_new(conn, rows, item, referral, header, range(first, last + 1))

            database.write_sync(add)
        database.write_sync(_count_anew)
    finally:
        database.close_sync()


def _pattern(conn: Connection) -> tuple[int, _Row, _Row]:
    """The last sequence number, an item that arrived, and its referral."""
    there = conn.execute(select(func.max(INBOX.c.seq))).scalar_one()
    item = dict(conn.execute(select(INBOX).order_by(INBOX.c.seq).limit(1)).mappings().one())
    referral = conn.execute(select(REFERRAL).where(REFERRAL.c.id == item["referral"])).mappings().one()
    return there, item, dict(referral)


def _count_anew(conn: Connection) -> None:
    """What a database knows of its tables, as it would have learned it in these years."""
    if conn.dialect.name == "postgresql":
        # SQLite has seen the numbers that were given; here they were taken without asking.
        conn.execute(select(func.setval("inbox_seq_seq", select(func.max(INBOX.c.seq)).scalar_subquery())))
    conn.execute(text("ANALYZE"))


def _add_destroyed(conn: Connection, item: _Row, referral: _Row, first: int, last: int) -> None:
    numbers = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"  # noqa: S608
    ids = "printf('%032x', i)" if conn.dialect.name == "sqlite" else "lpad(to_hex(i), 32, '0')"
    gone = {"status": "destroyed", **dict.fromkeys(item.keys() & _BODY)}
    ended = referral["updated_at"]
    bare = {"state": "completed", "sealed_facts": None, "closed_at": ended, "destroyed_at": ended}
    bare["forget_at"] = ended + 10**10
    arrived = f"{10**12} + i"
    of_item = {"seq": "i", "id": ids, "referral": ids, "received_at": arrived, "respond_by": arrived}
    for table, row, own in ((INBOX, item | gone, of_item), (REFERRAL, referral | bare, {"id": ids})):
        names = [name for name in row if name not in own]
        values = ", ".join([*own.values(), *(f"CAST(:{name} AS {_type(conn, table.c[name])})" for name in names)])
        conn.execute(
            text(
                f"INSERT INTO {table.name} ({', '.join([*own, *names])}) "  # noqa: S608 - no value of anybody's
                f"{numbers} SELECT {values} FROM n WHERE i % {NEW_EVERY} <> 0"
            ),
            {name: row[name] for name in names},
        )


def _type(conn: Connection, column: Any) -> str:
    return str(column.type.compile(conn.dialect))


_BODY: Final = {"sealed_header", "rewrapped_key", "wrapped_key", "ciphertext", "signature", "release"}


def _add_new(conn: Connection, rows: SealedRows, item: _Row, referral: _Row, header: bytes, numbers: range) -> None:
    items, referrals = [], []
    for number in numbers:
        if number % NEW_EVERY:
            continue
        row = f"{number:032x}"
        sealed = rows.seal(header, table="inbox", column="sealed_header", row=row, nonce=os.urandom(NONCE_BYTES))
        items.append(item | {"seq": number, "id": row, "referral": row, "status": "new", "sealed_header": sealed})
        referrals.append(referral | {"id": row})
    if items:
        conn.execute(insert(INBOX), items)
        conn.execute(insert(REFERRAL), referrals)
