"""An agency that does not take her never learns who she is."""

from __future__ import annotations

from typing import Any

import pytest
from support.federation import Federation
from support.people import CANARIES, CANARY_NAME
from support.stories import begin, content, her_content, refusal, rows, said_inside

from exchange.demo.federation import HELPLINE
from exchange.storage.tables import AUDIT, OUTBOX, REFERRAL
from exchange.use_cases.facts import open_facts


async def test_a_declined_referral_deletes_the_held_disclosure_and_her_name_never_travelled(
    pair: Federation,
) -> None:
    story = await begin(pair)
    assert (await story.outgoing())["disclosure"] == ["held"]
    await story.decides("declined", reason="no-capacity")
    await story.both_say("declined")
    assert "disclosure" not in await story.outgoing()
    assert not (await story.flags()).disclosed
    assert not (await story.flags()).awaiting_disclosure
    assert story.kinds_posted() == ["offer", "decision"]
    inside = await said_inside(pair)
    assert b"women-only" in inside
    assert not any(word.encode() in inside for word in CANARIES)


async def test_nothing_is_released_after_a_decline(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"
    fresh = content(preferred_name=CANARY_NAME)
    assert (await refusal(story.asks.referrals.replace_disclosure(story.id, fresh))).code == "state-forbids"


@pytest.mark.parametrize(
    ("reason", "travels"),
    [
        pytest.param("duplicate", "other", id="would-tell-that-she-is-known"),
        pytest.param("conflict-of-interest", "other", id="would-tell-that-somebody-is-known"),
        pytest.param("no-capacity", "no-capacity", id="tells-nothing-about-a-person"),
    ],
)
async def test_a_reason_that_would_tell_whether_she_is_known_stays_at_home(
    two: Federation, reason: str, travels: str
) -> None:
    story = await begin(two)
    await story.decides("declined", reason=reason)
    told = await story.opened("decision", at=two[HELPLINE])
    assert told.answer == {"decision": "declined", "reason": travels}
    assert f'"{reason}"'.encode() not in (await said_inside(two)) or reason == travels
    # Its own record holds the reason as it was given, sealed; outside a seal it stands nowhere.
    (record,) = await rows(story.receiver, REFERRAL, REFERRAL.c.id == story.id)
    assert open_facts(story.receiver.node, story.id, record["sealed_facts"]).own_word == reason
    kept = await rows(story.receiver, AUDIT, AUDIT.c.subject_id == story.id)
    assert [row["detail"] for row in kept if row["action"] == "said-declined"] == [None]


async def test_the_same_decision_again_is_no_conflict_and_another_one_is(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    await story.decides("declined", reason="no-capacity")
    assert story.kinds_posted() == ["offer", "decision"]
    assert (await refusal(story.decides("accepted"))).code == "state-forbids"
    # For another reason it is another decision, and not said to be on record.
    assert (await refusal(story.decides("declined", reason="out-of-area"))).code == "state-forbids"
    await story.both_say("declined")


async def test_another_service_is_another_decision(two: Federation) -> None:
    story = await begin(two)
    for _ in range(2):
        await story.decides("redirected", suggested_service="legal-aid")
    assert story.kinds_posted() == ["offer", "decision"]
    other = story.decides("redirected", suggested_service="health-care")
    assert (await refusal(other)).code == "state-forbids"
    await story.both_say("redirected")


async def test_a_question_for_other_fields_is_asked_and_the_same_one_is_not_asked_twice(two: Federation) -> None:
    story = await begin(two)
    for fields in (["party"], ["party"], ["preferred_name", "party"], ["party", "preferred_name"]):
        await story.decides("information-requested", fields=fields)
    asked = [
        await story.asks.inbox.open(item.id) for item in await story.items("information-request", at=two[HELPLINE])
    ]
    assert [one.answer for one in asked] == [{"fields": ["party"]}, {"fields": ["party", "preferred_name"]}]
    await story.both_say("information-requested")


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        pytest.param({"decision": "declined"}, {("reason", "needed-here")}, id="no-without-a-reason"),
        pytest.param({"decision": "redirected"}, {("suggested_service", "needed-here")}, id="elsewhere-without-where"),
        pytest.param(
            {"decision": "information-requested"}, {("fields", "needed-here")}, id="question-without-a-question"
        ),
        pytest.param({"decision": "accepted", "reason": "no-capacity"}, {("reason", "misplaced")}, id="yes-and-no"),
        pytest.param(
            {"decision": "declined", "suggested_service": "legal-aid"},
            {("reason", "needed-here"), ("suggested_service", "misplaced")},
            id="two-things-wrong",
        ),
        pytest.param(
            {"decision": "information-requested", "fields": ["narrative"]},
            {("fields", "cannot-be-asked")},
            id="never-asked-for",
        ),
    ],
)
async def test_a_decision_that_is_incomplete_says_what_is_wrong(
    two: Federation, said: dict[str, Any], wrong: set[tuple[str, str]]
) -> None:
    story = await begin(two)
    problem = await refusal(story.decides(said.pop("decision"), **said))
    assert (problem.status, problem.code) == (422, "decision-invalid")
    assert {(field.path, field.code) for field in problem.fields} == wrong
    await story.both_say("received")


