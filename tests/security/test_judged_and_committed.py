"""What a batch was judged by cannot change before it is committed: on both databases another process has to wait."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from exchange.storage.batches import insert_referrals
from exchange.storage.database import Connection, Database
from exchange.storage.referrals import ReferralRecord, guard_versions, load_referral, save_referral

REFERRAL = "ab" * 16
OPEN = ReferralRecord(
    id=REFERRAL,
    side="receiving",
    peer="helpline",
    sector="accommodation",
    contract="cd" * 32,
    state="received",
    created_at=1,
    updated_at=1,
    respond_by=2,
)


def _withdrawn(conn: Connection) -> None:
    record = load_referral(conn, REFERRAL)
    assert record is not None
    save_referral(conn, record._replace(state="withdrawn"))


async def test_her_no_in_another_process_waits_for_a_batch_that_was_judged_before_it(database_url: str) -> None:
    here, there = Database.open(database_url), Database.open(database_url)
    await here.write(lambda conn: insert_referrals(conn, [OPEN]))
    with ThreadPoolExecutor(1) as elsewhere:

        def commit(conn: Connection) -> tuple[Future[None], str]:
            guard_versions(conn, {REFERRAL: 0})
            no = elsewhere.submit(there.write_sync, _withdrawn)
            time.sleep(0.3)
            record = load_referral(conn, REFERRAL)
            assert record is not None
            return no, record.state

        no, state = await here.write(commit)
        assert state == "received"
        no.result(timeout=15)
    after = await here.read(lambda conn: load_referral(conn, REFERRAL))
    assert after is not None
    assert after.state == "withdrawn"
    await here.close()
    there.close_sync()
