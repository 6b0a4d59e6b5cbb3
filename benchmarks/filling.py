"""A large inbox, without the years: rows that a node reads as its own, written straight into its SQLite file.

Of a hundred items one is new and ninety-nine have been destroyed, as after some retention periods: ids, times and
states remain. The new ones are copies of an item that really arrived, with its header sealed anew for its own row.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, Final

from benchmarks.nodes import Node
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.envelope.keys import NONCE_BYTES
from exchange.envelope.sealed_rows import SealedRows
from exchange.settings import KEYS_NAME

NEW_EVERY: Final = 100
_AT_ONCE: Final = 50_000
"""Rows of one transaction: the node beside it must not wait long for its own."""


def fill_inbox(node: Node, upto: int) -> None:
    """Add items until there are so many."""
    keys = open_keys(read_key_file(node.made.home / KEYS_NAME), node.made.passphrase.encode())
    assert keys.storage is not None
    rows = SealedRows(keys.storage.row_key())
    conn = sqlite3.connect(node.main_database.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
    conn.row_factory = sqlite3.Row
    try:
        there = conn.execute("SELECT max(seq) FROM inbox").fetchone()[0]
        item = dict(conn.execute("SELECT * FROM inbox ORDER BY seq LIMIT 1").fetchone())
        referral = dict(conn.execute("SELECT * FROM referral WHERE id = ?", (item["referral"],)).fetchone())
        header = rows.open(item["sealed_header"], table="inbox", column="sealed_header", row=item["id"])
        for first in range(there + 1, upto + 1, _AT_ONCE):
            conn.execute("BEGIN IMMEDIATE")
            last = min(first + _AT_ONCE - 1, upto)
            _add_destroyed(conn, item, referral, first, last)
            for number in range(first, last + 1):
                if number % NEW_EVERY == 0:
                    _add_new(conn, rows, item, referral, header, number)
            conn.execute("COMMIT")
    finally:
        conn.close()


def _add_destroyed(
    conn: sqlite3.Connection, item: dict[str, Any], referral: dict[str, Any], first: int, last: int
) -> None:
    numbers = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"  # noqa: S608
    gone = {"status": "destroyed", **dict.fromkeys(item.keys() & _BODY)}
    ended = referral["updated_at"]
    bare = {"state": "completed", "sealed_facts": None, "closed_at": ended, "destroyed_at": ended}
    bare["forget_at"] = ended + 10**10
    for table, row, own in (("inbox", item | gone, _ITEM), ("referral", referral | bare, _REFERRAL)):
        names = [name for name in row if name not in own]
        conn.execute(
            f"{numbers} INSERT INTO {table} ({', '.join([*own, *names])}) "  # noqa: S608 - no value of anybody's
            f"SELECT {', '.join([*own.values(), *('?' for _ in names)])} FROM n WHERE i % {NEW_EVERY} <> 0",
            [row[name] for name in names],
        )


_BODY: Final = {"sealed_header", "rewrapped_key", "wrapped_key", "ciphertext", "signature", "release"}
_ITEM: Final = {
    "seq": "i",
    "id": "printf('%032x', i)",
    "referral": "printf('%032x', i)",
    "received_at": f"{10**12} + i",
    "respond_by": f"{10**12} + i",
}
_REFERRAL: Final = {"id": "printf('%032x', i)"}


def _add_new(
    conn: sqlite3.Connection,
    rows: SealedRows,
    item: dict[str, Any],
    referral: dict[str, Any],
    header: bytes,
    number: int,
) -> None:
    row = f"{number:032x}"
    sealed = rows.seal(header, table="inbox", column="sealed_header", row=row, nonce=os.urandom(NONCE_BYTES))
    new = item | {"seq": number, "id": row, "referral": row, "status": "new", "sealed_header": sealed}
    for table, values in (("inbox", new), ("referral", referral | {"id": row})):
        places = ", ".join("?" for _ in values)
        conn.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})",  # noqa: S608 - the table's own columns
            list(values.values()),
        )
