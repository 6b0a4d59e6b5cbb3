"""The sender takes a referral back, or somebody says that it should never have been."""

from __future__ import annotations

import pytest
from support.federation import Federation
from support.people import CANARIES
from support.stories import begin, refusal, said_inside

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest, RecallAnswerRequest


async def test_recalled_before_it_left_the_offer_never_leaves(two: Federation) -> None:
    story = await begin(two, travel=False)
    act = await story.asks.referrals.recall(story.id)
    assert act.referral.state == "recalled"
    await story.travel()
    assert story.kinds_posted() == ["recall"]
    await story.both_say("recalled")
    assert (await story.outgoing()) == {"recall": ["delivered"]}
    assert not await story.items("offer")


async def test_recalled_before_acceptance_the_held_disclosure_is_deleted(two: Federation) -> None:
    story = await begin(two)
    await story.asks.referrals.recall(story.id)
    assert "disclosure" not in await story.outgoing()
    await story.travel()
    await story.both_say("recalled")
    assert (await refusal(story.decides("accepted"))).code == "state-forbids"
    inside = await said_inside(two)
    assert not any(word.encode() in inside for word in CANARIES)


async def test_an_acceptance_that_crossed_the_recall_releases_nothing(two: Federation) -> None:
    story = await begin(two)
    await story.asks.referrals.recall(story.id)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await story.travel()
    await story.both_say("recalled")
    assert "disclosure" not in story.kinds_posted()
    assert not (await story.flags()).disclosed


async def test_recalled_after_acceptance(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.asks.referrals.recall(story.id)
    await story.travel()
    await story.both_say("recalled")
    assert (await refusal(story.reports("in-service"))).code == "state-forbids"
    assert (await story.asks.referrals.recall(story.id)).repeated


@pytest.mark.parametrize(
    ("agreed", "state"),
    [pytest.param(True, "recalled", id="the-service-stops"), pytest.param(False, "in-service", id="it-continues")],
)
async def test_in_service_the_receiver_is_asked_and_answers(two: Federation, agreed: bool, state: str) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    offer = await story.offer()
    early = await refusal(story.helps.inbox.answer_recall(offer, RecallAnswerRequest(agreed=agreed)))
    assert early.code == "no-recall"
    await story.asks.referrals.recall(story.id)
    await story.travel()
    await story.both_say("recall-requested")
    await story.helps.inbox.answer_recall(offer, RecallAnswerRequest(agreed=agreed))
    await story.travel()
    await story.both_say(state)
    if not agreed:
        await story.reports("completed")
        await story.both_say("completed")


async def test_in_service_that_crossed_the_recall_is_asked_all_the_same(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    two.leave(HELPLINE)
    await story.reports("in-service")
    two.leave(SHELTER)
    two.come_back(HELPLINE)
    act = await story.asks.referrals.recall(story.id)
    assert act.referral.state == "recalled"
    two.come_back(SHELTER)
    two.clock.pass_by(seconds=10)
    await story.travel()
    await story.both_say("recall-requested")


async def test_a_completed_referral_is_not_recalled(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service", "completed")
    assert (await refusal(story.asks.referrals.recall(story.id))).code == "state-forbids"
    await story.both_say("completed")


async def test_entered_in_error_by_the_referring_side(two: Federation) -> None:
    story = await begin(two)
    act = await story.asks.referrals.enter_in_error(story.id)
    assert act.referral.state == "entered-in-error"
    assert "disclosure" not in await story.outgoing()
    await story.travel()
    await story.both_say("entered-in-error")
    assert (await refusal(story.decides("accepted"))).code == "state-forbids"


async def test_entered_in_error_by_the_receiving_side(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.enter_in_error(await story.offer())
    await story.travel()
    await story.both_say("entered-in-error")
    assert "disclosure" not in await story.outgoing()
    assert (await story.helps.inbox.enter_in_error(await story.offer())).repeated


async def test_an_error_is_declared_even_after_the_end(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service", "completed")
    await story.helps.inbox.enter_in_error(await story.offer())
    await story.travel()
    await story.both_say("entered-in-error")


async def test_her_no_weighs_more_than_an_error_and_an_error_more_than_a_recall(two: Federation) -> None:
    story = await begin(two)
    await story.asks.referrals.recall(story.id)
    await story.asks.referrals.enter_in_error(story.id)
    await story.travel()
    await story.both_say("entered-in-error")
    await story.says_no("stop-service")
    await story.both_say("withdrawn")
