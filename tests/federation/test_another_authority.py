"""An authority that acts for another country than when she was referred to it: her wish was held against that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from support.federation import Federation, federation
from support.people import consent_request, referral_request
from support.stories import (
    begin,
    content,
    her_content,
    now_of,
    refusal,
    released_and_waiting,
    rows,
    to_the_embassy,
)

from contracts.vocabulary import AgencyKind
from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER, AgencyPlan
from exchange.roster import Member
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.tables import OUTBOX
from exchange.use_cases.facts import open_facts
from exchange.use_cases.gate_again import authority_refuses, sealed_between

HERS: Final = {"avoid_own_authorities": {"country": "PH"}}
"""Her wish, of which nothing is kept after the hand-in."""


def asks_the_embassy() -> dict[str, Any]:
    """What she asks of the embassy of another country than her own."""
    consent, request = to_the_embassy()
    return {"receiver": EMBASSY, "consent": consent, **request, "content": request["content"] | HERS}


def becomes_hers(member: Member) -> Member:
    """The embassy's entry, corrected: it represents her country."""
    return member.model_copy(update={"represents": "PH"}) if member.agency == EMBASSY.agency else member


async def test_what_she_asked_of_another_embassy_does_not_leave_for_hers(four: Federation) -> None:
    four.leave(EMBASSY)
    story = await begin(four, **asks_the_embassy())
    await four.new_roster(member=becomes_hers)
    four.come_back(EMBASSY)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()
    assert (await story.flags()).undeliverable


async def test_nor_is_her_name_released_to_it(four: Federation) -> None:
    story = await begin(four, **asks_the_embassy())
    await story.decides("accepted")
    await four.new_roster(member=becomes_hers)
    answer = await story.asks.referrals.release(story.id)
    assert (answer.released, answer.code) == (False, "another-authority")
    await story.travel()
    assert "disclosure" not in story.kinds_posted()
    assert (await story.flags()).awaiting_disclosure


async def test_nor_does_it_leave_where_it_waits_already(four: Federation) -> None:
    story = await released_and_waiting(four, priority="emergency", **asks_the_embassy())
    await four.new_roster(member=becomes_hers)
    four.come_back(EMBASSY)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()


async def test_nor_is_it_told_anything_more(four: Federation) -> None:
    """Who hands in a fresh disclosure, or answers a question, does not write down her wish again."""
    story = await begin(four, **asks_the_embassy())
    await four.new_roster(member=becomes_hers)
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    problem = await refusal(story.asks.referrals.replace_disclosure(story.id, fresh))
    assert (problem.status, problem.code) == (403, "another-authority")
    await story.decides("information-requested", fields=["needs"])
    problem = await refusal(story.asks.referrals.send_information(story.id, content(needs=["withheld"])))
    assert (problem.status, problem.code) == (403, "another-authority")


async def test_a_fresh_disclosure_remembers_between_whom_it_was_sealed(two: Federation) -> None:
    """She may take back later what only the roster of then let go."""
    story, node = await begin(two), two[HELPLINE].node
    await two.new_roster(member=_changed(SHELTER, {"country": "SG"}))
    await story.asks.referrals.replace_disclosure(story.id, content(**her_content(two)))
    facts = open_facts(node, story.id, (await story.record())["sealed_facts"])
    assert [receiver.country for _, receiver in facts.between] == ["MY", "SG"]


@pytest.mark.parametrize(
    ("then", "now", "goes"),
    [
        pytest.param({}, {"represents": "PH"}, False, id="another-country"),
        pytest.param({}, {"country": "SG"}, True, id="the-same-elsewhere"),
        pytest.param({}, {"kind": AgencyKind.SHELTER, "represents": None}, True, id="no-authority-any-more"),
        pytest.param({}, {"kind": AgencyKind.POLICE, "represents": None}, False, id="of-where-it-sits"),
        pytest.param({"kind": AgencyKind.POLICE, "represents": None}, {"represents": "MY"}, True, id="still-of-there"),
        pytest.param({"kind": AgencyKind.SHELTER, "represents": None}, {}, False, id="an-authority-at-last"),
        pytest.param(None, {"represents": "PH"}, True, id="nothing-was-remembered"),
    ],
)
async def test_an_authority_of_a_country_of_which_she_was_not_asked_is_refused(
    four: Federation, then: Mapping[str, Any] | None, now: Mapping[str, Any], goes: bool
) -> None:
    story, node = await begin(four), four[HELPLINE].node
    embassy, sender = four[EMBASSY].member, four[HELPLINE].member
    facts = open_facts(node, story.id, (await story.record())["sealed_facts"]).model_copy(update={"between": ()})
    if then is not None:
        facts = sealed_between(facts, sender, embassy.model_copy(update=then))
        # What was sealed since does not count: nothing was asked then.
        facts = sealed_between(facts, sender, embassy.model_copy(update={"represents": "PH"}))
    assert (authority_refuses(facts, embassy.model_copy(update=now)) is None) is goes


@pytest.mark.parametrize("stays", [{"name": "Another name"}, {"country": "SG"}], ids=["its name", "where it sits"])
async def test_an_embassy_of_the_same_country_is_told(four: Federation, stays: Mapping[str, Any]) -> None:
    four.leave(EMBASSY)
    story = await begin(four, **asks_the_embassy())
    await four.new_roster(member=_changed(EMBASSY, stays))
    four.come_back(EMBASSY)
    await story.later(hours=0.1)
    assert story.kinds_posted() == ["offer"]


def _changed(plan: AgencyPlan, changes: Mapping[str, Any]) -> Callable[[Member], Member]:
    return lambda member: member.model_copy(update=changes) if member.agency == plan.agency else member


async def test_nor_where_the_agencys_own_software_has_sealed_it(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, EMBASSY), blind=(HELPLINE,)) as both:
        helpline, at, asked = both[HELPLINE], now_of(both), asks_the_embassy()
        asks, helps = helpline.client(), both[EMBASSY].client()
        consent = (await asks.consents.record(consent_request(EMBASSY.agency, now=at, **asked["consent"]))).id
        words = {name: asked[name] for name in ("service_type", "content")}
        created = await helpline.vault(asks).refer(referral_request(EMBASSY.agency, consent, now=at, **words))
        await both.travel()
        await both.new_roster(member=becomes_hers)
        (offer,) = [item async for item in helps.inbox.pages() if item.kind == "offer"]
        await helps.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        await both.travel()
        answer = await asks.referrals.release(created.id)
        assert (answer.released, answer.code) == (False, "another-authority")
        fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
        problem = await refusal(helpline.vault(asks).replace_disclosure(created.id, fresh))
        assert (problem.status, problem.code) == (403, "another-authority")
        assert [row["kind"] for row in await rows(helpline, OUTBOX)] == ["offer"]
