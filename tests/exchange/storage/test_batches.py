"""Rows that are added together: what is read is what was given, whichever columns have nothing, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from exchange.storage.batches import add_arrived, insert_referrals
from exchange.storage.database import Database
from exchange.storage.inbox import ArrivedRecord, load_arrived
from exchange.storage.migrate import History, upgrade
from exchange.storage.referrals import ReferralRecord, load_referrals

PLAIN = ReferralRecord(
    "a" * 32, "receiving", "lantern-helpline", "shelter", "c" * 64, "received", created_at=1, updated_at=2,
    respond_by=3, delivered_at=4, sealed_facts=b"f",
)  # fmt: skip
FULL = ReferralRecord(
    "b" * 32, "receiving", "lantern-helpline", "other", "", "withdrawn", created_at=1, updated_at=2, respond_by=3,
    version=4, unit="north", consent_id="c" * 32, undelivered_at=5, delivered_at=6, disclosed_at=7, overdue_at=8,
    sharing_stopped_at=9, closed_at=10, blocked_at=11, destroy_at=12, destroyed_at=13, forget_at=14, hold="deleted",
    unserved_until=15, undeliverable=True, resend=True, number=16, seen=17, sealed_facts=b"g", known_as="d" * 32,
)  # fmt: skip
ITEM = ArrivedRecord(
    "1" * 32, PLAIN.id, PLAIN.peer, "offer", None, "e" * 64, "new", 1, 2, b"h", b"r", None, b"c", b"s", None,
    consent_live_at=3,
)  # fmt: skip
FULL_ITEM = ArrivedRecord(
    "2" * 32, FULL.id, FULL.peer, "disclosure", "disclosed", "f" * 64, "acknowledged", 1, 2, b"h", b"r", b"w", b"c",
    b"s", b"l", opened_at=3, lease_until=4, consent_live_at=5, consent_ended_at=6,
)  # fmt: skip


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1), (1, 0)], ids=["plain", "full", "plain-full", "full-plain"])
async def test_what_is_added_is_read(empty_database_url: str, which: tuple[int, ...]) -> None:
    referrals = [(PLAIN, FULL)[one] for one in which]
    items = [(ITEM, FULL_ITEM)[one] for one in which]
    upgrade(empty_database_url, History.MAIN)
    database = Database.open(empty_database_url)

    def add(conn: Connection) -> None:
        insert_referrals(conn, referrals)
        add_arrived(conn, items)
        insert_referrals(conn, [])
        add_arrived(conn, [])

    def read(conn: Connection) -> tuple[dict[str, ReferralRecord], dict[str, tuple[int, ArrivedRecord]]]:
        return load_referrals(conn, [PLAIN.id, FULL.id]), load_arrived(conn, [ITEM.id, FULL_ITEM.id])

    try:
        await database.write(add)
        found, arrived = await database.read(read)
    finally:
        await database.close()
    assert found == {record.id: record for record in referrals}
    assert [item for _, item in sorted(arrived.values())] == items
