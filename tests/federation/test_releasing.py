"""Who she is leaves only after an acceptance, and only if the whole gate still says yes at that moment."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from support.federation import ONCE, Federation
from support.people import CANARY_NAME, consent_request, referral_request
from support.stories import (
    Story,
    begin,
    content,
    her_content,
    now_of,
    plan,
    refusal,
    rows,
    safe_contact,
    said_inside,
    to_the_embassy,
    to_the_labour_office,
    travelled,
)

from consent.record import Provision
from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.statements import ReleaseStatement, parse_statement
from exchange.envelope.wire import from_base64url
from exchange.limits import HOUR_MS
from exchange.referral import lifecycle
from exchange.referral.content import ReferralContent
from exchange.roster import Member, Status
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import ReleaseAnswer
from exchange.storage.errors import StorageUnavailableError
from exchange.storage.tables import AUDIT, EVENT, INBOX
from exchange.use_cases import release_disclosure
from exchange.use_cases import replace_disclosure as replacing
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.release_disclosure import release_due


async def test_an_acceptance_releases_what_was_held_with_a_signed_statement(on_both: Federation) -> None:
    story = await begin(on_both)
    await story.decides("accepted")
    await story.both_say("accepted")
    assert story.kinds_posted() == ["offer", "decision", "disclosure"]
    assert [view.flags.disclosed for view in await story.views()] == [True, True]
    disclosure = travelled(on_both)[-1]
    signed = parse_statement(
        ReleaseStatement, from_base64url(disclosure.wire["release"], member="release", longest=4096)
    )
    statement = signed.verify(story.sender.member.node_key)
    decision = travelled(on_both)[-2]
    assert statement.referral == story.id
    assert statement.accepting == (await story.item_digest("decision", at=story.sender))
    assert disclosure.header.number is None
    assert decision.header.event == "accepted"
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME
    assert opened.content.needs is None
    assert await story.outgoing() == {"offer": ["delivered"], "disclosure": ["delivered"]}


async def test_the_body_of_what_was_delivered_is_not_kept_by_the_sender(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    bodies = [(row["ciphertext"], row["wrapped_key"], row["sealed_header"]) for row in await story.outbox_rows()]
    assert bodies == [(None, None, None)] * 2


@pytest.mark.parametrize("office", [pytest.param("embassy", id="embassy"), pytest.param("labour", id="labour-office")])
async def test_an_authority_gets_her_name_only_when_a_worker_says_so(four: Federation, office: str) -> None:
    consent, request = to_the_embassy() if office == "embassy" else to_the_labour_office()
    receiver = EMBASSY if office == "embassy" else LABOUR_OFFICE
    story = await begin(four, receiver=receiver, consent=consent, **request)
    assert story.created.release == "confirm"
    assert (await refusal(story.asks.referrals.release(story.id))).code == "not-accepted"
    await story.decides("accepted")
    await story.travel()
    assert (await story.flags()).awaiting_confirmation
    assert story.kinds_posted() == ["offer", "decision"]
    released = await story.asks.referrals.release(story.id)
    assert released.released
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision", "disclosure"]
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_confirmation) == (True, False)
    assert (await story.asks.referrals.release(story.id)).released
    await story.travel()
    assert len(story.kinds_posted()) == 3


async def test_a_worker_releases_nothing_under_a_key_that_was_revoked_while_she_was_asked(four: Federation) -> None:
    """Nobody here has asked for the receiver's card since: the worker's word asks for it."""
    consent, request = to_the_labour_office()
    story = await begin(four, receiver=LABOUR_OFFICE, consent=consent, **request)
    await story.decides("accepted")
    await story.travel()
    assert (await story.flags()).awaiting_confirmation
    four.clock.pass_by(hours=2)
    office = four[LABOUR_OFFICE].node
    await revoke_own_epochs(office, compromised_since=office.clock() - HOUR_MS)
    answer = await story.asks.referrals.release(story.id)
    assert (answer.released, answer.code) == (False, "receiver-key-changed")
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision"]
    assert (await story.flags()).awaiting_disclosure


async def test_an_emergency_waits_for_nobody(four: Federation) -> None:
    consent, request = to_the_embassy()
    story = await begin(four, receiver=EMBASSY, consent=consent, priority="emergency", **request)
    assert story.created.call_now
    assert story.created.duty_contact == story.receiver.member.duty_contact
    assert story.created.release == "automatic"
    await story.decides("accepted")
    assert (await story.flags()).disclosed
    assert "disclosure" in story.kinds_posted()


async def _confirming(together: Federation) -> Story:
    """Accepted by the embassy; everything waits for the worker's word."""
    consent, request = to_the_embassy()
    story = await begin(together, receiver=EMBASSY, consent=consent, **request)
    await story.decides("accepted")
    assert (await story.flags()).awaiting_confirmation
    return story


