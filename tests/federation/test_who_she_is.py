"""Different women and children, and what each of them allowed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from support.federation import Federation
from support.people import CANARY_NAME, consent_request, referral_request
from support.stories import (
    begin,
    her_content,
    now_of,
    refusal,
    rows,
    safe_contact,
    said_inside,
    to_the_embassy,
    travelled,
)
from support.stories import content as story_content

from contracts.vocabulary import Purpose
from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.roster import RosterInvalidError, parse_roster, roster_bytes
from exchange.schemas.problems import Who
from exchange.storage.tables import REFERRAL

OF_A_CHILD: dict[str, Any] = {
    "groups": ["need", "safety", "name", "contact", "caregiver"],
    "agencies": [SHELTER.agency],
    "purposes": ["provide-safe-accommodation"],
}


async def test_a_woman_without_a_name_or_a_phone_gives_two_words_at_the_door(two: Federation) -> None:
    words = {"arrival_words": "quiet harbour", "safe_contact": {"who_initiates": "survivor"}}
    story = await begin(two, content={"needs": ["tonight"], "age_band": "25-49", "language": "id", **words})
    await story.decides("accepted")
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.arrival_words == "quiet harbour"
    assert opened.content.preferred_name is None
    assert {field.value for field in opened.content.fields_present()} == {"arrival_words", "safe_contact"}
    advice = await story.helps.inbox.contact_advice(await story.offer())
    assert (advice.may_contact, advice.code) == (False, "she-initiates")


async def test_a_referral_in_which_nothing_identifies_her_has_nothing_to_release(two: Federation) -> None:
    story = await begin(two, content={"needs": ["tonight"], "age_band": "25-49", "language": "id"})
    assert not story.created.disclosure_held
    await story.decides("accepted")
    flags = await story.flags()
    assert (flags.awaiting_disclosure, flags.disclosed) == (False, False)
    await story.reports("in-service", "completed")
    await story.both_say("completed")


async def test_one_receiver_knows_her_under_one_code_and_another_under_another(four: Federation) -> None:
    helpline = four[HELPLINE].client()
    first = await begin(four)
    subject = (await helpline.consents.read(first.consent)).subject
    second = await begin(four, consent=first.consent)
    consent, request = to_the_embassy()
    third = await begin(four, receiver=EMBASSY, consent=consent | {"subject": subject}, **request)
    assert first.created.client_code == second.created.client_code
    assert first.created.client_code != third.created.client_code
    assert subject.encode() not in await said_inside(four)


async def test_only_erasure_makes_her_another_woman_to_a_receiver(two: Federation) -> None:
    """A referral that ends by its clock takes nothing from the next; after `erase` nobody can join the two."""
    end = (now_of(two) + timedelta(days=90)).isoformat()
    first = await begin(two, consent={"expires_at": end})
    await first.decides("declined", reason="no-capacity")
    await first.later(hours=25)
    await first.nothing_is_left(at=two[HELPLINE])
    second = await begin(two, consent=first.consent)
    assert second.created.client_code == first.created.client_code
    await second.says_no("erase")
    await second.nothing_is_left(at=two[HELPLINE])
    third = await begin(two, consent=first.consent)
    assert third.created.client_code != first.created.client_code


async def test_a_drill_is_marked_on_both_sides(two: Federation) -> None:
    drill, real = await begin(two, exercise=True), await begin(two)
    for story, marked in ((drill, True), (real, False)):
        opened = await story.opened("offer")
        assert opened.content is not None
        assert bool(opened.content.exercise) is marked


@pytest.mark.parametrize("marked", [True, None], ids=["drill", "real"])
async def test_whatever_follows_the_offer_of_a_drill_is_called_one(two: Federation, marked: bool | None) -> None:
    """Whoever reads the disclosure alone would send a car for nobody; or, of a real one, none."""
    story = await begin(two, exercise=bool(marked))
    assert story.created.exercise is marked
    await story.decides("information-requested", fields=["party"])
    await story.asks.referrals.send_information(story.id, story_content(party={"adults": 1}))
    await story.decides("accepted")
    disclosed = await story.opened("disclosure")
    assert disclosed.content is not None
    assert disclosed.content.exercise is None
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    await story.reports("in-service")
    await story.says_no("stop-service")
    for client, kinds in (
        (story.helps, {"offer", "information", "disclosure", "update", "withdrawal"}),
        (story.asks, {"information-request", "decision", "progress"}),
    ):
        items = [item async for item in client.inbox.pages(referral=story.id)]
        assert {item.kind for item in items} == kinds
        assert {item.exercise for item in items} == {marked}
        assert (await client.referrals.read(story.id)).exercise is marked


async def test_an_opened_item_and_an_advice_of_a_drill_say_so(two: Federation) -> None:
    for marked in (True, None):
        story = await begin(two, exercise=bool(marked))
        await story.decides("accepted")
        assert (await story.opened("disclosure")).item.exercise is marked
        assert (await story.helps.inbox.contact_advice(await story.offer())).exercise is marked


async def test_a_node_that_is_left_in_a_drill_says_of_each_referral_that_it_is_one(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request says nothing of it, and nobody would come for her."""
    monkeypatch.setattr(two[HELPLINE].node, "exercise", True)
    story = await begin(two)
    request = referral_request(SHELTER.agency, story.consent, now=now_of(two))
    assert story.created.exercise
    assert (await story.asks.referrals.preview(request)).exercise
    assert (await story.opened("offer")).item.exercise


