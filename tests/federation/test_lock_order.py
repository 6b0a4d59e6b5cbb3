"""On PostgreSQL whoever changes a referral and its envelopes locks the referral first, as what arrives about it does.

The consent is locked before both, as by her no.

Otherwise her no and the courier wait for each other, until the server ends one of them a second later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.databases import MakeDatabase
from support.federation import Federation
from support.federation_fixtures import federation_on
from support.other_contract import evaluate_with
from support.people import consent_request, referral_request
from support.referrals import content

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.limits import HOUR_MS, MINUTE_MS
from exchange.referral.contact_plan import SafeContact
from exchange.roster import Status
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RefusalRequest
from exchange.storage.clock_look import ClockLook, confirm_look, remember_look
from exchange.storage.tables import CLIENT_CODE
from exchange.use_cases.maintain import maintain
from exchange.use_cases.release_disclosure import release_due

OUTBOX = "SELECT id, status, attempted_at FROM outbox"
Act = Callable[[Federation], Awaitable[Any]]


@pytest.fixture
async def together(tmp_path: Path, make_on: Callable[[str], MakeDatabase]) -> AsyncIterator[Federation]:
    async with federation_on(tmp_path, (HELPLINE, SHELTER), make_on("postgresql")) as made:
        yield made


async def queued(_: Federation) -> Act:
    """The receiver answers for what waits."""
    return lambda made: made[HELPLINE].courier.run_once()


async def expired(together: Federation) -> Act:
    """It did not leave in time."""
    together.clock.pass_by(hours=24 * 40)
    return lambda made: maintain(made[HELPLINE].node)


async def barred(together: Federation) -> Act:
    """It may not leave any more."""
    suspended = {"status": Status.SUSPENDED}
    await together.new_roster(
        member=lambda one: one.model_copy(update=suspended) if one.agency == SHELTER.agency else one
    )
    return lambda made: made[HELPLINE].courier.run_once()


async def released(together: Federation) -> Act:
    """Name and contact are let go."""
    await together.travel(1)
    shelter = together[SHELTER].client()
    *_, offer = (await shelter.inbox.list()).items
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await together[SHELTER].courier.run_once()
    return lambda made: release_due(made[HELPLINE].node)


async def disclosed(together: Federation) -> Act:
    """They go on their way."""
    await (await released(together))(together)
    return lambda made: made[HELPLINE].courier.run_once()


async def replaced(together: Federation) -> Act:
    """What is held is replaced by another one."""
    referral = await _only(together)
    another = content(preferred_name="Noor")
    return lambda made: made[HELPLINE].client().referrals.replace_disclosure(referral, another)


@pytest.mark.parametrize("about", [queued, expired, barred, released, disclosed, replaced])
async def test_the_referral_is_locked_before_its_envelopes(
    together: Federation, about: Callable[[Federation], Awaitable[Act]]
) -> None:
    await _refer(together)
    act = await about(together)
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        other.execute("SELECT id FROM referral FOR UPDATE")
        before = other.execute(f"{OUTBOX} ORDER BY id").fetchall()
        acting = asyncio.ensure_future(act(together))
        await _until_somebody_waits(looks)
        assert other.execute(f"{OUTBOX} ORDER BY id FOR UPDATE NOWAIT").fetchall() == before
        other.rollback()
        await acting
        assert looks.execute(f"{OUTBOX} ORDER BY id").fetchall() != before


@pytest.mark.parametrize("about", [released, replaced])
async def test_the_consent_is_locked_before_the_referral(
    together: Federation, about: Callable[[Federation], Awaitable[Act]]
) -> None:
    await _refer(together)
    act = await about(together)
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        other.execute("SELECT id FROM consent FOR UPDATE")
        acting = asyncio.ensure_future(act(together))
        await _until_somebody_waits(looks)
        assert len(other.execute("SELECT id FROM referral FOR UPDATE NOWAIT").fetchall()) == 1
        other.rollback()
        await acting


async def told(together: Federation) -> Act:
    """Her plan changes after it was disclosed."""
    await (await released(together))(together)
    referral = await _only(together)
    plan = SafeContact.model_validate_json('{"who_initiates": "survivor"}')
    return lambda made: made[HELPLINE].client().referrals.update_safe_contact(referral, plan)


async def refused(together: Federation) -> Act:
    """The agency's software refuses what has arrived."""
    await released(together)
    (item,) = [one for one in (await together[HELPLINE].client().inbox.list()).items if one.kind == "decision"]
    return lambda made: made[HELPLINE].client().inbox.refuse(item.id, RefusalRequest(code="cannot-open"))


