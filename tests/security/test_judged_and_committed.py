"""What a batch was judged by cannot change before it is committed: on both databases another process has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.people import consent_request, referral_request

from contracts.vocabulary import Group, WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.storage.batches import insert_referrals
from exchange.storage.database import Connection, Database
from exchange.storage.referrals import (
    ReferralRecord,
    StaleReferralError,
    guard_versions,
    load_referral,
    save_referral,
)
from exchange.use_cases import receive_envelopes, record_consent, withdraw

FORM = WithdrawalForm.STOP_SERVICE

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


@pytest.mark.parametrize("whole", [True, False], ids=["to-everything", "to-one"])
async def test_her_no_is_recorded_however_often_what_it_concerns_changes(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    """Where much is on its way something of it always changes: whoever changes it waits for her no."""
    helpline, node = pair[HELPLINE].client(), pair[HELPLINE].node
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    made = [await helpline.referrals.send(referral_request(SHELTER.agency, consent.id)) for _ in range(2)]
    real, changing = withdraw.take_back, list[Future[Any]]()

    def changed(conn: Connection) -> None:
        record = load_referral(conn, made[0].id)
        assert record is not None
        save_referral(conn, record)

    with ThreadPoolExecutor(8) as elsewhere:

        def take_back(*args: Any) -> Any:
            changing.append(elsewhere.submit(node.database.write_sync, changed))
            time.sleep(0.2)
            return real(*args)

        monkeypatch.setattr(withdraw, "take_back", take_back)
        no = helpline.withdrawals
        answer = await (no.of_consent(consent.id, FORM) if whole else no.of_referral(made[0].id, FORM))
        for one in changing:
            with contextlib.suppress(StaleReferralError):
                await asyncio.wrap_future(one)
    assert len(answer.referrals) == len(changing) == (2 if whole else 1)


async def test_what_she_takes_back_is_recorded_though_her_consent_changes_meanwhile(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker renews it at that moment; of what both said nothing is lost."""
    helpline = two[HELPLINE].client()
    before = (await helpline.consents.record(consent_request(SHELTER.agency))).record
    real, until = record_consent.read_record, before.expires_at + timedelta(days=9)
    less = tuple(line.model_copy(update={"groups": frozenset({Group.NEED})}) for line in before.provisions)
    renewing = [helpline.consents.renew(before.id, until)]

    async def read_record(*args: Any) -> Any:
        read = await real(*args)
        if renewing:
            await renewing.pop()
        return read

    monkeypatch.setattr(record_consent, "read_record", read_record)
    after = (await helpline.consents.narrow(before.id, less)).record
    assert (after.version, after.provisions, after.expires_at) == (3, less, until)


async def test_what_she_said_no_to_since_it_was_judged_is_judged_again(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits her no between the judgement of a batch and its commit."""
    node, referral = pair[SHELTER].node, secrets.token_hex(16)
    peer = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    assert [one.result for one in await peer.deliver(peer.forward(referral=referral))] == ["accepted"]
    real, judged = receive_envelopes._judge, []

    def stopped(conn: Connection) -> None:
        record = load_referral(conn, referral)
        assert record is not None
        save_referral(conn, record._replace(sharing_stopped_at=pair.clock()))

    async def judge(*args: Any) -> Any:
        outcomes = await real(*args)
        judged.append(outcomes)
        if len(judged) == 1:
            node.database.write_sync(stopped)
        return outcomes

    monkeypatch.setattr(receive_envelopes, "_judge", judge)
    (answer,) = await peer.deliver(peer.forward(Kind.UPDATE, referral=referral))
    assert answer.result == "refused"
    assert answer.problem is not None
    assert answer.problem.code == "not-legal"
    assert len(judged) == 2
