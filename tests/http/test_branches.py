"""What arrives is in every branch's sight until one has taken it over; what was made for one stays with it."""

from __future__ import annotations

import json

import httpx2
import pytest
from support.http_world import NORTH, SOUTH, Ask, HttpWorld
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, ProblemError
from exchange.demo.federation import SHELTER
from exchange.schemas.inbox import DecisionRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(client: AgencyClient, item: str) -> bool:
    page = await client.inbox.list()
    while page.items:
        if item in {one.id for one in page.items}:
            return True
        page = await client.inbox.list(page.next_cursor)
    return False


async def test_acknowledging_takes_the_referral_over(world: HttpWorld) -> None:
    north, south = world.system(world.shelter), world.system(world.shelter, SOUTH)
    referral, offer = await world.sent()
    assert await listed(north, offer.id)
    assert await listed(south, offer.id)
    await south.inbox.acknowledge(offer.id)
    assert (await south.referrals.read(referral)).state == "received"
    assert not await listed(north, offer.id)
    with pytest.raises(ProblemError) as hidden:
        await north.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    assert hidden.value.problem.status == 404


async def test_a_branch_that_names_anothers_referral_sees_no_item_of_it(world: HttpWorld) -> None:
    referral, offer = await world.sent()
    north, south = world.system(world.shelter), world.system(world.shelter, SOUTH)
    assert [item.id async for item in south.inbox.pages(referral=referral)] == [offer.id]
    await north.inbox.acknowledge(offer.id)
    assert [item.id async for item in north.inbox.pages(referral=referral)] == [offer.id]
    assert await south.inbox.list(referral=referral) == await south.inbox.list(referral="f" * 32)


async def test_what_still_comes_belongs_to_the_branch_that_accepted(world: HttpWorld) -> None:
    referral, _ = await world.decided()
    disclosure = await world.newest(referral, "disclosure")
    assert await listed(world.system(world.shelter), disclosure.id)
    assert not await listed(world.system(world.shelter, SOUTH), disclosure.id)
    answer = await world.newest(referral, "decision", world.helpline)
    assert await listed(world.system(world.helpline), answer.id)
    assert not await listed(world.system(world.helpline, SOUTH), answer.id)


async def test_what_the_whole_agency_made_is_no_branchs(world: HttpWorld) -> None:
    agency, north = world.system(world.helpline, None), world.system(world.helpline)
    consent = await agency.consents.record(consent_request(SHELTER.agency))
    created = await agency.referrals.send(referral_request(SHELTER.agency, consent.id))
    for reading in (north.consents.read(consent.id), north.referrals.read(created.id)):
        with pytest.raises(ProblemError) as hidden:
            await reading
        assert hidden.value.problem.status == 404
    assert (await agency.referrals.read(created.id)).id == created.id


async def test_her_no_reaches_what_the_whole_agency_made_and_does_not_show_it_to_a_branch(world: HttpWorld) -> None:
    agency, north = world.system(world.helpline, None), world.system(world.helpline)
    consent = await north.consents.record(consent_request(SHELTER.agency))
    agencys, norths = [
        await system.referrals.send(referral_request(SHELTER.agency, consent.id)) for system in (agency, north)
    ]
    said = await north.withdrawals.of_consent(consent.id, WithdrawalForm.STOP_SERVICE)
    assert [one.id for one in said.referrals] == [norths.id]
    assert (await agency.referrals.read(agencys.id)).state == "withdrawn"


async def test_a_request_of_one_branch_is_not_answered_with_anothers(world: HttpWorld) -> None:
    """One system of the whole agency works for two branches, and uses a key for the same request twice."""
    body = json.loads(consent_request(SHELTER.agency).model_dump_json(exclude_none=True, by_alias=True))
    token = await world.token(world.helpline, None)

    async def record(unit: str) -> httpx2.Response:
        headers = {"Unit": unit, "Idempotency-Key": "the-same"}
        return await world.send(Ask(world.helpline, body=body), "POST", "/v1/consents", token=token, headers=headers)

    first, other, again = await record(NORTH), await record(SOUTH), await record(NORTH)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
    assert first.json()["id"] not in other.text
