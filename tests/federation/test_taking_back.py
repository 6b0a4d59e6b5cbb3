"""She allows less than before: what waits to leave and may hold more does not leave, and a worker is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import pytest
from support.federation import Federation
from support.people import consent_request
from support.rosters import without
from support.stories import ANOTHER_NAME, Story, begin, content, now_of, refusal, safe_contact

from contracts.vocabulary import Field, Group, fields_of
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.roster import Status
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RecallAnswerRequest
from exchange.use_cases import release_disclosure, transitions
from exchange.use_cases.node import World
from exchange.use_cases.release_disclosure import release_due

_PARTY = {"party": {"adults": 1, "dependants": [], "infant_or_pregnant": False}}
_ALL = {Group.NEED, Group.SAFETY, Group.HEALTH, Group.NAME, Group.CONTACT, Group.PLACE}


async def allows(story: Story, groups: set[Group]) -> None:
    record = (await story.asks.consents.read(story.consent)).record
    less = [line.model_copy(update={"groups": frozenset(groups)}) for line in record.provisions]
    await story.asks.consents.narrow(story.consent, tuple(less))


async def _offers(_two: Federation, _story: Story) -> None:
    """It waits since the beginning."""


async def _releases(two: Federation, story: Story) -> None:
    await story.travel()
    await _accepted(two, story)
    await release_due(two[HELPLINE].node)


async def _accepted(two: Federation, story: Story) -> None:
    """The helpline has heard it, and has not sent anything yet."""
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()


async def _informs(two: Federation, story: Story) -> None:
    await story.travel()
    await story.decides("information-requested", fields=["party"])
    two.cut_off(SHELTER)
    await story.asks.referrals.send_information(story.id, content(**_PARTY))


async def _changes_the_plan(two: Federation, story: Story) -> None:
    await story.travel()
    await story.decides("accepted")
    two.cut_off(SHELTER)
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))


WAITS: dict[str, tuple[Callable[[Federation, Story], Awaitable[None]], str, set[Group], set[Group]]] = {
    "an offer": (_offers, "offer", {Group.NEED}, {Group.NAME, Group.CONTACT, Group.PLACE}),
    "her name": (_releases, "disclosure", {Group.NAME}, {Group.HEALTH}),
    "information": (_informs, "information", {Group.NEED}, {Group.NAME}),
    "a changed plan": (_changes_the_plan, "update", {Group.CONTACT}, {Group.HEALTH}),
}
"""What waits, its kind, what she takes back of it, and what cannot be inside."""


@pytest.mark.parametrize("what", WAITS)
async def test_what_waits_and_may_hold_what_she_took_back_is_destroyed_and_told(pair: Federation, what: str) -> None:
    two = pair
    waits, kind, taken_back, _ = WAITS[what]
    story = await begin(two, travel=False)
    await waits(two, story)
    assert (await story.outgoing())[kind][-1] == "queued"
    await allows(story, _ALL - taken_back)
    assert "queued" not in (await story.outgoing()).get(kind, [])
    assert (await story.changes())[-1] == f"{kind}-barred"
    flags = await story.flags()
    assert (flags.undeliverable, flags.awaiting_disclosure) == (kind != "disclosure", kind == "disclosure")
    assert flags.disclosed == (kind == "update")
    two.connect(SHELTER)
    await story.travel()
    assert kind not in story.kinds_posted()


@pytest.mark.parametrize("what", WAITS)
async def test_what_holds_nothing_of_it_arrives(two: Federation, what: str) -> None:
    waits, kind, _, elsewhere = WAITS[what]
    story = await begin(two, travel=False)
    await waits(two, story)
    await allows(story, _ALL - elsewhere)
    two.connect(SHELTER)
    await story.travel()
    assert (await story.opened(kind)).content is not None


async def test_what_holds_nothing_of_it_arrives_also_beside_what_does(on_both: Federation) -> None:
    """Two answers to two questions wait, and she takes back what one of them says."""
    story = await begin(on_both)
    await story.decides("information-requested", fields=["party", "immediate_medical"])
    on_both.cut_off(SHELTER)
    for told in (_PARTY, {"immediate_medical": True}):
        await story.asks.referrals.send_information(story.id, content(**told))
    await allows(story, _ALL - {Group.HEALTH})
    assert sorted((await story.outgoing())["information"]) == ["deleted", "queued"]
    assert (await story.flags()).undeliverable
    on_both.connect(SHELTER)
    await story.travel()
    opened = await story.opened("information")
    assert opened.content is not None
    assert opened.content.party is not None


async def test_of_an_offer_of_which_nothing_may_go_nothing_goes(two: Federation) -> None:
    story = await begin(two, travel=False)
    await allows(story, {Group.HEALTH})
    await story.travel()
    assert story.kinds_posted() == []


async def test_what_may_have_arrived_is_not_sent_again_and_stays_on_record(two: Federation) -> None:
    story = await begin(two)
    await _accepted(two, story)
    two.network.answers_lost = True
    await two.travel(rounds=1)
    two.network.answers_lost = False
    assert (await story.outgoing())["disclosure"] == ["queued"]
    posted = len(story.kinds_posted())
    await allows(story, _ALL - {Group.NAME})
    await story.later(hours=1)
    assert "disclosure" not in story.kinds_posted()[posted:]
    assert (await story.flags()).disclosed


@pytest.mark.parametrize("back", [True, False], ids=["taken back", "renewed"])
async def test_what_waits_for_a_suspended_member_is_judged_as_well(two: Federation, back: bool) -> None:
    """Nothing may go to it now; once it is active again what she took back meanwhile must not leave."""
    story = await begin(two, travel=False)
    standing = {SHELTER.agency: Status.SUSPENDED}
    await two.new_roster(member=lambda one: one.model_copy(update={"status": standing.get(one.agency, one.status)}))
    if back:
        await allows(story, _ALL - {Group.NEED})
    else:
        await story.asks.consents.renew(story.consent, now_of(two) + timedelta(days=100))
    assert ("offer" in await story.outgoing()) is not back
    await two.new_roster(member=lambda one: one.model_copy(update={"status": Status.ACTIVE}))
    await story.travel()
    assert story.kinds_posted() == ([] if back else ["offer"])
    assert (await story.flags()).undeliverable is back


@pytest.mark.parametrize(
    ("days", "stays"),
    [
        pytest.param([30], False, id="earlier"),
        pytest.param([200], True, id="later"),
        pytest.param([200, 150], True, id="later, and then earlier than that"),
    ],
)
async def test_what_waits_with_a_later_end_in_its_receipt_does_not_leave(
    pair: Federation, days: list[int], stays: bool
) -> None:
    story = await begin(pair, travel=False)
    for until in days:
        await story.asks.consents.renew(story.consent, now_of(pair) + timedelta(days=until))
    waiting = {"offer": ["queued"], "disclosure": ["held"]}
    assert await story.outgoing() == (waiting if stays else {})
    flags = await story.flags()
    assert (flags.undeliverable, flags.awaiting_disclosure) == (not stays, not stays)
    assert ({"offer-barred", "disclosure-barred"} <= set(await story.changes())) is not stays
    await story.travel()
    assert story.kinds_posted() == (["offer"] if stays else [])


async def test_a_consent_that_ends_earlier_asks_for_no_name_that_has_arrived(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.asks.consents.renew(story.consent, now_of(two) + timedelta(days=30))
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, False)


async def test_she_allows_less_also_where_one_of_her_referrals_is_destroyed(two: Federation) -> None:
    erased = await begin(two)
    await erased.says_no("erase")
    await erased.nothing_is_left(at=erased.sender)
    story = await begin(two, travel=False, consent=erased.consent)
    await allows(story, _ALL - {Group.NEED})
    assert "offer" not in await story.outgoing()


@pytest.mark.parametrize("less", [True, False], ids=["less", "earlier"])
async def test_her_no_to_one_referral_still_leaves_when_she_allows_less(two: Federation, less: bool) -> None:
    story = await begin(two)
    await story.says_no("stop-service", travel=False)
    if less:
        await allows(story, _ALL - {Group.NEED})
    else:
        await story.asks.consents.renew(story.consent, now_of(two) + timedelta(days=30))
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    await story.travel()
    await story.both_say("withdrawn")


async def _recalls(story: Story) -> None:
    await story.asks.referrals.recall(story.id)


async def _declares_an_error(story: Story) -> None:
    await story.asks.referrals.enter_in_error(story.id)


async def _she_stops_sharing(story: Story) -> None:
    await story.says_no("stop-sharing", travel=False)


async def _she_stops_the_service(story: Story) -> None:
    await story.says_no("stop-service", travel=False)


@pytest.mark.parametrize("ends", [_recalls, _declares_an_error, _she_stops_sharing, _she_stops_the_service])
async def test_what_is_released_and_has_not_left_ends_with_the_referral_and_was_never_disclosed(
    two: Federation, ends: Callable[[Story], Awaitable[None]]
) -> None:
    story = await begin(two)
    await _accepted(two, story)
    await release_due(two[HELPLINE].node)
    assert (await story.outgoing())["disclosure"] == ["queued"]
    assert (await story.flags()).disclosed
    await ends(story)
    assert "disclosure" not in await story.outgoing()
    assert not (await story.flags()).disclosed
    await story.travel()
    assert "disclosure" not in story.kinds_posted()


@pytest.mark.parametrize("what", WAITS)
async def test_nothing_that_waits_leaves_after_her_no(two: Federation, what: str) -> None:
    waits, kind, _, _ = WAITS[what]
    story = await begin(two, travel=False)
    await waits(two, story)
    await _she_stops_sharing(story)
    assert "queued" not in (await story.outgoing()).get(kind, [])
    two.connect(SHELTER)
    await story.travel()
    assert kind not in story.kinds_posted()


async def test_one_field_that_she_takes_back_bars_what_may_hold_it(two: Federation) -> None:
    """Another one of its group may still go; which of them is inside is not looked at."""
    names = fields_of(Group.NAME)
    (line,) = consent_request(SHELTER.agency).model_dump(mode="json")["provisions"]
    line |= {"groups": sorted(_ALL - {Group.NAME}), "fields": sorted(names)}
    story = await begin(two, travel=False, consent={"provisions": [line]})
    await _releases(two, story)
    assert (await story.outgoing())["disclosure"] == ["queued"]
    record = (await story.asks.consents.read(story.consent)).record
    less = [one.model_copy(update={"fields": names - {Field.PREFERRED_NAME}}) for one in record.provisions]
    await story.asks.consents.narrow(story.consent, tuple(less))
    assert "disclosure" not in await story.outgoing()
    assert (await story.flags()).awaiting_disclosure


def _no_contract(world: World) -> World:
    return replace(world, contracts=MappingProxyType({}))


def _no_receiver(world: World) -> World:
    return replace(world, roster=without(world.roster, SHELTER.agency))


@pytest.mark.parametrize("lacks", [_no_contract, _no_receiver])
async def test_what_nobody_can_judge_any_more_does_not_wait(two: Federation, lacks: Callable[[World], World]) -> None:
    """Nothing of the offer was taken back; but who would know."""
    story, node = await begin(two, travel=False), two[HELPLINE].node
    world = lacks(node.world())
    node.world = lambda: world
    await allows(story, _ALL - {Group.PLACE})
    assert "offer" not in await story.outgoing()
    assert (await story.flags()).undeliverable


async def _may_have_arrived(two: Federation) -> Story:
    """Her name has left, no receipt came, and she has taken it back: a fresh disclosure is asked for."""
    story = await begin(two)
    await _accepted(two, story)
    two.network.answers_lost = True
    await two.travel(rounds=1)
    two.network.answers_lost = False
    await allows(story, _ALL - {Group.NAME})
    assert (await story.flags()).awaiting_disclosure
    return story


async def test_what_may_have_arrived_stays_on_record_when_a_second_release_is_taken_back(two: Federation) -> None:
    story = await _may_have_arrived(two)
    await story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    assert (await story.outgoing())["disclosure"] == ["queued"]
    await allows(story, _ALL - {Group.NAME, Group.CONTACT})
    assert "disclosure" not in await story.outgoing()
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, True)


async def test_what_is_held_after_a_first_release_ends_when_she_stops_sharing(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service goes on, and so does the referral: only the hold ends."""
    story = await _may_have_arrived(two)

    async def jumped(_node: object) -> bool:
        return True

    with monkeypatch.context() as ahead:
        ahead.setattr(release_disclosure, "clock_jumped", jumped)
        await story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    assert (await story.outgoing())["disclosure"] == ["held"]
    await story.says_no("stop-sharing", travel=False)
    assert (await story.asks.referrals.read(story.id)).state == "accepted"
    assert "disclosure" not in await story.outgoing()
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"


