"""An agency that the roster lists no more: whoever works with it is told who must act, and her no is stored."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import begin, now_of, refusal, rows, safe_contact

from contracts.vocabulary import Group
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.roster import Status, roster_bytes
from exchange.storage.tables import REFERRAL


async def not_listed(two: Federation, gone: AgencyPlan) -> None:
    """The next roster is one without it."""
    before = two[HELPLINE].node.world().roster
    adoptions = []
    for adoption in before.contracts:
        signed = {agency: said for agency, said in adoption.adherence.items() if agency != gone.agency}
        left = adoption.members - {gone.agency}
        adoptions.append(replace(adoption, members=left, adherence=MappingProxyType(signed)))
    data = roster_bytes(
        version=before.version + 1,
        synthetic=before.synthetic,
        members=tuple(member for member in before.members.values() if member.agency != gone.agency),
        contracts=tuple(adoptions),
    )
    for one in two.nodes.values():
        (one.home / "roster.json").write_bytes(data)
        await one.node.refresh_world()


async def test_who_is_not_listed_itself_is_told_whom_to_ask(two: Federation) -> None:
    story = await begin(two)
    await not_listed(two, HELPLINE)
    problem = await refusal(begin(two, travel=False))
    assert (problem.status, problem.code, problem.who.value) == (403, "sender-not-active", "node")
    problem = await refusal(story.asks.consents.receipt(story.consent))
    assert (problem.status, problem.code, problem.who.value) == (403, "sender-not-active", "node")
    await story.says_no("stop-service")
    assert (await story.asks.referrals.read(story.id)).state.value == "withdrawn"
    assert (await story.outgoing())["withdrawal"] == ["queued"]


async def test_she_allows_less_where_her_agency_is_not_listed(two: Federation) -> None:
    """What waits would leave when it is listed again."""
    two.leave(SHELTER)
    story = await begin(two)
    await not_listed(two, HELPLINE)
    (line,) = (await story.asks.consents.read(story.consent)).record.provisions
    await story.asks.consents.narrow(story.consent, (line.model_copy(update={"groups": frozenset({Group.NEED})}),))
    assert "offer-barred" in await story.changes()
    assert (await story.flags()).undeliverable


async def test_nothing_is_made_for_an_agency_without_a_contract_or_that_nobody_knows(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    await two.new_roster(contracts=[])
    to = (SHELTER.agency, "nobody-at-all")
    problems = [await refusal(helpline.referrals.send(referral_request(one, consent.id))) for one in to]
    assert [(one.status, one.code) for one in problems] == [(403, "no-contract"), (422, "unknown-agency")]
    assert await rows(two[HELPLINE], REFERRAL) == []


async def test_who_answers_one_that_is_not_listed_is_told_to_telephone(two: Federation) -> None:
    story = await begin(two)
    await story.offer()
    await not_listed(two, HELPLINE)
    problem = await refusal(story.decides("accepted"))
    assert (problem.status, problem.code) == (403, "receiver-not-active")
    assert "Telephone" in problem.detail
    assert "decision" not in await story.outgoing(at=story.receiver)


async def test_who_has_left_promises_nothing_any_more(two: Federation) -> None:
    """Nobody takes its answers. It was told that its yes is on its way, and that her name would come."""
    story = await begin(two)
    await story.offer()
    await two.new_roster(
        member=lambda one: one.model_copy(update={"status": Status.LEFT}) if one.agency == SHELTER.agency else one
    )
    for decision in ("accepted", "waitlisted"):
        problem = await refusal(story.decides(decision))
        assert (problem.status, problem.code) == (403, "sender-not-active")
        assert "Telephone" in problem.detail
    assert "decision" not in await story.outgoing(at=story.receiver)


async def test_who_has_a_new_plan_for_one_that_is_suspended_is_told_to_telephone(two: Federation) -> None:
    """It has her, and the plan of before: another receiver helps nobody."""
    story = await begin(two)
    await story.decides("accepted")
    await two.new_roster(
        member=lambda one: one.model_copy(update={"status": Status.SUSPENDED}) if one.agency == SHELTER.agency else one
    )
    problem = await refusal(story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two))))
    assert (problem.status, problem.code) == (403, "receiver-not-active")
    assert "Telephone" in problem.detail


async def test_her_no_goes_when_it_is_listed_again(two: Federation) -> None:
    story = await begin(two)
    listed = two[HELPLINE].node.world().roster
    await not_listed(two, SHELTER)
    await story.says_no("stop-service")
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    members, contracts = tuple(listed.members.values()), listed.contracts
    data = roster_bytes(version=listed.version + 2, synthetic=True, members=members, contracts=contracts)
    for one in two.nodes.values():
        (one.home / "roster.json").write_bytes(data)
        await one.node.refresh_world()
    await story.later(hours=1)
    await story.both_say("withdrawn")
