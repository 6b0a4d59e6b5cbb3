"""The receiver is not what she was told any more: a fresh disclosure waits until that is said, a plan does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

import pytest
from support.blind import referred
from support.federation import Federation, federation
from support.stories import (
    Story,
    begin,
    content,
    her_content,
    now_of,
    plan,
    refusal,
    released_and_waiting,
    rows,
    safe_contact,
    to_the_embassy,
)

from contracts.vocabulary import Group
from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER, AgencyPlan
from exchange.referral.contact_plan import SafeContact
from exchange.roster import ToldFirst
from exchange.schemas.referrals import ForwardAnswer
from exchange.storage.tables import AUDIT, OUTBOX

POLICE: Final = ToldFirst(reports_to=("the police",), freedom_of_movement="Nobody leaves.", requires_documents=False)
OTHERS: Final = ToldFirst(reports_to=("the employer",), freedom_of_movement="Nobody leaves.", requires_documents=False)
TOLD: Final = {"told_first": [{"agency": SHELTER.agency, **SHELTER.told_first.model_dump(mode="json")}]}
"""She was told of this shelter too, although nobody had to."""
FIRST: Final = "first-key-of-a-caller"
SECOND: Final = "second-key-of-a-caller"


async def reports(together: Federation, told: ToldFirst = POLICE, plan: AgencyPlan = SHELTER) -> None:
    """From now on the roster says this of the receiver."""
    await together.new_roster(
        member=lambda one: one.model_copy(update={"told_first": told}) if one.agency == plan.agency else one
    )


def nobody(together: Federation) -> SafeContact:
    """Nobody may call her any more."""
    return safe_contact(now_of(together), who_initiates="neither", channels=[], safe_times=[])


async def may_contact(story: Story) -> bool:
    return (await story.helps.inbox.contact_advice(await story.offer())).may_contact


async def test_a_changed_plan_is_taken_for_one_of_which_she_was_told_something_else(four: Federation) -> None:
    consent, request = to_the_embassy()
    request["content"]["safe_contact"] = plan(now_of(four))
    story = await begin(four, receiver=EMBASSY, consent=consent, **request)
    await story.decides("accepted")
    await story.asks.referrals.release(story.id)
    await story.travel()
    assert await may_contact(story)
    more = EMBASSY.told_first.model_copy(update={"reports_to": (*EMBASSY.told_first.reports_to, "the police")})
    await reports(four, more, EMBASSY)
    await story.asks.referrals.update_safe_contact(story.id, nobody(four))
    await story.travel()
    assert not await may_contact(story)


async def _disclosed_with_a_plan(two: Federation) -> Story:
    said = {"needs": ["tonight"], "age_band": "25-49", "language": "id", "safe_contact": plan(now_of(two))}
    story = await begin(two, consent=TOLD, content=said)
    await story.decides("information-requested", fields=["preferred_name"])
    await story.decides("accepted")
    assert await may_contact(story)
    return story


@pytest.mark.parametrize("narrowed", [False, True], ids=["as it was", "and she allows less"])
@pytest.mark.parametrize("kind", ["update", "information"])
async def test_a_changed_plan_that_waits_leaves_for_it(two: Federation, kind: str, narrowed: bool) -> None:
    story = await _disclosed_with_a_plan(two)
    two.leave(SHELTER)
    if kind == "update":
        await story.asks.referrals.update_safe_contact(story.id, nobody(two))
    else:
        await story.asks.referrals.send_information(story.id, content(safe_contact={"who_initiates": "neither"}))
    await reports(two)
    if narrowed:
        (line,) = (await story.asks.consents.read(story.consent)).record.provisions
        less = line.model_copy(update={"groups": tuple(one for one in line.groups if one is not Group.HEALTH)})
        await story.asks.consents.narrow(story.consent, (less,))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted()[-1] == kind
    assert f"{kind}-barred" not in await story.changes()
    assert not await may_contact(story)


async def test_whatever_else_of_hers_is_not(two: Federation) -> None:
    """Neither beside the plan, nor alone."""
    story = await _disclosed_with_a_plan(two)
    await reports(two)
    told = {"safe_contact": {"who_initiates": "neither"}}
    for more in (told | {"preferred_name": "Canary-Baru"}, {"party": {"adults": 1}}):
        problem = await refusal(story.asks.referrals.send_information(story.id, content(**more)))
        assert (problem.status, problem.code) == (403, "not-told-first")


def replaces(story: Story, key: str | None = None) -> Awaitable[ForwardAnswer]:
    """A fresh disclosure, under this key or a new one."""
    fresh = content(**her_content(story.together, preferred_name="Canary-Baru"))
    return story.asks.referrals.replace_disclosure(story.id, fresh, idempotency_key=key)


async def is_refused(story: Story, key: str | None = None) -> None:
    problem = await refusal(replaces(story, key))
    assert (problem.status, problem.code) == (403, "not-told-first")
    assert "Tell her" in problem.detail
    assert "Canary" not in problem.model_dump_json()


async def test_a_fresh_disclosure_that_comes_before_it_is_said_is_refused_and_says_it(two: Federation) -> None:
    story = await begin(two)
    await reports(two)
    await is_refused(story, FIRST)
    assert await story.outgoing() == {"offer": ["delivered"]}
    assert (await story.changes())[-1] == "not-told-first"
    assert (await story.flags()).awaiting_disclosure
    (said,) = await rows(story.sender, AUDIT, AUDIT.c.action == "disclosure-refused")
    assert (said["subject_id"], said["detail"]) == (story.id, "not-told-first")
    await replaces(story)
    await story.decides("accepted")
    assert (await story.outgoing())["disclosure"] == ["delivered"]
    assert (await story.changes()).count("not-told-first") == 1


async def test_repeated_under_its_key_it_stays_refused(two: Federation) -> None:
    """It was made before, and takes the place of nothing that came since either, whatever the roster says then."""
    story = await begin(two)
    await reports(two)
    await is_refused(story, FIRST)
    told = await story.changes()
    await is_refused(story, FIRST)
    assert await story.changes() == told
    await replaces(story)
    held = await story.outbox_rows()
    await is_refused(story, FIRST)
    assert await story.outbox_rows() == held
    await reports(two, OTHERS)
    await is_refused(story, SECOND)
    assert (await story.changes()).count("not-told-first") == 2
    await replaces(story)
    for key in (FIRST, SECOND):
        await is_refused(story, key)
    assert "held" in (await story.outgoing())["disclosure"]


async def test_what_was_said_of_an_earlier_roster_is_not_said_of_this_one(two: Federation) -> None:
    story = await begin(two)
    await reports(two)
    await story.decides("accepted")
    assert (await story.changes())[-1] == "not-told-first"
    await reports(two, OTHERS)
    await is_refused(story)
    await replaces(story)
    await story.travel()
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_what_was_said_before_the_roster_went_back_is_said_again(two: Federation) -> None:
    story = await begin(two)
    before = two[HELPLINE].node.world().roster.member(SHELTER.agency).told_first
    await reports(two)
    await is_refused(story)
    await reports(two, before)
    await replaces(story)
    await reports(two)
    await is_refused(story)
    assert (await story.flags()).awaiting_disclosure


async def test_where_her_consent_says_what_she_was_told_nothing_stays_held_and_nothing_goes(two: Federation) -> None:
    """Not when the roster is changed back either: whoever was refused was told that it is deleted."""
    story = await begin(two, consent=TOLD)
    before = two[HELPLINE].node.world().roster.member(SHELTER.agency).told_first
    await reports(two)
    for _ in range(2):
        await is_refused(story)
    assert (await story.changes()).count("not-told-first") == 1
    assert (await story.flags()).awaiting_disclosure
    await reports(two, before)
    await story.decides("accepted")
    assert "disclosure" not in await story.outgoing()


async def test_it_is_not_said_where_a_fresh_one_is_asked_for_because_of_something_else(two: Federation) -> None:
    story = await begin(two)
    await story.asks.referrals.drop_disclosure(story.id)
    await reports(two)
    await is_refused(story)
    await replaces(story)
    assert (await story.outgoing())["disclosure"] == ["held"]


async def test_where_nothing_is_held_none_is_asked_for(two: Federation) -> None:
    story = await begin(two, content={"needs": ["tonight"], "age_band": "25-49", "language": "id"})
    await reports(two)
    await is_refused(story)
    assert (await story.changes())[-1] == "not-told-first"
    assert not (await story.flags()).awaiting_disclosure


async def test_what_is_refused_for_another_reason_drops_nothing(two: Federation) -> None:
    story = await begin(two)
    await reports(two)
    before = await story.changes()
    assert (await refusal(story.asks.referrals.replace_disclosure(story.id, content()))).code == "nothing-allowed"
    assert (await story.outgoing())["disclosure"] == ["held"]
    assert await story.changes() == before


async def test_it_is_said_of_what_was_on_its_way_too(two: Federation) -> None:
    story = await released_and_waiting(two)
    await reports(two)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert (await story.changes())[-2:] == ["disclosure-barred", "not-told-first"]
    await replaces(story)
    await story.travel()
    assert (await story.outgoing())["disclosure"] == ["delivered"]


@pytest.fixture
async def blind(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline whose agency holds its keys itself, and a shelter."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as both:
        yield both


async def test_keys_elsewhere_a_fresh_disclosure_is_refused_until_it_is_said(blind: Federation) -> None:
    story = await referred(blind, blind[HELPLINE], blind[SHELTER])
    vault, asks = story.asks.own_vault, story.asks.client.referrals
    fresh = content(preferred_name="Canary-Baru")
    await reports(blind)
    for _ in range(2):
        problem = await refusal(vault.replace_disclosure(story.id, fresh, idempotency_key=FIRST))
        assert (problem.status, problem.code) == (403, "not-told-first")
        assert "Tell her" in problem.detail
        assert [row["kind"] for row in await rows(story.asks.node, OUTBOX)] == ["offer"]
        assert [one.what for one in (await asks.changes()).items].count("not-told-first") == 1
        assert (await asks.read(story.id)).flags.awaiting_disclosure
    await vault.replace_disclosure(story.id, fresh)
    await story.accepted()
    assert (await asks.read(story.id)).flags.disclosed


@pytest.mark.parametrize("waits", [False, True], ids=["handed in", "waits"])
async def test_keys_elsewhere_a_changed_plan_goes(blind: Federation, waits: bool) -> None:
    story = await referred(blind, blind[HELPLINE], blind[SHELTER], **TOLD)
    await story.accepted()
    vault = story.asks.own_vault
    if waits:
        blind.leave(SHELTER)
        await vault.update_safe_contact(story.id, nobody(blind))
    await reports(blind)
    if waits:
        blind.come_back(SHELTER)
        blind.clock.pass_by(hours=0.1)
    else:
        await vault.update_safe_contact(story.id, nobody(blind))
    await blind.travel()
    told = await rows(story.asks.node, OUTBOX, OUTBOX.c.kind == "update")
    assert [row["status"] for row in told] == ["delivered"]
    advice = await story.helps.client.inbox.contact_advice((await story.helps.item(story.id, "offer")).id)
    assert not advice.may_contact