async def test_what_waits_does_not_leave_once_the_receiver_says_that_it_is_an_error(two: Federation) -> None:
    story = await begin(two, travel=False)
    await _changes_the_plan(two, story)
    await story.helps.inbox.enter_in_error(await story.offer())
    two.connect(SHELTER)
    await two[SHELTER].courier.run_once()
    await story.both_say("entered-in-error")
    assert "update" not in await story.outgoing()


async def _crossing(two: Federation, story: Story) -> None:
    """The receiver begins to serve her before it has heard of the recall, and goes on."""
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    await _recalls(story)
    two.connect(SHELTER)
    await story.later(hours=3)
    await story.both_say("recall-requested")
    await story.helps.inbox.answer_recall((await story.item("recall")).id, RecallAnswerRequest(agreed=False))
    await story.travel()
    await story.both_say("in-service")


async def test_what_never_left_can_be_sent_when_the_receiver_goes_on_after_a_recall(pair: Federation) -> None:
    story = await begin(pair)
    await _releases(pair, story)
    await _crossing(pair, story)
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(pair)))
    assert (await story.flags()).awaiting_disclosure, "it holds her plan, and is still asked for"
    await story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    await story.travel()
    assert (await story.opened("disclosure")).content is not None
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, False)


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_name_that_may_have_left_is_asked_for_when_the_receiver_goes_on_after_a_recall(
    pair: Federation, arrived: bool
) -> None:
    """Whether it arrived nobody here knows: its receipt was lost, or it was."""
    story = await begin(pair)
    await _accepted(pair, story)
    if not arrived:
        pair.cut_off(SHELTER)
    pair.network.answers_lost = arrived
    await pair.travel(rounds=1)
    pair.network.answers_lost = False
    assert [row["attempted_at"] is None for row in await story.outbox_rows() if row["kind"] == "disclosure"] == [False]
    await _crossing(pair, story)
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, True)
    fresh = content(preferred_name=ANOTHER_NAME, safe_contact={"who_initiates": "survivor"})
    await story.asks.referrals.replace_disclosure(story.id, fresh)
    await story.later(hours=2)
    told = (await story.opened("disclosure")).content
    assert told is not None
    assert told.preferred_name == ANOTHER_NAME
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, False)


