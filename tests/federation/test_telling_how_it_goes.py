"""Feedback is disclosure too: what the receiver reports travels as far as rule and consent allow, and no further."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest
from sqlalchemy import Connection, update
from support.federation import Federation
from support.other_contract import evaluate_with
from support.stories import Story, begin, content, now_of, refusal, said_inside, travelled

from consent.record import Provision
from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.roster import Status
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RecallAnswerRequest
from exchange.storage.due import due_for
from exchange.storage.referrals import load_referral
from exchange.storage.tables import EVENT, OUTBOX, PEER, REFERRAL
from exchange.use_cases.unheard import ended_by_the_sender

_PARTY: Final = {"adults": 1, "dependants": [], "infant_or_pregnant": False}


def _consent(feedback: str) -> dict[str, Any]:
    provision = {
        "groups": ["need", "safety", "health", "name", "contact", "place"],
        "agencies": [SHELTER.agency],
        "purposes": ["provide-safe-accommodation"],
        "feedback": feedback,
    }
    return {"provisions": [provision]}


@pytest.mark.parametrize(
    ("feedback", "steps", "on_the_way"),
    [
        pytest.param("decision", ["completed"], "accepted", id="decision-only-that-it-is-over"),
        pytest.param("status", ["scheduled", "in-service", "completed"], "in-service", id="status-every-step"),
        pytest.param("outcome", ["scheduled", "in-service", "completed"], "in-service", id="the-rule-says-status"),
    ],
)
async def test_progress_travels_as_far_as_her_consent_and_the_rule_allow(
    two: Federation, feedback: str, steps: list[str], on_the_way: str
) -> None:
    story = await begin(two, consent=_consent(feedback))
    await story.decides("accepted")
    await story.reports("scheduled", "in-service")
    assert (await story.views())[0].state == on_the_way
    await story.both_say(on_the_way)
    await story.reports("completed", outcome="ended-by-survivor")
    await story.both_say("completed")
    heard = await story.items("progress", at=two[HELPLINE])
    assert [item.event for item in heard] == steps
    inside = await said_inside(two)
    assert b"ended-by-survivor" not in inside
    own = {row["name"]: row["shared"] for row in await story.rows(EVENT, at=two[SHELTER])}
    assert own["in-service"] is (feedback != "decision")


async def test_a_step_that_stayed_at_home_counts_for_the_receivers_next_step(two: Federation) -> None:
    story = await begin(two, consent=_consent("decision"))
    await story.decides("accepted")
    await story.reports("in-service")
    assert (await refusal(story.reports("scheduled"))).code == "state-forbids"
    await story.reports("failed", fail_reason="service-closed")
    await story.both_say("failed")
    told = await story.opened("progress", at=two[HELPLINE])
    assert told.answer == {"state": "failed"}


async def test_what_the_other_agency_does_not_hear_of_is_answered_so(two: Federation) -> None:
    """Who reports `not-arrived` counts on it that somebody is alarmed."""
    quiet = await begin(two, consent=_consent("decision"))
    await quiet.decides("accepted")
    not_arrived = ProgressRequest(state="not-arrived")
    for again in (False, True):
        act = await quiet.helps.inbox.report_progress(await quiet.offer(), not_arrived)
        assert (act.repeated, act.stays_here) == (again, "feedback-level")
    await quiet.reports("in-service")
    over = await quiet.helps.inbox.report_progress(await quiet.offer(), ProgressRequest(state="completed"))
    assert over.stays_here is None
    told = await begin(two)
    await told.decides("accepted")
    assert (await told.helps.inbox.report_progress(await told.offer(), not_arrived)).stays_here is None
    await told.travel()
    await told.asks.withdrawals.of_referral(told.id, WithdrawalForm.STOP_SHARING)
    await told.travel()
    repeated = await told.helps.inbox.report_progress(await told.offer(), not_arrived)
    assert (repeated.repeated, repeated.stays_here) == (True, None)
    kept = await told.helps.inbox.report_progress(await told.offer(), ProgressRequest(state="in-service"))
    assert kept.stays_here == "sharing-stopped"


async def test_a_missed_appointment_alarms_the_sender_and_is_not_the_end(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("scheduled", "not-arrived")
    await story.both_say("not-arrived")
    assert "not-arrived" in await story.changes()
    await story.reports("in-service")
    await story.both_say("in-service")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(
            {"state": "in-service", "outcome": "service-provided"}, "progress-invalid outcome", id="outcome-too-early"
        ),
        pytest.param(
            {"state": "completed", "fail_reason": "other"}, "progress-invalid fail_reason", id="reason-of-a-success"
        ),
        pytest.param({"state": "completed"}, "state-forbids", id="over-before-it-began"),
    ],
)
async def test_progress_that_contradicts_itself_is_refused(two: Federation, said: dict[str, Any], code: str) -> None:
    story = await begin(two)
    await story.decides("accepted")
    state = said.pop("state")
    problem = await refusal(story.reports(state, **said))
    assert [problem.code, *(field.path for field in problem.fields)] == code.split()
    await story.both_say("accepted")


@pytest.mark.parametrize(
    ("state", "said", "other"),
    [
        ("completed", {"outcome": "service-provided"}, {"outcome": "moved-on"}),
        ("completed", {}, {"outcome": "moved-on"}),
        ("failed", {"fail_reason": "not-reached"}, {"fail_reason": "service-closed"}),
    ],
)
async def test_the_same_end_again_is_no_conflict_and_another_one_is(
    two: Federation, state: str, said: dict[str, str], other: dict[str, str]
) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service", state, **said)
    await story.reports(state, **said)
    assert (await refusal(story.reports(state, **other))).code == "state-forbids"
    await story.both_say(state)


async def test_progress_before_an_acceptance_is_refused(two: Federation) -> None:
    story = await begin(two)
    problem = await refusal(story.reports("in-service"))
    assert problem.code == "state-forbids"
    assert "Possible now: `information-requested`, `accepted`, `waitlisted`" in problem.detail
    assert story.kinds_posted() == ["offer"]


async def test_what_was_said_stands_in_the_answers_header_as_a_state_and_nothing_else(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="language-unavailable")
    header = travelled(two)[-1].header
    assert (header.event, header.groups, header.receipt, header.stage) == ("declined", (), None, None)
    assert "language" not in json.dumps(str(header))


async def test_an_answer_that_is_barred_because_its_receiver_was_suspended_is_told(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    suspended = {HELPLINE.agency: Status.SUSPENDED}
    await two.new_roster(member=lambda one: one.model_copy(update={"status": suspended.get(one.agency, one.status)}))
    await two.travel()
    assert (await story.views())[1].flags.undeliverable


async def test_progress_without_the_acceptance_that_was_barred_releases_nothing(two: Federation) -> None:
    story = await begin(two)
    await _stand(two, Status.SUSPENDED)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two.travel()
    await _stand(two, Status.ACTIVE)
    # Otherwise the acceptance would go along.
    await two[SHELTER].node.database.write(
        lambda conn: conn.execute(update(REFERRAL).values(undeliverable=False)).rowcount
    )
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="scheduled"))
    await two.travel()
    (helpline, _) = await story.views()
    assert helpline.state == "scheduled"
    assert all(one.header.kind != "disclosure" for one in travelled(two))
    # Nor is anything looked at for it again and again.
    assert await two[HELPLINE].node.database.read(lambda conn: due_for(conn, "release", 2**52)) == []


async def barred(two: Federation, decision: str, **more: Any) -> Story:
    """This was decided while the referring agency was suspended, which it is no longer."""
    story = await begin(two)
    await _stand(two, Status.SUSPENDED)
    await story.decides(decision, **more)
    assert (await story.views())[1].flags.undeliverable
    await _stand(two, Status.ACTIVE)
    return story


@pytest.mark.parametrize(
    ("decision", "more"), [("accepted", {}), ("declined", {"reason": "no-capacity"})], ids=["accepted", "declined"]
)
async def test_a_decision_that_was_barred_arrives_when_it_is_said_again(
    two: Federation, decision: str, more: dict[str, Any]
) -> None:
    """Otherwise the offer would expire there, and here it would be decided, for ever."""
    story = await barred(two, decision, **more)
    two.clock.pass_by(hours=2)
    (before,) = [row for row in await story.rows(EVENT, at=two[SHELTER]) if row["name"] == decision]
    await story.decides(decision, **more)
    await story.both_say(decision)
    (after,) = [row for row in await story.rows(EVENT, at=two[SHELTER]) if row["name"] == decision]
    assert after == before | {"digest": after["digest"]}
    assert not (await story.views())[1].flags.undeliverable
    assert (await story.flags()).disclosed is (decision == "accepted")
    # Once more there is nothing to say.
    posted = len(story.kinds_posted())
    await story.decides(decision, **more)
    assert len(story.kinds_posted()) == posted


@pytest.mark.parametrize(
    ("decision", "more"),
    [("accepted", {}), ("declined", {"reason": "no-capacity"}), ("information-requested", {"fields": ["party"]})],
    ids=["accepted", "declined", "a question"],
)
@pytest.mark.parametrize("ends", ["stop-service", "stop-sharing", "recall"])
async def test_after_her_no_nothing_goes_again(two: Federation, ends: str, decision: str, more: dict[str, Any]) -> None:
    """Feedback is disclosure too: what was barred before she said no is told by no repeat."""
    story = await barred(two, decision, **more)
    if ends == "recall":
        await story.asks.referrals.recall(story.id)
        await two.travel()
    else:
        await story.says_no(ends)
    await story.decides(decision, **more)
    assert story.kinds_posted() == ["offer", "recall" if ends == "recall" else "withdrawal"]


async def test_an_agreement_to_a_recall_that_was_barred_arrives_when_it_is_said_again(two: Federation) -> None:
    """Otherwise the referring agency would wait for its answer, and here the referral would have ended, for ever."""
    story, recall = await _asked_for_it_back_while_she_is_served(two)
    for standing in (Status.SUSPENDED, Status.ACTIVE):
        await _stand(two, standing)
        await story.helps.inbox.answer_recall(recall, RecallAnswerRequest(agreed=True))
        await two.travel()
    await story.both_say("recalled")
    assert not (await story.views())[1].flags.undeliverable


async def _asked_for_it_back_while_she_is_served(two: Federation) -> tuple[Story, str]:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await story.asks.referrals.recall(story.id)
    await two.travel()
    return story, (await story.item("recall")).id


@pytest.mark.parametrize("stops", [None, HELPLINE, SHELTER], ids=["she shares", "stopped there", "stopped here"])
async def test_that_it_goes_on_after_a_recall_goes_again_too(two: Federation, stops: AgencyPlan | None) -> None:
    """The referring agency waits for it, and an answer to a recall always travels."""
    story, recall = await _asked_for_it_back_while_she_is_served(two)
    goes_on = RecallAnswerRequest(agreed=False)
    await _stand(two, Status.SUSPENDED)
    await story.helps.inbox.answer_recall(recall, goes_on)
    await two.travel()
    await _stand(two, Status.ACTIVE)
    assert (await story.views())[0].state == "recall-requested"
    if stops is not None:
        await story.says_no("stop-sharing", by=two[stops])
    for _ in range(2):
        act = await story.helps.inbox.answer_recall(recall, goes_on)
        assert act.repeated
        await two.travel()
    await story.both_say("in-service")
    assert not (await story.views())[1].flags.undeliverable
    assert (await story.outgoing(at=story.receiver))["recall-answer"] == ["deleted", "delivered"]


async def test_what_was_said_before_a_recall_is_no_answer_to_it(two: Federation) -> None:
    """It would travel whatever she has stopped since."""
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("in-service")
    await _stand(two, Status.ACTIVE)
    for agreed in (True, False):
        answer = story.helps.inbox.answer_recall(await story.offer(), RecallAnswerRequest(agreed=agreed))
        assert (await refusal(answer)).code == "no-recall"


async def test_nor_does_that_agreement_after_an_error(two: Federation) -> None:
    story, recall = await _asked_for_it_back_while_she_is_served(two)
    agreed = RecallAnswerRequest(agreed=True)
    await _stand(two, Status.SUSPENDED)
    await story.helps.inbox.answer_recall(recall, agreed)
    await two.travel()
    await _stand(two, Status.ACTIVE)
    await story.asks.referrals.enter_in_error(story.id)
    await two.travel()
    await story.helps.inbox.answer_recall(recall, agreed)
    assert (await story.outgoing(at=story.receiver))["recall-answer"] == ["deleted"]


async def test_nor_does_progress(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("scheduled")
    await _stand(two, Status.ACTIVE)
    await story.says_no("stop-service")
    await story.reports("scheduled")
    assert "progress" not in story.kinds_posted()
    await story.both_say("withdrawn")


@pytest.mark.parametrize("ends", ["stop-service", "erase", "error"])
async def test_nobody_is_told_to_telephone_about_what_may_not_be_said_any_more(two: Federation, ends: str) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("in-service")
    await _stand(two, Status.ACTIVE)
    if ends == "error":
        await story.asks.referrals.enter_in_error(story.id)
        await two.travel()
    else:
        await story.says_no(ends)
    assert not (await story.views())[1].flags.undeliverable


async def test_that_her_own_no_waits_stays_told_when_the_other_agencys_arrives(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    two.cut_off(HELPLINE)
    await story.says_no("stop-service", by=story.receiver)
    await story.later(hours=49)

    def after_it(conn: Connection) -> bool:
        record = load_referral(conn, story.id)
        assert record is not None
        assert record.undeliverable
        return ended_by_the_sender(conn, record).undeliverable

    assert await story.receiver.node.database.read(after_it)


async def test_what_was_barred_stays_at_home_once_she_has_stopped_sharing(two: Federation) -> None:
    """Nobody has heard it, and now nobody may: it is no part of what both nodes know."""
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("in-service")
    await _stand(two, Status.ACTIVE)
    await story.says_no("stop-sharing")
    told = ProgressRequest(state="in-service")
    act = await story.helps.inbox.report_progress(await story.offer(), told)
    assert (act.repeated, act.stays_here) == (True, "sharing-stopped")
    await story.travel()
    await story.both_say("accepted")


async def test_what_had_arrived_and_is_said_again_is_not_held_back_by_her_no(two: Federation) -> None:
    """She is in the service by what the other node has heard: taken back here, the two would differ."""
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await _barred_without_receipt(two, "progress")
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    await story.says_no("stop-sharing", by=story.receiver)
    await story.both_say("in-service")
    assert not (await story.views())[1].flags.undeliverable


async def test_what_was_refused_and_is_said_again_is_held_back_by_her_no(two: Federation) -> None:
    """It certainly has not been heard."""
    story = await begin(two)
    await story.decides("accepted")
    refused = update(OUTBOX).where(OUTBOX.c.kind == "progress").values(status="refused", attempted_at=1)
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    for one in (refused, update(REFERRAL).values(undeliverable=True)):
        await two[SHELTER].node.database.write(lambda conn, one=one: conn.execute(one).rowcount)
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    await story.says_no("stop-sharing", by=story.receiver)
    await story.both_say("accepted")
    assert "progress" not in story.kinds_posted()


async def test_how_it_ended_is_held_back_although_it_may_have_arrived(two: Federation) -> None:
    """That it is over is the same event without it: nothing is told after her no that needs not be."""
    for one in two.nodes.values():
        evaluate_with(one.node, b"feedback: status", b"feedback: outcome")
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service", "completed", outcome="moved-on")
    came_to_nothing = [update(OUTBOX).values(status="deleted"), update(REFERRAL).values(undeliverable=True)]
    await two[SHELTER].node.database.write(lambda conn: [conn.execute(one).rowcount for one in came_to_nothing])
    told = ProgressRequest(state="completed", outcome="moved-on")
    await story.helps.inbox.report_progress(await story.offer(), told)
    await story.says_no("stop-sharing", by=story.receiver)
    await story.both_say("completed")
    heard = [item.event for item in await story.items("progress", at=story.sender)]
    assert heard == ["in-service", "completed", "in-service", "completed"]
    assert (await story.opened("progress", at=story.sender)).answer == {"state": "completed"}


async def test_that_it_is_over_goes_again_after_she_has_stopped_sharing_here(two: Federation) -> None:
    """Her no is not this agency's word, though it is said at its node: behind it nothing could be said again."""
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("failed")
    assert (await story.views())[1].flags.undeliverable
    await _stand(two, Status.ACTIVE)
    await story.says_no("stop-sharing", by=story.receiver)
    await story.reports("failed")
    await story.both_say("failed")


