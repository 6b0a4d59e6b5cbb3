"""Four real nodes, each with its own processes, databases and keys: stories 1 and 2 through the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from support.node_processes import NodeProcesses, node_processes

from exchange.demo.federation import EMBASSY, FOUR, HELPLINE, SHELTER, AgencyPlan
from exchange.demo.people import Person, melati, seruni
from exchange.demo.waiting import item_of, items_of, referral_that
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.schemas.referrals import ReferralCreated

WHO_SHE_IS = {"preferred_name", "arrival_words", "safe_contact", "meeting_point", "legal_name", "passport_number"}

FourNodes = Mapping[AgencyPlan, NodeProcesses]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FourNodes]:
    """Helpline, shelter, embassy, labour office."""
    with node_processes(tmp_path_factory.mktemp("four") / "federation", FOUR) as nodes:
        for node in nodes:
            node.start()
        yield {node.plan: node for node in nodes}


async def _refer(four: FourNodes, person: Person) -> ReferralCreated:
    async with four[HELPLINE].client(actor="w-helpline") as helpline:
        consent = await helpline.consents.record(person.consent(datetime.now(UTC)))
        return await helpline.referrals.send(person.referral(consent.id))


async def _seen(four: FourNodes, plan: AgencyPlan, referral: str, kind: str) -> set[str]:
    """The names of the fields that an agency sees in an item."""
    async with four[plan].client(actor="w-reader") as client:
        opened = await client.inbox.open((await item_of(client, referral, kind)).id)
        assert opened.content is not None
        return {str(field) for field in opened.content.fields_present()}


async def test_accepted_and_completed(four: FourNodes) -> None:
    created = await _refer(four, melati(datetime.now(UTC)))
    assert not WHO_SHE_IS & await _seen(four, SHELTER, created.id, "offer")
    async with (
        four[SHELTER].client(actor="w-shelter") as shelter,
        four[HELPLINE].client(actor="w-helpline") as helpline,
    ):
        offer = await item_of(shelter, created.id, "offer")
        await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        view = await referral_that(helpline, created.id, lambda view: view.flags.disclosed, "the release")
        assert view.state == "accepted"
        named = await _seen(four, SHELTER, created.id, "disclosure")
        assert {"preferred_name", "arrival_words", "safe_contact", "meeting_point"} <= named
        for state in ("in-service", "completed"):
            await shelter.inbox.report_progress(offer.id, ProgressRequest(state=state))
        await referral_that(helpline, created.id, lambda view: view.state == "completed", "the end")
        assert (await shelter.referrals.read(created.id)).state == "completed"
        assert sorted(item.kind for item in await items_of(shelter, created.id)) == ["disclosure", "offer"]


async def test_declined_and_never_named(four: FourNodes) -> None:
    created = await _refer(four, seruni(datetime.now(UTC)))
    assert created.disclosure_held
    assert not WHO_SHE_IS & await _seen(four, EMBASSY, created.id, "offer")
    async with (
        four[EMBASSY].client(actor="w-embassy") as embassy,
        four[HELPLINE].client(actor="w-helpline") as helpline,
    ):
        offer = await item_of(embassy, created.id, "offer")
        await embassy.inbox.decide(offer.id, DecisionRequest(decision="declined", reason="not-eligible"))
        view = await referral_that(helpline, created.id, lambda view: view.state == "declined", "the decline")
        assert not view.flags.disclosed
        assert [item.kind for item in await items_of(embassy, created.id)] == ["offer"]