async def _consent_expires(story: Story) -> None:
    story.together.clock.pass_by(hours=24 * 91)


async def _consent_is_narrowed(story: Story) -> None:
    narrower = Provision.model_validate(
        {"groups": {"need"}, "agencies": {EMBASSY.agency}, "purposes": {"provide-travel-documents"}}
    )
    await story.asks.consents.narrow(story.consent, (narrower,))


async def _contract_is_left(story: Story) -> None:
    await story.together.new_roster(contracts=())


async def _receiver_is_suspended(story: Story) -> None:
    def suspend(member: Member) -> Member:
        change = {"status": Status.SUSPENDED} if member.agency == EMBASSY.agency else {}
        return member.model_copy(update=change)

    await story.together.new_roster(member=suspend)


async def _disclosure_expires(story: Story) -> None:
    story.together.clock.pass_by(hours=24 + 24.1)


async def _refused_releases(story: Story) -> list[tuple[str | None, str]]:
    """Who tried it, and why not, as it stands on the record."""
    refused = await rows(story.sender, AUDIT, AUDIT.c.action == "release-refused")
    return [(row["actor"], row["detail"]) for row in refused]


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        pytest.param(_consent_expires, {"disclosure-expired", "consent-expired"}, id="consent-expired"),
        pytest.param(_consent_is_narrowed, {"no-field-allowed"}, id="consent-narrowed"),
        pytest.param(_contract_is_left, {"contract-not-in-force"}, id="contract-no-longer-in-force"),
        pytest.param(_receiver_is_suspended, {"receiver-not-active"}, id="receiver-suspended"),
        pytest.param(_disclosure_expires, {"disclosure-expired"}, id="disclosure-expired"),
    ],
)
async def test_a_release_that_the_gate_no_longer_allows_deletes_what_was_held(
    four: Federation, happens: Callable[[Story], Awaitable[None]], code: set[str]
) -> None:
    story = await _confirming(four)
    await happens(story)
    answer = await story.asks.referrals.release(story.id)
    assert not answer.released
    assert answer.code in code
    assert answer.referral.flags.awaiting_disclosure
    assert await _refused_releases(story) == [("w-test", answer.code)]
    assert "disclosure" not in await story.outgoing()
    await story.travel()
    assert "disclosure" not in story.kinds_posted()
    assert not (await story.flags()).disclosed
    await story.both_say("accepted")


async def test_the_same_gate_stands_before_an_automatic_release(two: Federation) -> None:
    story = await begin(two)
    narrower = Provision.model_validate(
        {"groups": {"need"}, "agencies": {SHELTER.agency}, "purposes": {"provide-safe-accommodation"}}
    )
    await story.asks.consents.narrow(story.consent, (narrower,))
    await story.decides("accepted")
    await story.travel()
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert story.kinds_posted() == ["offer", "decision"]
    assert await _refused_releases(story) == [(None, "no-field-allowed")]


async def test_a_withdrawn_consent_releases_nothing(four: Federation) -> None:
    story = await _confirming(four)
    await story.asks.withdrawals.of_consent(story.consent, WithdrawalForm.STOP_SHARING)
    assert "disclosure" not in await story.outgoing()
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"
    await story.travel()
    assert "disclosure" not in story.kinds_posted()
    await story.both_say("withdrawn")