async def test_what_was_held_is_asked_for_when_the_receiver_goes_on_after_a_recall(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "goes_by_itself", lambda _facts: False)
    story = await begin(pair)
    await _accepted(pair, story)
    await _crossing(pair, story)
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_confirmation, flags.awaiting_disclosure) == (False, False, True)


async def test_what_is_held_is_asked_for_and_not_to_be_confirmed_after_a_recall_of_her_whom_it_serves(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recall has deleted it, and the referral goes on until it is answered."""
    monkeypatch.setattr(transitions, "goes_by_itself", lambda _facts: False)
    story = await begin(pair)
    await _accepted(pair, story)
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    await pair[SHELTER].courier.run_once()
    assert (await story.flags()).awaiting_confirmation
    await _recalls(story)
    assert (await story.asks.referrals.read(story.id)).state == "recall-requested"
    assert "disclosure" not in await story.outgoing()
    flags = await story.flags()
    assert (flags.awaiting_confirmation, flags.awaiting_disclosure) == (False, True)


@pytest.mark.parametrize("ends", [_recalls, _declares_an_error, _she_stops_the_service])
async def test_nobody_is_asked_for_what_never_left_of_a_referral_that_has_ended(
    pair: Federation, ends: Callable[[Story], Awaitable[None]]
) -> None:
    story = await begin(pair)
    await _releases(pair, story)
    await ends(story)
    for _ in range(2):
        flags = await story.flags()
        assert (flags.disclosed, flags.awaiting_disclosure, flags.undeliverable) == (False, False, False)
        await story.travel()
    another = story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    assert (await refusal(another)).code == "state-forbids"


async def test_a_plan_that_a_recall_took_back_is_told_also_after_the_receiver_goes_on(pair: Federation) -> None:
    story = await begin(pair)
    await _changes_the_plan(pair, story)
    await _crossing(pair, story)
    assert "update" not in story.kinds_posted()
    assert (await story.flags()).undeliverable


@pytest.mark.parametrize("what", ["information", "a changed plan"])
async def test_what_a_recall_took_back_is_told_as_long_as_it_may_be_undone(pair: Federation, what: str) -> None:
    """The delivery of the recall is no answer to it; her no is the end, and nothing more has to be heard."""
    waits, _, _, _ = WAITS[what]
    story = await begin(pair)
    await waits(pair, story)
    await _recalls(story)
    assert (await story.flags()).undeliverable
    pair.connect(SHELTER)
    await story.later(hours=1)
    assert "stop-delivered" in await story.changes()
    assert (await story.flags()).undeliverable
    await story.says_no("stop-service")
    assert not (await story.flags()).undeliverable


async def _stands(two: Federation, plan: AgencyPlan, standing: Status, *known_to: AgencyPlan) -> None:
    await two.new_roster(
        member=lambda one: one.model_copy(update={"status": standing}) if one.agency == plan.agency else one,
        known_to=known_to or None,
    )


async def _expires(two: Federation, story: Story) -> None:
    await story.later(hours=24 * 20)
    two.connect(SHELTER)


async def _is_barred(two: Federation, story: Story) -> None:
    await _stands(two, SHELTER, Status.SUSPENDED)
    two.connect(SHELTER)
    await story.later(hours=1)
    await _stands(two, SHELTER, Status.ACTIVE)


async def _is_refused(two: Federation, story: Story) -> None:
    await _stands(two, HELPLINE, Status.SUSPENDED, SHELTER)
    two.connect(SHELTER)
    await story.later(hours=1)
    await _stands(two, HELPLINE, Status.ACTIVE)


@pytest.mark.parametrize(("lost", "status"), [(_expires, "expired"), (_is_barred, "deleted"), (_is_refused, "refused")])
async def test_what_was_lost_before_a_recall_is_told_also_after_the_receiver_goes_on(
    pair: Federation, lost: Callable[[Federation, Story], Awaitable[None]], status: str
) -> None:
    """She is served by an older plan: that a stop was delivered does not change this."""
    story = await begin(pair)
    await story.decides("accepted")
    await story.reports("in-service")
    pair.cut_off(SHELTER)
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(pair)))
    await lost(pair, story)
    (plan,) = [row for row in await story.outbox_rows() if row["kind"] == "update"]
    assert (plan["status"], plan["ciphertext"], plan["sealed_header"]) == (status, None, None)
    assert (await story.flags()).undeliverable
    await _recalls(story)
    await story.later(hours=1)
    await story.both_say("recall-requested")
    assert "stop-delivered" in await story.changes()
    assert (await story.flags()).undeliverable
    await story.helps.inbox.answer_recall((await story.item("recall")).id, RecallAnswerRequest(agreed=False))
    await story.travel()
    await story.both_say("in-service")
    assert (await story.flags()).undeliverable


async def test_so_is_what_the_clock_took_back_of_a_referral_that_goes_on(pair: Federation) -> None:
    """The yes was in time, and arrives after the expiry."""
    story = await begin(pair)
    await story.decides("information-requested", fields=["party"])
    pair.cut_off(SHELTER)
    await story.asks.referrals.send_information(story.id, content(**_PARTY))
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    await story.later(hours=24 * 5)
    assert (await story.asks.referrals.read(story.id)).state == "expired"
    pair.connect(SHELTER)
    await story.later(hours=3)
    await story.both_say("in-service")
    await _recalls(story)
    await story.later(hours=1)
    await story.both_say("recall-requested")
    assert (await story.flags()).undeliverable


async def test_a_receiver_that_went_on_is_asked_once_more(pair: Federation) -> None:
    """A recall is a repeat only as long as the one before it waits for its answer, or counts."""
    story = await begin(pair)
    await story.decides("accepted")
    await _crossing(pair, story)
    acts = [await story.asks.referrals.recall(story.id) for _ in range(2)]
    assert [act.repeated for act in acts] == [False, True]
    await story.travel()
    await story.both_say("recall-requested")
    assert len(await story.items("recall")) == 2
    await story.helps.inbox.answer_recall((await story.item("recall")).id, RecallAnswerRequest(agreed=True))
    await story.travel()
    await story.both_say("recalled")
    assert (await story.asks.referrals.recall(story.id)).repeated
    await story.travel()
    assert story.kinds_posted().count("recall") == 2


async def test_a_recall_that_her_no_has_overtaken_is_not_answered_as_done(two: Federation) -> None:
    story = await begin(two)
    await _recalls(story)
    await story.says_no("stop-service")
    assert (await refusal(story.asks.referrals.recall(story.id))).code == "state-forbids"


async def _may_call(two: Federation) -> Story:
    """Her name is released and has not left, and behind it waits a plan by which the agency may call."""
    story = await begin(two)
    await _accepted(two, story)
    await release_due(two[HELPLINE].node)
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    assert await story.outgoing() == {"offer": ["delivered"], "disclosure": ["queued"], "update": ["queued"]}
    return story


async def test_a_plan_that_waits_behind_a_release_goes_with_it(pair: Federation) -> None:
    """It would arrive alone, and a newer one would not be told: nothing of her is on record any more."""
    story = await _may_call(pair)
    await allows(story, _ALL - {Group.NAME})
    assert await story.outgoing() == {"offer": ["delivered"], "update": ["deleted"]}
    assert (await story.changes())[-2:] == ["disclosure-barred", "update-barred"]
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure, flags.undeliverable) == (False, True, True)
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision"]
    nobody = content(safe_contact={"who_initiates": "survivor"})
    await story.asks.referrals.replace_disclosure(story.id, nobody)
    await story.travel()
    advice = await story.helps.inbox.contact_advice(await story.offer())
    assert (advice.may_contact, advice.code) == (False, "she-initiates")


async def test_so_does_what_it_tells_of_her_and_no_more(two: Federation) -> None:
    """Of two answers one says who she is, which only a release lets go."""
    story = await begin(two)
    await story.decides("information-requested", fields=["party", "preferred_name"])
    await _accepted(two, story)
    await release_due(two[HELPLINE].node)
    await story.asks.referrals.send_information(story.id, content(preferred_name="Canary-Baru", **_PARTY))
    assert (await story.outgoing())["information"] == ["queued", "queued"]
    await allows(story, _ALL - {Group.CONTACT})
    await story.travel()
    assert story.kinds_posted() == ["offer", "information-request", "decision", "information"]
    opened = await story.opened("information")
    assert opened.content is not None
    assert opened.content.preferred_name is None
    assert (await story.flags()).undeliverable


async def test_so_it_is_where_another_roster_bars_the_release_on_its_way_out(two: Federation) -> None:
    story = await _may_call(two)
    changed = {"freedom_of_movement": "Nobody leaves alone."}
    await two.new_roster(
        member=lambda one: one.model_copy(update={"told_first": one.told_first.model_copy(update=changed)})
    )
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision"]
    assert await story.outgoing() == {"offer": ["delivered"], "update": ["deleted"]}
    assert (await story.changes()).count("update-barred") == 1
    assert not (await story.flags()).disclosed


@pytest.mark.parametrize("left", [False, True], ids=["never left", "may have arrived"])
async def test_so_it_is_where_the_release_has_grown_too_old(pair: Federation, left: bool) -> None:
    """The node was switched off. What may have arrived stays on record, and the plan that changes it is told."""
    story = await begin(pair)
    await _accepted(pair, story)
    await release_due(pair[HELPLINE].node)
    if left:
        pair.network.answers_lost = True
        await pair.travel(rounds=1)
        pair.network.answers_lost = False
    pair.clock.pass_by(hours=24 * 8)  # into another week of the receiver's keys
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(pair)))
    await story.later(hours=24 * 6.1)
    assert "disclosure-expired" in await story.changes()
    assert ("update" in story.kinds_posted()) is left
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure, flags.undeliverable) == (left, True, not left)