async def test_a_child_comes_with_the_caregivers_yes_and_her_own(two: Federation) -> None:
    consent = {
        "basis": "caregiver-and-assent",
        "age_band": "12-14",
        "child_assents": True,
        "statement_id": "caregiver-and-child",
        "provisions": [OF_A_CHILD],
    }
    caregiver = {"name": "Canary Aunt", "relationship": "other-relative", "informed": True}
    content = her_content(two, age_band="12-14", is_minor=True, caregiver=caregiver, meeting_point=None)
    story = await begin(two, consent=consent, content=content)
    assert travelled(two)[0].header.receipt is not None
    assert travelled(two)[0].header.receipt.basis == "guardian"
    assert b"Canary Aunt" not in await said_inside(two)
    await story.decides("accepted")
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.caregiver is not None
    assert opened.content.caregiver.name == "Canary Aunt"


async def test_a_child_whose_caregiver_is_the_danger_comes_by_a_determination(two: Federation) -> None:
    at = now_of(two)
    consent = {
        "basis": "caseworker-best-interest",
        "age_band": "6-11",
        "child_assents": True,
        "statement_id": "best-interest",
        "provisions": [OF_A_CHILD],
        "determination": {
            "reason": "caregiver-unsafe",
            "decided_by": "senior-caseworker",
            "decided_at": (at - timedelta(minutes=20)).isoformat(),
        },
    }
    caregiver = {"relationship": "father", "informed": False, "excluded_because": "is-perpetrator"}
    content = her_content(two, age_band="6-11", is_minor=True, caregiver=caregiver, meeting_point=None)
    story = await begin(two, consent=consent, content=content)
    await story.decides("accepted")
    assert (await story.flags()).disclosed


async def test_an_adult_with_a_supporter_decides_herself(two: Federation) -> None:
    consent = {"basis": "supported-decision", "supporter": "peer-supporter", "statement_id": "adult-supported-decision"}
    story = await begin(two, consent=consent)
    header = travelled(two)[0].header
    assert header.receipt is not None
    assert header.receipt.basis == "consent"
    await story.decides("accepted")
    assert (await story.flags()).disclosed


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"basis": "caregiver", "statement_id": "caregiver-consent"}, "nobody-consents-for-an-adult",
                     id="a-husband-for-an-adult"),
        pytest.param({"basis": "caregiver-and-assent", "age_band": "12-14", "statement_id": "caregiver-and-child"},
                     "child-has-not-agreed", id="a-child-that-was-not-asked"),
        pytest.param({"basis": "supported-decision", "statement_id": "adult-supported-decision"}, "supporter-missing",
                     id="a-supporter-who-is-nobody"),
        pytest.param({"basis": "imminent-threat-to-self"}, "exceptions-not-available", id="an-exception"),
    ],
)  # fmt: skip
async def test_what_is_no_consent_is_not_recorded(two: Federation, changes: dict[str, Any], code: str) -> None:
    helpline = two[HELPLINE].client()
    problem = await refusal(helpline.consents.record(consent_request(SHELTER.agency, **changes)))
    assert (problem.code, problem.who) == ("consent-invalid", Who.SENDER)
    assert code in {field.code for field in problem.fields}


