"""What her "stop sharing" holds back: only what certainly never left, on both databases."""

from __future__ import annotations

from sqlalchemy import Connection, select

from exchange.storage.batches import insert_referrals
from exchange.storage.database import Database
from exchange.storage.migrate import History, upgrade
from exchange.storage.outbox import OutgoingRecord, enqueue, hold_back, mark_attempted
from exchange.storage.referrals import EventRecord, ReferralRecord, add_event, keep_at_home
from exchange.storage.tables import EVENT, OUTBOX

REFERRAL = "a" * 32
ANSWERS = {"unsent": "1" * 32, "attempted": "2" * 32, "delivered": "3" * 32, "recall-answer": "4" * 32}


def _four_answers(conn: Connection) -> None:
    record = ReferralRecord(
        REFERRAL, "receiving", "lantern-helpline", "shelter", "c" * 64, "in-service", created_at=1, updated_at=1,
        respond_by=2,
    )  # fmt: skip
    insert_referrals(conn, [record])
    for number, (digest, envelope) in enumerate(ANSWERS.items(), start=1):
        add_event(conn, EventRecord(REFERRAL, "receiving", number, "in-service", 0, 1, digest=digest))
        status = "delivered" if digest == "delivered" else "queued"
        kind = "recall-answer" if digest == "recall-answer" else "progress"
        item = OutgoingRecord(
            envelope, REFERRAL, "lantern-helpline", kind, status, digest, 1, 9, b"h", b"w", b"c", b"s"
        )
        enqueue(conn, [item])
    mark_attempted(conn, [ANSWERS["attempted"]], 5)


async def test_only_what_certainly_never_left_is_held_back_and_kept_at_home(empty_database_url: str) -> None:
    upgrade(empty_database_url, History.MAIN)
    database = Database.open(empty_database_url)
    try:
        await database.write(_four_answers)

        def stop(conn: Connection) -> list[str]:
            held = hold_back(conn, REFERRAL, "progress", ANSWERS)
            assert [one.sealed_header for one in held] == [b"h"]
            unsent = [one.digest for one in held]
            keep_at_home(conn, REFERRAL, unsent)
            return unsent

        assert await database.write(stop) == ["unsent"]

        def look(conn: Connection) -> tuple[set[str], dict[str, bool]]:
            left = set(conn.execute(select(OUTBOX.c.digest)).scalars())
            return left, {row.digest: bool(row.shared) for row in conn.execute(select(EVENT.c.digest, EVENT.c.shared))}

        left, shared = await database.read(look)
        assert left == {"attempted", "delivered", "recall-answer"}
        assert shared == {"unsent": False, "attempted": True, "delivered": True, "recall-answer": True}
    finally:
        await database.close()
