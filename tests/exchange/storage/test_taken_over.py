"""What the agency's own software has taken over is not destroyed by a refusal that looked before, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from exchange.storage.batches import add_arrived
from exchange.storage.database import Database
from exchange.storage.inbox import ArrivedRecord, drop_wrapped_key, wipe_item
from exchange.storage.migrate import History, upgrade
from exchange.storage.tables import INBOX

ITEM = "e" * 32


def _arrived(conn: Connection) -> None:
    item = ArrivedRecord(
        ITEM, "a" * 32, "lantern-helpline", "disclosure", None, "d", "new", 1, None,
        sealed_header=b"h", rewrapped_key=None, wrapped_key=b"w", ciphertext=b"c", signature=b"s", release=None,
    )  # fmt: skip
    add_arrived(conn, [item])


@pytest.mark.parametrize("taken_over", [False, True])
async def test_who_opened_first_keeps_what_was_opened(empty_database_url: str, taken_over: bool) -> None:
    upgrade(empty_database_url, History.MAIN)
    database = Database.open(empty_database_url)
    try:
        await database.write(_arrived)
        if taken_over:
            await database.write(lambda conn: drop_wrapped_key(conn, ITEM))
        await database.write(lambda conn: wipe_item(conn, ITEM))
        found = await database.read(lambda conn: conn.execute(select(INBOX.c.status, INBOX.c.ciphertext)).one())
        assert tuple(found) == (("new", b"c") if taken_over else ("destroyed", None))
    finally:
        await database.close()