async def test_what_was_held_too_long_is_deleted_by_the_clock_and_asked_for_again(two: Federation) -> None:
    fresh = plan(now_of(two) - timedelta(hours=60))
    story = await begin(two, content=her_content(two, safe_contact=fresh))
    assert story.created.disclosure_held
    await story.later(hours=13)
    flags = await story.flags()
    assert flags.awaiting_disclosure
    assert [row["ciphertext"] for row in await story.outbox_rows()] == [None, None]
    await story.decides("accepted")
    assert "disclosure" not in story.kinds_posted()
    again = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(two)))
    await story.asks.referrals.replace_disclosure(story.id, again)
    await story.travel()
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == "Canary-Baru"


async def test_a_plan_that_is_too_old_is_not_even_held(two: Federation) -> None:
    old = plan(now_of(two) - timedelta(hours=73))
    story = await begin(two, content=her_content(two, safe_contact=old))
    assert not story.created.disclosure_held
    assert (await story.flags()).awaiting_disclosure
    await story.decides("accepted")
    stale = content(preferred_name=CANARY_NAME, safe_contact=old)
    problem = await refusal(story.asks.referrals.replace_disclosure(story.id, stale))
    assert problem.code == "plan-unconfirmed"
    assert [field.path for field in problem.fields] == ["content.safe_contact.last_confirmed_at"]
    assert CANARY_NAME.encode() not in await said_inside(two)


LATER = {"preview", "send", "replace", "inform", "plan-before", "plan-after"}


@pytest.mark.parametrize("act", sorted(LATER))
async def test_a_plan_that_is_confirmed_later_than_now_is_refused_and_nothing_changes(
    two: Federation, act: str
) -> None:
    """A system that writes its local time and calls it UTC: nobody would call her for hours, and nobody knew why."""
    story = await begin(two)
    if act == "plan-after":
        await story.decides("accepted")
    if act == "inform":
        await story.decides("information-requested", fields=["safe_contact"])
    tomorrow = now_of(two) + timedelta(hours=8)
    words, asks = content(safe_contact=plan(tomorrow)), story.asks.referrals
    first = referral_request(SHELTER.agency, story.consent, content=words.model_dump(exclude_none=True))
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "preview": lambda: asks.preview(first),
        "send": lambda: asks.send(first),
        "replace": lambda: asks.replace_disclosure(story.id, words),
        "inform": lambda: asks.send_information(story.id, words),
        "plan-before": lambda: asks.update_safe_contact(story.id, safe_contact(tomorrow)),
        "plan-after": lambda: asks.update_safe_contact(story.id, safe_contact(tomorrow)),
    }
    before = await story.outgoing()
    problem = await refusal(acts[act]())
    assert (problem.code, problem.who) == ("content-invalid", "sender")
    assert [(one.path, one.code) for one in problem.fields] == [
        (
            "safe_contact.last_confirmed_at" if "plan" in act else "content.safe_contact.last_confirmed_at",
            "in-the-future",
        )
    ]
    assert await story.outgoing() == before


async def test_a_fresh_disclosure_replaces_the_held_one(two: Federation) -> None:
    story = await begin(two)
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    await story.asks.referrals.replace_disclosure(story.id, fresh)
    assert (await story.outgoing())["disclosure"] == ["held"]
    await story.decides("accepted")
    inside = await said_inside(two)
    assert b"Canary-Baru" in inside
    assert CANARY_NAME.encode() not in inside
    problem = await refusal(story.asks.referrals.replace_disclosure(story.id, fresh))
    assert problem.code == "already-disclosed"


async def test_a_disclosure_that_is_repeated_late_takes_the_place_of_nothing(on_both: Federation) -> None:
    """Its answer was lost, and she changed her plan before it was sent again: what it says is the older plan."""
    story = await begin(on_both)
    asks = story.asks.referrals
    older = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(on_both)))
    first = await asks.replace_disclosure(story.id, older, idempotency_key="fresh-1")
    await asks.update_safe_contact(story.id, safe_contact(now_of(on_both), **NOBODY_CALLS))
    again = await asks.replace_disclosure(story.id, older, idempotency_key="fresh-1")
    assert again.fields == first.fields
    assert again.referral.flags.awaiting_disclosure
    assert "disclosure" not in await story.outgoing()
    await story.decides("accepted")
    assert "disclosure" not in story.kinds_posted()
    latest = content(preferred_name="Canary-Terbaru", safe_contact=plan(now_of(on_both), **NOBODY_CALLS))
    await asks.replace_disclosure(story.id, latest, idempotency_key="fresh-2")
    again = await asks.replace_disclosure(story.id, older, idempotency_key="fresh-1")
    assert again.fields == first.fields
    assert again.referral.flags.disclosed
    await story.travel()
    assert await _advice(story) == "nobody-initiates"
    other = await refusal(asks.replace_disclosure(story.id, latest, idempotency_key="fresh-1"))
    assert other.code == "idempotency-key-reused"