@pytest.mark.parametrize("about", [told, refused])
async def test_the_referral_is_locked_before_the_row_of_its_peer(
    together: Federation, about: Callable[[Federation], Awaitable[Act]]
) -> None:
    """Her no locks the one and then wants the other, and so does the courier."""
    await _refer(together)
    act = await about(together)
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        other.execute("SELECT id FROM referral FOR UPDATE")
        acting = asyncio.ensure_future(act(together))
        await _until_somebody_waits(looks)
        assert len(other.execute("SELECT agency FROM peer FOR UPDATE NOWAIT").fetchall()) == 1
        other.rollback()
        await acting


async def test_of_two_consents_that_are_erased_at_once_the_later_one_takes_her_codes_along(
    together: Federation,
) -> None:
    helpline = together[HELPLINE].client()
    first = await helpline.consents.record(consent_request(SHELTER.agency))
    again = consent_request(SHELTER.agency).model_copy(update={"subject": first.subject})
    second = await helpline.consents.record(again)
    node = together[HELPLINE].node
    code = {"subject": first.subject, "receiver": SHELTER.agency, "code": "AAAA-BBBB"}
    await node.database.write(lambda conn: conn.execute(CLIENT_CODE.insert().values(code)).rowcount)
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        # The other one of two that erase at once has not committed yet.
        other.execute("UPDATE consent SET state = 'withdrawn' WHERE id = %s", (second.id,))
        erasing = asyncio.ensure_future(helpline.withdrawals.of_consent(first.id, WithdrawalForm.ERASE))
        await _until_somebody_waits(looks)
        other.commit()
        await erasing
        assert looks.execute("SELECT count(*) FROM client_code").fetchall() == [(0,)]


async def test_a_clock_that_is_confirmed_is_not_in_doubt_by_a_look_of_before(together: Federation) -> None:
    node, at = together[HELPLINE].node, together.clock()
    await node.database.write(lambda conn: remember_look(conn, ClockLook(at, at)))
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        other.execute("UPDATE clock_look SET settled_at = %s", (at + HOUR_MS,))
        later = asyncio.ensure_future(node.database.write(lambda conn: confirm_look(conn, at + MINUTE_MS)))
        await _until_somebody_waits(looks)
        other.commit()
        assert not await later
        assert looks.execute("SELECT settled_at FROM clock_look").fetchall() == [(at + HOUR_MS,)]


async def test_what_frees_a_place_waits_for_no_release_that_waits_for_it(together: Federation) -> None:
    """Who has one referral, and the row of its peer, would wait for who has another one and wants that row."""
    evaluate_with(together[HELPLINE].node, b"max_unserved_accepts: 10", b"max_unserved_accepts: 1")
    for _ in range(2):
        await _refer(together)
        await (await released(together))(together)
    shelter = together[SHELTER].client()
    offers = (await shelter.inbox.list(limit=10)).items
    with _connected(together) as other, _connected(together, autocommit=True) as looks:
        other.execute("SELECT id FROM referral WHERE hold = 'unserved' FOR UPDATE")
        served = looks.execute("SELECT id FROM referral WHERE hold = 'released'").fetchone()
        assert served is not None
        (offer,) = {one.id for one in offers if (one.referral, one.kind) == (served[0], "offer")}
        await shelter.inbox.report_progress(offer, ProgressRequest(state="in-service"))
        arriving = asyncio.ensure_future(together[SHELTER].courier.run_once())
        await asyncio.wait({arriving}, timeout=5)
        found = looks.execute("SELECT state FROM referral WHERE id = %s", served).fetchall()
        other.rollback()
        await arriving
        assert found == [("in-service",)]
        await release_due(together[HELPLINE].node)
        assert looks.execute("SELECT count(*) FROM referral WHERE hold = 'released'").fetchall() == [(2,)]


async def _only(together: Federation) -> str:
    (referral,) = {one.referral.id for one in (await together[HELPLINE].client().referrals.changes()).items}
    return referral


async def _refer(together: Federation) -> None:
    helpline = together[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))


def _connected(together: Federation, *, autocommit: bool = False) -> psycopg.Connection[Any]:
    url = together[HELPLINE].settings.database_url.get_secret_value()
    return psycopg.connect(url, autocommit=autocommit)


async def _until_somebody_waits(looks: psycopg.Connection[Any]) -> None:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(400):
        if looks.execute(asked).fetchall() != [(0,)]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody waited")
