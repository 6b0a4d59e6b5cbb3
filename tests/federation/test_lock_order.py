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

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.roster import Status
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
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
    (referral,) = {one.referral.id for one in (await together[HELPLINE].client().referrals.changes()).items}
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