async def test_said_again_by_several_at_once_it_goes_once(on_both: Federation) -> None:
    story = await barred(on_both, "accepted")
    offer, again = await story.offer(), DecisionRequest(decision="accepted")
    workers = [on_both[SHELTER].client(f"w-{number}") for number in range(4)]
    acts = await asyncio.gather(*(worker.inbox.decide(offer, again) for worker in workers))
    assert [act.repeated for act in acts] == [True] * 4
    await on_both.travel()
    await story.both_say("accepted")
    assert await story.outgoing(at=story.receiver) == {"decision": ["deleted", "delivered"]}


async def test_an_acceptance_that_was_barred_goes_along_with_what_is_said_next(two: Federation) -> None:
    """Without it nobody would ever be released, and the referring agency would not know why."""
    story = await barred(two, "accepted")
    await story.reports("scheduled")
    await story.both_say("scheduled")
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_an_acceptance_that_was_barred_goes_along_with_a_step_that_was_barred_too(two: Federation) -> None:
    """The step is said again, which is no new word; nobody can say the acceptance again behind it."""
    story = await begin(two)
    await _stand(two, Status.SUSPENDED)
    await story.decides("accepted")
    await story.reports("scheduled")
    await _stand(two, Status.ACTIVE)
    await story.reports("scheduled")
    await story.both_say("scheduled")
    assert story.kinds_posted() == ["offer", "decision", "progress", "disclosure"]
    assert not (await story.views())[1].flags.undeliverable