async def test_a_no_after_a_yes_is_told_what_is_possible(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    problem = await refusal(story.decides("declined", reason="no-capacity"))
    assert problem.code == "state-forbids"
    assert problem.detail == (
        "`declined` is not possible while the referral is `accepted`. "
        "Possible now: `scheduled`, `not-reached`, `not-arrived`, `in-service`, `failed`."
    )


async def test_a_redirection_sends_nothing_on_and_ends_the_hold(two: Federation) -> None:
    story = await begin(two)
    await story.decides("redirected", suggested_service="mental-health-crisis")
    await story.both_say("redirected")
    told = await story.opened("decision", at=two[HELPLINE])
    assert told.answer == {"decision": "redirected", "suggested_service": "mental-health-crisis"}
    assert "disclosure" not in await story.outgoing()
    assert story.kinds_posted() == ["offer", "decision"]


async def test_the_waiting_list_ends_the_hold_and_a_later_acceptance_asks_her_again(two: Federation) -> None:
    story = await begin(two)
    await story.decides("waitlisted")
    await story.both_say("waitlisted")
    assert (await story.flags()).awaiting_disclosure
    assert "disclosure" not in await story.outgoing()
    await story.later(hours=60)
    await story.both_say("waitlisted")
    await story.decides("accepted")
    await story.both_say("accepted")
    assert not (await story.flags()).disclosed
    assert "disclosure" not in story.kinds_posted()
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    answer = await story.asks.referrals.replace_disclosure(story.id, fresh)
    assert answer.referral.flags.disclosed
    await story.travel()
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == "Canary-Baru"
    assert not (await story.flags()).awaiting_disclosure


async def test_nothing_is_held_for_the_waiting_list(two: Federation) -> None:
    story = await begin(two)
    await story.decides("waitlisted")
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    assert (await refusal(story.asks.referrals.replace_disclosure(story.id, fresh))).code == "not-accepted"
    assert "disclosure" not in await story.outgoing()
    assert (await story.flags()).awaiting_disclosure


async def test_information_before_acceptance_holds_fields_of_the_offer_only(two: Federation) -> None:
    story = await begin(two)
    await story.decides("information-requested", fields=["party", "preferred_name"])
    await story.both_say("information-requested")
    asked = await story.opened("information-request", at=two[HELPLINE])
    assert asked.answer == {"fields": ["party", "preferred_name"]}
    party = {"adults": 1, "dependants": [{"age_band": "6-11", "sex": "male"}], "infant_or_pregnant": False}
    answer = await story.asks.referrals.send_information(story.id, content(party=party, preferred_name=CANARY_NAME))
    decided = {one.field.value: one.outcome for one in answer.fields}
    assert decided["party"] == "allowed"
    await story.travel()
    opened = await story.opened("information")
    assert opened.content is not None
    assert opened.content.party is not None
    assert opened.content.preferred_name is None
    assert CANARY_NAME.encode() not in await said_inside(two)
    await story.decides("accepted")
    await story.both_say("accepted")
    assert (await story.flags()).disclosed


async def test_information_that_nobody_asked_for_is_not_sent(two: Federation) -> None:
    story = await begin(two)
    problem = await refusal(story.asks.referrals.send_information(story.id, content(needs=["tonight"])))
    assert problem.code == "nothing-asked"
    assert story.kinds_posted() == ["offer"]


async def test_information_with_a_name_only_is_refused_before_acceptance(two: Federation) -> None:
    story = await begin(two)
    await story.decides("information-requested", fields=["preferred_name"])
    problem = await refusal(story.asks.referrals.send_information(story.id, content(preferred_name=CANARY_NAME)))
    assert problem.code == "nothing-allowed"
    assert "information" not in await story.outgoing()


async def test_what_only_the_node_writes_is_not_told_later(two: Federation) -> None:
    """A drill, another code of hers, a text that no consent covers: as in a new referral."""
    story = await begin(two)
    await story.decides("information-requested", fields=["language"])
    own = {"client_code": "AAAA-BBBB", "duty_contact": "Canary Contoh, room 4", "exercise": True, "priority": "routine"}
    told = content(language="id", safe_contact={"who_initiates": "survivor"}, **own)
    referrals = story.asks.referrals
    for sent in (referrals.send_information(story.id, told), referrals.replace_disclosure(story.id, told)):
        problem = await refusal(sent)
        assert (problem.status, problem.code) == (422, "content-invalid")
        assert [(one.path, one.code) for one in problem.fields] == [(f"content.{name}", "set-by-node") for name in own]
    assert await story.outgoing() == {"offer": ["delivered"], "disclosure": ["held"]}


async def test_a_question_does_not_stop_the_clock(two: Federation) -> None:
    story = await begin(two)
    await story.decides("information-requested", fields=["party"])
    await story.later(hours=24.1)
    assert (await story.flags()).overdue
    await story.later(hours=24)
    await story.both_say("expired")


async def test_an_unused_question_leaves_the_offer_as_it_was(two: Federation) -> None:
    story = await begin(two, content=her_content(two, area="MY-14"))
    opened = await story.opened("offer")
    assert opened.content is not None
    assert opened.content.area == "MY-14"
    assert opened.content.meeting_point is None
    assert [row["status"] for row in await story.rows(OUTBOX)] == ["delivered", "held"]