async def test_a_repeat_lets_go_what_was_sealed_after_the_acceptance_and_not_let_go(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that sealed it ended before it released it; only the call that a worker made after her yes does."""
    story = await begin(two)
    asks = story.asks.referrals
    fresh = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(two), **NOBODY_CALLS))
    early = await asks.replace_disclosure(story.id, fresh, idempotency_key="before")
    assert not early.referral.flags.awaiting_confirmation
    await asks.drop_disclosure(story.id)
    await story.decides("accepted")

    async def ends(*_: object) -> ReleaseAnswer:
        raise StorageUnavailableError

    with monkeypatch.context() as broken:
        broken.setattr(replacing, "release_disclosure", ends)
        broken.setattr(story.asks._connection, "_retries", ONCE)
        assert (await refusal(asks.replace_disclosure(story.id, fresh, idempotency_key="after"))).status == 503
    await asks.replace_disclosure(story.id, fresh, idempotency_key="before")
    assert not (await story.flags()).disclosed
    answer = await asks.replace_disclosure(story.id, fresh, idempotency_key="after")
    assert answer.referral.flags.disclosed
    await story.travel()
    assert story.kinds_posted().count("disclosure") == 1


async def test_a_release_that_did_not_arrive_in_time_is_asked_for_again(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()
    two.leave(SHELTER)
    await story.travel()
    assert (await story.flags()).disclosed
    await story.later(hours=24 * 15)
    assert (await story.flags()).awaiting_disclosure
    assert "disclosure" not in story.kinds_posted()
    assert [row["ciphertext"] for row in await story.outbox_rows()] == [None, None]
    two.come_back(SHELTER)
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    await story.asks.referrals.replace_disclosure(story.id, fresh)
    two.clock.pass_by(hours=2)
    await story.travel()
    assert (await story.opened("disclosure")).content is not None


async def test_what_is_held_can_be_dropped_until_it_is_disclosed(two: Federation) -> None:
    story = await begin(two)
    asks = story.asks.referrals
    for repeated in (False, True):
        answer = await asks.drop_disclosure(story.id)
        assert answer.repeated is repeated
        assert answer.referral.flags.awaiting_disclosure
        assert "disclosure" not in await story.outgoing()
    assert (await story.changes()).count("plan-changed") == 1
    assert (await refusal(story.helps.referrals.drop_disclosure(story.id))).code == "not-found"
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    await asks.replace_disclosure(story.id, fresh)
    await story.decides("accepted")
    assert (await refusal(asks.drop_disclosure(story.id))).code == "already-disclosed"
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_a_changed_plan_ends_the_hold_before_disclosure(two: Federation) -> None:
    story = await begin(two)
    answer = await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    assert answer.referral.flags.awaiting_disclosure
    assert "disclosure" not in await story.outgoing()
    await story.decides("accepted")
    assert "disclosure" not in story.kinds_posted()
    assert "update" not in story.kinds_posted()


async def test_a_changed_plan_ends_the_hold_that_waits_for_a_worker(four: Federation) -> None:
    story = await _confirming(four)
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(four)))
    assert (await story.flags()).awaiting_disclosure
    assert "disclosure" not in await story.outgoing()
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"
    await story.travel()
    assert "disclosure" not in story.kinds_posted()


NOBODY_CALLS = {"who_initiates": "neither", "channels": [], "safe_times": []}


async def _held_after_a_release(two: Federation, monkeypatch: pytest.MonkeyPatch, **decides: Any) -> Story:
    """One was released and never arrived, and the fresh one, by which she may be called, is held: nothing let it go."""
    story = await begin(two)
    for decision in filter(None, [decides, {"decision": "accepted"}]):
        await story.helps.inbox.decide(await story.offer(), DecisionRequest.model_validate(decision))
        await two[SHELTER].courier.run_once()
    two.leave(SHELTER)
    await story.travel()
    await story.later(hours=24 * 15)
    two.come_back(SHELTER)
    await _not_let_go(story, monkeypatch, plan(now_of(two)))
    assert (await story.flags()).disclosed
    return story


async def _not_let_go(story: Story, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]) -> None:
    """A fresh disclosure, of which the second commit does not happen."""

    async def jumped(_: object) -> bool:
        return True

    fresh = content(preferred_name="Canary-Baru", safe_contact=said)
    with monkeypatch.context() as patched:
        patched.setattr(release_disclosure, "clock_jumped", jumped)
        answer = await story.asks.referrals.replace_disclosure(story.id, fresh)
    assert answer.referral.flags.awaiting_confirmation
    assert (await story.outgoing())["disclosure"][-1] == "held"


async def _advice(story: Story) -> str:
    """What the receiver is told about calling her, after two hours in which everything travelled."""
    await story.later(hours=2)
    return (await story.helps.inbox.contact_advice(await story.offer())).code


@pytest.mark.parametrize("told", ["update", "information"])
async def test_a_plan_that_is_told_takes_the_older_one_that_is_held_with_it(
    two: Federation, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """Released later it would have the higher number, and count: she would be called although she said no."""
    asked = {"decision": "information-requested", "fields": ["safe_contact"]} if told == "information" else {}
    story = await _held_after_a_release(two, monkeypatch, **asked)
    newest = safe_contact(now_of(two), **NOBODY_CALLS)
    if told == "update":
        answer = await story.asks.referrals.update_safe_contact(story.id, newest)
    else:
        answer = await story.asks.referrals.send_information(story.id, ReferralContent(safe_contact=newest))
    assert (answer.referral.flags.awaiting_disclosure, answer.referral.flags.awaiting_confirmation) == (True, False)
    assert (await story.outgoing())[told] == ["queued"]
    assert "held" not in (await story.outgoing())["disclosure"]
    assert (await story.changes())[-2:] == ["plan-changed", told]
    assert (await refusal(story.asks.referrals.release(story.id))).code == "nothing-held"
    assert await _advice(story) == "nobody-initiates"
    fresh = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(two), **NOBODY_CALLS))
    await story.asks.referrals.replace_disclosure(story.id, fresh)
    assert await _advice(story) == "nobody-initiates"
    assert story.kinds_posted()[-2:] == [told, "disclosure"]


async def test_information_without_a_plan_leaves_what_is_held(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"decision": "information-requested", "fields": ["party"]}
    story = await _held_after_a_release(two, monkeypatch, **asked)
    party = content(party={"adults": 1, "dependants": [], "infant_or_pregnant": False})
    answer = await story.asks.referrals.send_information(story.id, party)
    assert answer.referral.flags.awaiting_confirmation
    assert (await story.outgoing())["disclosure"][-1] == "held"


async def test_a_fresh_disclosure_that_was_not_let_go_can_be_replaced_by_another(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held and not disclosed: nobody is told that it was."""
    story = await _held_after_a_release(two, monkeypatch)
    await _not_let_go(story, monkeypatch, plan(now_of(two)))
    again = content(preferred_name="Canary-Baru", safe_contact=plan(now_of(two), **NOBODY_CALLS))
    answer = await story.asks.referrals.replace_disclosure(story.id, again)
    assert not answer.referral.flags.awaiting_confirmation
    assert (await story.outgoing())["disclosure"] == ["expired", "queued"]
    assert await _advice(story) == "nobody-initiates"
    assert (await refusal(story.asks.referrals.replace_disclosure(story.id, again))).code == "already-disclosed"


async def test_who_drops_twice_is_not_told_that_what_was_held_was_disclosed(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await _held_after_a_release(two, monkeypatch)
    assert (await story.asks.referrals.drop_disclosure(story.id)).referral.flags.awaiting_disclosure
    problem = await refusal(story.asks.referrals.drop_disclosure(story.id))
    assert (problem.code, problem.detail) == (
        "already-disclosed",
        "Nothing is held. One was disclosed before: send a new plan, or a fresh disclosure.",
    )


async def test_what_was_released_is_carried_for_longer_than_it_would_have_been_held(two: Federation) -> None:
    story = await begin(two)
    (held,) = [row for row in await story.outbox_rows() if row["kind"] == "disclosure"]
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()
    await release_due(two[HELPLINE].node)
    (released,) = [row for row in await story.outbox_rows() if row["kind"] == "disclosure"]
    assert released["status"] == "queued"
    at = (await story.record())["disclosed_at"]
    assert released["expires_at"] == at + two[HELPLINE].node.limits.released_within_ms != held["expires_at"]


async def test_a_changed_plan_reaches_the_agency_that_has_the_old_one(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    item = await story.offer()
    before = await story.helps.inbox.contact_advice(item)
    assert (before.may_contact, before.code) == (False, "she-initiates")
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    await story.travel()
    assert story.kinds_posted()[-1] == "update"
    after = await story.helps.inbox.contact_advice(item, at=now_of(two) + timedelta(hours=1))
    assert (after.may_contact, after.code) == (True, "may-contact")
    assert after.say_if_other_answers == "Wrong number, sorry."
    late = await story.helps.inbox.contact_advice(item, at=now_of(two) + timedelta(hours=73))
    assert (late.may_contact, late.code) == (False, "plan-unconfirmed")


async def test_a_plan_that_came_as_information_is_the_newest_too(two: Federation) -> None:
    """Nobody is to call by the one that she has replaced."""
    story = await begin(two, content=her_content(two, safe_contact=plan(now_of(two))))
    await story.decides("information-requested", fields=["safe_contact"])
    await story.decides("accepted")
    offer = await story.offer()
    assert (await story.helps.inbox.contact_advice(offer)).may_contact
    newest = plan(now_of(two), who_initiates="neither", channels=[], safe_times=[])
    await story.asks.referrals.send_information(story.id, content(safe_contact=newest))
    await story.travel()
    assert story.kinds_posted()[-1] == "information"
    assert (await story.helps.inbox.contact_advice(offer)).code == "nobody-initiates"


async def test_without_a_plan_nobody_is_advised_to_contact_her(two: Federation) -> None:
    story = await begin(two)
    assert (await refusal(story.helps.inbox.contact_advice(await story.offer()))).code == "no-plan"


async def test_the_receiver_refuses_a_disclosure_that_was_never_released(two: Federation) -> None:
    story = await begin(two)
    wire = await story.wire_of("disclosure")
    answer = (await story.post(wire)).answers[0]
    assert answer.result == "refused"
    assert answer.problem is not None
    assert answer.problem.code in {"not-accepted", "not-released", "malformed"}
    assert not await story.items("disclosure")


async def test_the_receiver_refuses_a_release_by_another_statement(two: Federation) -> None:
    first, second = await begin(two), await begin(two)
    await first.decides("accepted")
    await second.helps.inbox.decide(await second.offer(), DecisionRequest(decision="accepted"))
    release = next(one.wire["release"] for one in travelled(two) if one.header.kind == "disclosure")
    wire = await second.wire_of("disclosure")
    answer = (await second.post(wire | {"release": release})).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "release-invalid"
    assert not await second.items("disclosure")


async def test_preview_says_what_would_go_and_stores_nothing(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    preview = await helpline.referrals.preview(referral_request(SHELTER.agency, consent.id))
    stages = {one.field.value: one.stage for one in preview.fields if one.outcome == "allowed"}
    assert preview.allowed
    assert (stages["needs"], stages["preferred_name"]) == ("offer", "disclosure")
    assert not (await helpline.referrals.changes()).items
    await two.travel()
    assert two.network.posted == []


@pytest.mark.parametrize(("priority", "mode"), [("urgent", "confirm"), ("emergency", "automatic")])
async def test_preview_says_how_it_will_be_released(four: Federation, priority: str, mode: str) -> None:
    """Who reads `confirm` counts on being asked; of an emergency nobody is."""
    helpline, (consent, request) = four[HELPLINE].client(), to_the_labour_office()
    recorded = await helpline.consents.record(consent_request(LABOUR_OFFICE.agency, **consent))
    asked = referral_request(LABOUR_OFFICE.agency, recorded.id, **(request | {"priority": priority}))
    preview = await helpline.referrals.preview(asked)
    created = await helpline.referrals.send(asked)
    assert (preview.release, created.release) == (mode, mode)


async def _accepted_too_late(two: Federation, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A receiver that does not ask itself what time it is; the referral has not expired yet."""
    story = await begin(two)
    await story.offer()
    two.clock.pass_by(hours=24.5)
    with monkeypatch.context() as lenient:
        lenient.setattr(lifecycle, "check_in_time", lambda *_, **__: None)
        await story.decides("accepted")
    assert [row["name"] for row in await story.rows(EVENT) if row["side"] == "receiving"] == ["accepted"]
    await story.both_say("received")
    return story


async def test_an_acceptance_that_came_too_late_releases_nothing(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await _accepted_too_late(two, monkeypatch)
    assert (await refusal(story.asks.referrals.release(story.id))).code == "not-accepted"
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision"]
    assert (await story.outgoing())["disclosure"] == ["held"]
    await story.later(hours=24)
    await story.both_say("expired")
    assert "disclosure" not in await story.outgoing()


async def test_a_fresh_disclosure_after_a_late_acceptance_is_held_and_does_not_go(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await _accepted_too_late(two, monkeypatch)
    fresh = content(preferred_name="Canary-Baru", safe_contact={"who_initiates": "survivor"})
    await story.asks.referrals.replace_disclosure(story.id, fresh)
    await story.travel()
    assert story.kinds_posted() == ["offer", "decision"]
    assert not (await story.flags()).disclosed


async def test_who_she_is_does_not_go_as_information_beside_the_confirmation(four: Federation) -> None:
    consent, request = to_the_embassy()
    story = await begin(four, receiver=EMBASSY, consent=consent, **request)
    await story.decides("information-requested", fields=["preferred_name"])
    await story.decides("accepted")
    assert (await story.flags()).awaiting_confirmation
    name = content(preferred_name=CANARY_NAME)
    assert (await refusal(story.asks.referrals.send_information(story.id, name))).code == "nothing-allowed"
    await story.travel()
    assert CANARY_NAME.encode() not in await said_inside(four)
    # Once a worker has confirmed, she may be told of as she allowed.
    assert (await story.asks.referrals.release(story.id)).released
    await story.asks.referrals.send_information(story.id, name)
    await story.travel()
    assert story.kinds_posted()[-2:] == ["disclosure", "information"]


@pytest.mark.parametrize(("after_ms", "code"), [(0, "released"), (1, "disclosure-expired")])
async def test_a_hold_ends_after_its_last_moment(
    four: Federation, monkeypatch: pytest.MonkeyPatch, after_ms: int, code: str
) -> None:
    """As its receiver counts, which takes what was released at that moment."""
    story = await _confirming(four)
    (held,) = [row for row in await story.outbox_rows() if row["status"] == "held"]
    at = held["expires_at"] + after_ms
    monkeypatch.setattr(time, "time_ns", lambda: at * 1_000_000)
    assert (await story.asks.referrals.release(story.id)).code == code


async def test_a_word_from_before_that_arrives_after_the_acceptance_takes_nothing_from_it(two: Federation) -> None:
    """The release names the acceptance, and the highest number that was seen stays the highest."""
    story = await begin(two)
    two.leave(HELPLINE)
    await story.decides("waitlisted")
    await story.decides("accepted")
    two.come_back(HELPLINE)
    earlier, later = await story.wires_of("decision", at=story.receiver)
    for wire in (later, earlier):
        assert [one.result for one in (await story.post(wire, by=story.receiver)).answers] == ["accepted"]
    said = {row["event"]: row["digest"] for row in await story.rows(INBOX, at=story.sender)}
    events = {row["name"]: row["number"] for row in await story.rows(EVENT)}
    assert (await story.record())["seen"] == events["accepted"] > events["waitlisted"]
    await story.travel()
    assert (await story.opened("disclosure")).content is not None
    released = next(one for one in travelled(two) if one.header.kind == "disclosure")
    raw = from_base64url(released.wire["release"], member="release", longest=4096)
    assert parse_statement(ReleaseStatement, raw).unverified.accepting == said["accepted"]