async def test_what_was_heard_is_not_sealed_again_because_a_word_before_it_was_barred(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.travel()
    await _stand(two, Status.SUSPENDED)
    await story.reports("scheduled")
    await _stand(two, Status.ACTIVE)
    await story.reports("in-service")
    assert (await story.views())[1].flags.undeliverable
    posted = len(story.kinds_posted())
    await story.reports("in-service")
    assert len(story.kinds_posted()) == posted
    await story.both_say("in-service")


async def _barred_in_service_and_asked_for_back(two: Federation, *, feedback: str = "status") -> tuple[Story, str]:
    story = await begin(two, consent=_consent(feedback))
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("in-service", *(["completed"] if feedback == "decision" else []))
    await _stand(two, Status.ACTIVE)
    await story.asks.referrals.recall(story.id)
    await two.travel()
    assert [view.state for view in await story.views()] == ["recalled", "recall-requested"]
    return story, (await story.item("recall")).id


@pytest.mark.parametrize(("feedback", "state"), [("status", "in-service"), ("decision", "completed")])
@pytest.mark.parametrize("barred_again", [False, True], ids=["at once", "said again"])
async def test_that_a_service_had_begun_goes_along_with_the_answer_to_a_recall(
    two: Federation, feedback: str, state: str, barred_again: bool
) -> None:
    """Without it the recall counts at the referring agency, for ever, and she is served: the answer has seen it."""
    story, recall = await _barred_in_service_and_asked_for_back(two, feedback=feedback)
    for standing in [Status.SUSPENDED, Status.ACTIVE] if barred_again else [Status.ACTIVE]:
        await _stand(two, standing)
        await story.helps.inbox.answer_recall(recall, RecallAnswerRequest(agreed=False))
        await two.travel()
    await story.both_say(state)
    assert story.kinds_posted()[-2:] == ["progress", "recall-answer"]
    assert not (await story.views())[1].flags.undeliverable


async def test_nothing_goes_along_with_an_agreement_to_a_recall(two: Federation) -> None:
    """It has ended for both: that she had been served tells the other agency more than it needs."""
    story, recall = await _barred_in_service_and_asked_for_back(two)
    for standing in (Status.SUSPENDED, Status.ACTIVE):
        await _stand(two, standing)
        await story.helps.inbox.answer_recall(recall, RecallAnswerRequest(agreed=True))
        await two.travel()
    await story.both_say("recalled")
    assert "progress" not in story.kinds_posted()


async def test_an_answer_to_a_recall_that_was_barred_is_no_progress_that_goes_along(two: Federation) -> None:
    """What is said next answers the recall as well."""
    story, recall = await _asked_for_it_back_while_she_is_served(two)
    await _stand(two, Status.SUSPENDED)
    await story.helps.inbox.answer_recall(recall, RecallAnswerRequest(agreed=False))
    await two.travel()
    await _stand(two, Status.ACTIVE)
    await story.reports("completed")
    await story.both_say("completed")
    assert story.kinds_posted()[-2:] == ["recall", "progress"]


@pytest.mark.parametrize(("decision", "more"), [("accepted", {}), ("declined", {"reason": "no-capacity"})])
@pytest.mark.parametrize("barred_again", [False, True], ids=["at once", "said again"])
async def test_the_waiting_list_goes_along_with_what_is_decided_late(
    two: Federation, decision: str, more: dict[str, Any], barred_again: bool
) -> None:
    """Without it no decision in time is known to the referring agency, and a late one never counts there."""
    story = await barred(two, "waitlisted")
    due = (await story.views())[0].respond_by
    await story.later(hours=(due - now_of(two)).total_seconds() / 3600 + 1)
    for standing in [Status.SUSPENDED, Status.ACTIVE] if barred_again else [Status.ACTIVE]:
        await _stand(two, standing)
        await story.decides(decision, **more)
    await story.both_say(decision)
    assert [item.event for item in await story.items("decision", at=story.sender)] == ["waitlisted", decision]


async def test_what_may_not_be_told_any_more_does_not_go_along(two: Federation) -> None:
    """She stopped sharing: of the service only that it is over is told, which says itself that it had begun."""
    story = await begin(two)
    await story.decides("accepted")
    await _stand(two, Status.SUSPENDED)
    await story.reports("in-service")
    await _stand(two, Status.ACTIVE)
    await story.says_no("stop-sharing")
    await story.reports("completed")
    await story.both_say("completed")
    assert [item.event for item in await story.items("progress", at=story.sender)] == ["completed"]


async def test_so_it_does_where_both_were_barred_and_the_last_is_said_again(two: Federation) -> None:
    """It was barred after both were said: the acceptance itself cannot be said again any more."""
    story = await begin(two)
    offer = await story.offer()
    await _stand(two, Status.SUSPENDED)
    await story.helps.inbox.decide(offer, DecisionRequest(decision="accepted"))
    await story.helps.inbox.report_progress(offer, ProgressRequest(state="scheduled"))
    await two.travel()
    await _stand(two, Status.ACTIVE)
    await story.reports("scheduled")
    await story.both_say("scheduled")
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_one_that_had_arrived_says_nothing_new_when_it_is_said_again(two: Federation) -> None:
    """Its receipt was lost, and then it was barred."""
    story = await begin(two)
    await story.decides("accepted")
    await _barred_without_receipt(two, "decision")
    await story.decides("accepted")
    await story.both_say("accepted")
    assert [status for kind in (await story.outgoing(at=two[SHELTER])).values() for status in kind][-1] == "delivered"
    await story.reports("in-service", "completed")
    await story.both_say("completed")


@pytest.mark.parametrize(
    ("decision", "more"),
    [("declined", {"reason": "no-capacity"}), ("redirected", {"suggested_service": "legal-aid"})],
)
async def test_nor_does_a_no_that_had_arrived(two: Federation, decision: str, more: dict[str, Any]) -> None:
    """It has ended the referral there, and is no news: who said it is not told that it was refused."""
    story = await begin(two)
    await story.decides(decision, **more)
    await _barred_without_receipt(two, "decision")
    assert (await story.views())[1].flags.undeliverable
    before = await story.record()
    await story.decides(decision, **more)
    await story.both_say(decision)
    assert (await story.outgoing(at=two[SHELTER]))["decision"] == ["deleted", "delivered"]
    assert not (await story.views())[1].flags.undeliverable
    after = await story.record()
    assert {name: after[name] for name in ("state", "closed_at", "destroy_at")} == {
        name: before[name] for name in ("state", "closed_at", "destroy_at")
    }
    assert len([row for row in await story.rows(EVENT) if row["name"] == decision]) == 1


async def test_an_answer_to_an_offer_that_was_taken_back_after_it_had_arrived_counts(two: Federation) -> None:
    """The receipt was lost, then the offer was barred here: its row is gone, and what answers it is no stranger."""
    story = await begin(two)
    helpline = two[HELPLINE].node
    await helpline.database.write(lambda conn: _as_if_no_receipt_had_come(conn, "offer"))
    await _stand(two, Status.SUSPENDED)
    await two.travel()
    assert (await story.views())[0].flags.undeliverable
    await _stand(two, Status.ACTIVE)
    await story.decides("accepted")
    await story.both_say("accepted")
    assert not (await story.views())[0].flags.undeliverable


async def test_what_was_asked_for_arrives_although_the_question_was_barred_after_it_had_arrived(
    two: Federation,
) -> None:
    """The receipt of the question was lost, then the question was barred: what replies to it is no stranger."""
    story = await begin(two, consent=_consent("decision"))
    await story.decides("information-requested", fields=["party"])
    shelter = two[SHELTER].node
    await shelter.database.write(lambda conn: _as_if_no_receipt_had_come(conn, "information-request"))
    await _stand(two, Status.SUSPENDED)
    await two.travel()
    assert await story.outgoing(at=two[SHELTER]) == {"information-request": ["deleted"]}
    (question,) = await story.outbox_rows(at=two[SHELTER])
    assert [question[name] for name in ("sealed_header", "wrapped_key", "ciphertext", "signature")] == [None] * 4
    await _stand(two, Status.ACTIVE)
    answer = await story.asks.referrals.send_information(story.id, content(party=_PARTY))
    assert {one.field.value: one.outcome for one in answer.fields}["party"] == "allowed"
    await two.travel()
    assert await story.outgoing() == {"offer": ["delivered"], "disclosure": ["held"], "information": ["delivered"]}
    assert (await story.item("information")).status == "new"


async def _barred_without_receipt(two: Federation, kind: str) -> None:
    """It has arrived, its receipt was lost, and it was barred before it could go again."""
    await two[SHELTER].node.database.write(lambda conn: _as_if_no_receipt_had_come(conn, kind))
    await _stand(two, Status.SUSPENDED)
    await two.travel()
    await _stand(two, Status.ACTIVE)


async def _stand(two: Federation, status: Status) -> None:
    members = {HELPLINE.agency: status}
    await two.new_roster(member=lambda one: one.model_copy(update={"status": members.get(one.agency, one.status)}))


def _as_if_no_receipt_had_come(conn: Connection, kind: str) -> None:
    conn.execute(update(OUTBOX).where(OUTBOX.c.kind == kind).values(status="queued", settled_at=None, receipt=None))
    conn.execute(update(REFERRAL).values(delivered_at=None))
    conn.execute(update(PEER).values(due_at=0))


async def test_feedback_that_she_narrowed_binds_new_referrals_and_not_those_that_exist(two: Federation) -> None:
    """A limit that the documents name: the level of a referral is sealed into its offer."""
    story = await begin(two, consent=_consent("status"))
    await story.decides("accepted")
    (provision,) = _consent("decision")["provisions"]
    await story.asks.consents.narrow(story.consent, (Provision.model_validate_json(json.dumps(provision)),))
    later = await begin(two, consent=story.consent)
    await later.decides("accepted")
    await story.reports("in-service")
    await later.reports("in-service")
    assert [view.state.value for view in await story.views()] == ["in-service", "in-service"]
    assert (await later.views())[0].state == "accepted"
    # What holds for the one that exists is her "stop sharing".
    await story.says_no("stop-sharing")
    await story.reports("completed", outcome="service-provided")
    told = await story.opened("progress", at=two[HELPLINE])
    assert told.answer == {"state": "completed"}