async def test_a_step_that_a_consent_does_not_take_names_the_member(two: Federation) -> None:
    consents = two[HELPLINE].client().consents
    given = await consents.record(consent_request(SHELTER.agency))
    far = await refusal(consents.renew(given.id, two[HELPLINE].node.now() + timedelta(days=800)))
    assert (far.code, [field.path for field in far.fields]) == ("renewal-date", ["until"])
    [line, *_] = given.record.provisions
    more = line.model_copy(update={"purposes": line.purposes | {Purpose.STATISTICS}})
    wider = await refusal(consents.narrow(given.id, (more,)))
    assert (wider.code, [field.path for field in wider.fields]) == ("adds-something", ["provisions"])


async def test_where_no_statement_is_reviewed_the_node_has_to_act(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = two[HELPLINE].node
    monkeypatch.setattr(node, "statements", node.statements.without_drafts())
    problem = await refusal(two[HELPLINE].client().consents.record(consent_request(SHELTER.agency)))
    assert (problem.code, problem.who) == ("consent-invalid", Who.NODE)
    assert [field.code for field in problem.fields] == ["statement-unknown"]


async def test_the_age_that_was_asked_is_the_age_that_is_sent(two: Federation) -> None:
    problem = await refusal(begin(two, content=her_content(two, age_band="15-17")))
    assert problem.code == "age-mismatch"
    assert await rows(two[HELPLINE], REFERRAL) == []


async def test_her_own_embassy_is_not_asked_where_she_does_not_want_it(four: Federation) -> None:
    consent, request = to_the_embassy()
    request["content"] |= {"avoid_own_authorities": {"country": "ID"}}
    problem = await refusal(begin(four, receiver=EMBASSY, consent=consent, **request))
    assert (problem.status, problem.code) == (403, "own-authorities")
    assert four.network.posted == []


async def test_her_wish_to_avoid_them_is_never_sent_to_anybody_else(two: Federation) -> None:
    story = await begin(two, content=her_content(two, avoid_own_authorities={"country": "ID"}))
    await story.decides("accepted")
    assert b"avoid_own_authorities" not in await said_inside(two)
    assert CANARY_NAME.encode() in await said_inside(two)


async def test_a_synthetic_roster_never_holds_a_real_member(two: Federation) -> None:
    roster = two[HELPLINE].node.world().roster
    real = {"synthetic": False}
    members = [
        member.model_copy(update=real if member.agency == SHELTER.agency else {}) for member in roster.members.values()
    ]
    with pytest.raises(RosterInvalidError):
        parse_roster(roster_bytes(version=2, synthetic=True, members=tuple(members)))


async def test_a_synthetic_node_refuses_a_production_peer_on_the_wire_and_in_the_gate(two: Federation) -> None:
    """Should a roster ever mix them: neither sends to the other, and neither takes anything but her no."""
    story = await begin(two, travel=False)
    wire = await story.wire_of("offer")
    for node, other in ((two[SHELTER], HELPLINE), (two[HELPLINE], SHELTER)):
        world = node.node.world()
        members = dict(world.roster.members)
        members[other.agency] = members[other.agency].model_copy(update={"synthetic": False})
        mixed = replace(world, roster=replace(world.roster, members=MappingProxyType(members)))
        node.node.world = lambda mixed=mixed: mixed
    answer = (await story.post(wire)).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "synthetic-mixed"
    request = referral_request(SHELTER.agency, story.consent)
    assert (await refusal(story.asks.referrals.send(request))).code == "synthetic-mixed"
    await story.says_no("stop-service", travel=False)
    stop = await story.wire_of("withdrawal")
    assert (await story.post(stop)).answers[0].result == "accepted"
