"""An agency that the roster lists no more: whoever works with it is told who must act, and her no is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
from support.blind import referred
from support.federation import CARD_PATH, ONCE, Federation, federation
from support.people import consent_request, referral_request
from support.refusals import watched
from support.stories import begin, now_of, refusal, rows, safe_contact

from contracts.vocabulary import Feedback, Group
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.federation.transport import PeerUnreachableError
from exchange.roster import Member, RosterSnapshot, Status, roster_bytes
from exchange.schemas.inbox import DecisionRequest, OpeningRequest
from exchange.schemas.problems import Problem
from exchange.schemas.sealing import EpochsRequest
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL


def changed(plan: AgencyPlan, **changes: Any) -> Callable[[Member], Member]:
    """This member's entry, with something else in it."""
    return lambda member: member.model_copy(update=changes) if member.agency == plan.agency else member


async def not_listed(two: Federation, gone: AgencyPlan, *, known_to: Iterable[AgencyPlan] | None = None) -> None:
    """The next roster is one without it; these nodes (all, unless said) have it already."""
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
    for one in two.nodes.values() if known_to is None else [two[plan] for plan in known_to]:
        (one.home / "roster.json").write_bytes(data)
        await one.node.refresh_world()


async def card_of(two: Federation, plan: AgencyPlan) -> bytes:
    """What a node says to who asks for its card."""
    async with httpx2.AsyncClient(transport=two.network, base_url=two[plan].member.node_url) as http:
        return (await http.get(CARD_PATH)).content


async def listed_again(two: Federation, before: RosterSnapshot) -> None:
    """The one after it lists everybody."""
    members, contracts = tuple(before.members.values()), before.contracts
    data = roster_bytes(version=before.version + 2, synthetic=True, members=members, contracts=contracts)
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
    with watched(two[HELPLINE]) as node:
        await story.says_no("stop-service")
    assert '"event":"not-a-member"' in node.log.getvalue()
    assert "peer-not-in-roster" not in node.log.getvalue()
    assert (await story.asks.referrals.read(story.id)).state.value == "withdrawn"
    assert (await story.outgoing())["withdrawal"] == ["queued"]


async def test_the_log_names_a_peer_that_the_roster_does_not_list(two: Federation) -> None:
    story = await begin(two)
    await not_listed(two, SHELTER)
    with watched(two[HELPLINE]) as node:
        await story.says_no("stop-service")
    assert f'"event":"peer-not-in-roster","peer":"{SHELTER.agency}"' in node.log.getvalue()


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


async def test_nor_does_it_promise_again_what_nobody_heard(two: Federation) -> None:
    """Its yes was destroyed before it arrived, and then it left: said again nobody takes it either."""
    story = await begin(two)
    await story.offer()
    for plan, status in ((HELPLINE, Status.SUSPENDED), (HELPLINE, Status.ACTIVE), (SHELTER, Status.LEFT)):
        await two.new_roster(member=changed(plan, status=status))
        if status is Status.SUSPENDED:
            await story.decides("accepted")
    problem = await refusal(story.decides("accepted"))
    assert (problem.status, problem.code) == (403, "sender-not-active")
    assert await story.outgoing(at=story.receiver) == {"decision": ["deleted"]}
    # What it does is its own record, as before.
    await story.reports("in-service")
    assert (await story.views())[1].state == "in-service"


async def test_what_was_heard_of_who_has_left_since_is_a_repeat(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await two.new_roster(member=changed(SHELTER, status=Status.LEFT))
    again = DecisionRequest(decision="accepted")
    assert (await story.helps.inbox.decide(await story.offer(), again)).repeated


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
    await listed_again(two, listed)
    await story.later(hours=1)
    await story.both_say("withdrawn")


async def test_a_node_that_its_own_roster_does_not_list_takes_nothing_and_says_why_and_nothing_is_lost(
    two: Federation,
) -> None:
    """It can judge nothing that comes: whoever asks is told who must act, waits, and asks again."""
    story = await begin(two)
    await story.decides("accepted")
    listed = two[HELPLINE].node.world().roster
    await not_listed(two, SHELTER, known_to=[SHELTER])
    await story.says_no("stop-service")
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    assert await story.items("withdrawal") == []
    said = [two.network.answered[-1], await card_of(two, SHELTER)]
    for problem in map(Problem.model_validate_json, said):
        assert (problem.status, problem.code, problem.who.value) == (503, "not-a-member", "node")
        assert problem.retry_after is not None
    await listed_again(two, listed)
    await story.later(hours=1)
    assert (await story.outgoing())["withdrawal"] == ["delivered"]
    await story.both_say("withdrawn")


async def test_nor_does_it_say_anything_about_a_consent(two: Federation) -> None:
    story = await begin(two)
    receipts = [row["consent_receipt"] for row in await story.rows(OUTBOX)]
    await not_listed(two, HELPLINE, known_to=[HELPLINE])
    for receipt in [*receipts, "0" * 32]:
        with pytest.raises(PeerUnreachableError):
            await two[SHELTER].courier._transport.consent_status(two[HELPLINE].member, [receipt])
        problem = Problem.model_validate_json(two.network.answered[-1])
        assert (problem.status, problem.code) == (503, "not-a-member")


async def test_what_its_own_software_asks_of_a_node_that_is_not_listed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as two:
        story = await referred(two, two[HELPLINE], two[SHELTER])
        (item,) = await rows(two[SHELTER], INBOX)
        sealing, inbox = story.helps.client.sealing, story.helps.client.inbox
        week = (await sealing.published()).epochs[0].statement
        await not_listed(two, SHELTER)
        monkeypatch.setattr(story.helps.client._connection, "_retries", ONCE)
        asked = (
            sealing.published(),
            sealing.publish(EpochsRequest(statements=(week,))),
            inbox.take_over(item["id"], OpeningRequest(digest=item["digest"], feedback=Feedback.OUTCOME)),
        )
        for one in asked:
            problem = await refusal(one)
            assert (problem.status, problem.code, problem.who.value) == (503, "not-a-member", "node")
