"""The same act twice is one act: idempotency keys, also at the same moment, and after what was made is destroyed."""

from __future__ import annotations

import asyncio
import hashlib

from sqlalchemy import update
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import begin, content, now_of, refusal, rows, safe_contact

from contracts.vocabulary import Field, WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import ReferralCreated
from exchange.storage.tables import CONSENT, IDEMPOTENCY, REFERRAL
from exchange.use_cases.destroy import destroy_referrals


async def test_the_same_key_and_body_get_the_same_answer_and_make_one_referral(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    request = referral_request(SHELTER.agency, consent.id)
    first = await helpline.referrals.send(request, idempotency_key="one-act")
    again = await helpline.referrals.send(request, idempotency_key="one-act")
    assert first == again
    await two.travel()
    assert len(await rows(two[HELPLINE], REFERRAL)) == 1
    assert len(await rows(two[SHELTER], REFERRAL)) == 1


async def test_the_same_key_with_another_body_is_a_conflict(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    await helpline.referrals.send(referral_request(SHELTER.agency, consent.id), idempotency_key="one-act")
    other = referral_request(SHELTER.agency, consent.id, priority="routine")
    problem = await refusal(helpline.referrals.send(other, idempotency_key="one-act"))
    assert (problem.status, problem.code) == (409, "idempotency-key-reused")
    assert len(await rows(two[HELPLINE], REFERRAL)) == 1


async def test_the_same_act_six_times_at_once_is_one_referral(on_both: Federation) -> None:
    helpline = on_both[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    request = referral_request(SHELTER.agency, consent.id)
    answers = await asyncio.gather(*(helpline.referrals.send(request, idempotency_key="one-act") for _ in range(6)))
    assert len({answer.id for answer in answers}) == 1
    assert len(await rows(on_both[HELPLINE], REFERRAL)) == 1


async def test_two_bodies_under_one_key_at_once_are_one_referral_and_one_conflict(on_both: Federation) -> None:
    helpline = on_both[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    bodies = [referral_request(SHELTER.agency, consent.id, priority=word) for word in ("urgent", "routine")]
    answers = await asyncio.gather(
        *(helpline.referrals.send(body, idempotency_key="one-act") for body in bodies), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["ProblemError", "ReferralCreated"]
    refused = next(answer for answer in answers if isinstance(answer, ProblemError))
    assert refused.problem.code == "idempotency-key-reused"
    made = next(answer for answer in answers if isinstance(answer, ReferralCreated))
    assert [row["id"] for row in await rows(on_both[HELPLINE], REFERRAL)] == [made.id]


async def test_a_repeated_consent_and_a_repeated_no_are_one(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    request = consent_request(SHELTER.agency)
    first = await helpline.consents.record(request, idempotency_key="one-consent")
    assert (await helpline.consents.record(request, idempotency_key="one-consent")).id == first.id
    assert len(await rows(two[HELPLINE], CONSENT)) == 1
    story = await begin(two, consent=first.id)
    for _ in range(2):
        await story.asks.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE, idempotency_key="one-no")
    await story.travel()
    assert story.kinds_posted().count("withdrawal") == 1


async def test_a_key_that_can_be_guessed_is_not_found_in_the_database(two: Federation) -> None:
    """A case number, or worse her telephone number: who has the file tries them all."""
    key, helpline = "+00-555-0100-7301", two[HELPLINE].client()
    await helpline.consents.record(consent_request(SHELTER.agency), idempotency_key=key)
    (row,) = await rows(two[HELPLINE], IDEMPOTENCY)
    guesses = {key, hashlib.sha256(key.encode()).hexdigest()}
    assert guesses.isdisjoint(row.values())
    files = b"".join(file.read_bytes() for file in two[HELPLINE].home.parent.rglob("*.db*") if file.is_file())
    assert row["key"].encode() in files
    assert not any(guess.encode() in files for guess in guesses)


async def test_an_act_whose_key_an_earlier_version_kept_as_it_came_is_repeated_and_not_done_again(
    two: Federation,
) -> None:
    node, helpline, request = two[HELPLINE].node, two[HELPLINE].client(), consent_request(SHELTER.agency)
    first = await helpline.consents.record(request, idempotency_key="one-consent")
    (row,) = await rows(two[HELPLINE], IDEMPOTENCY)
    sealed = "idempotency", "sealed_answer"
    inside = node.open_row(row["sealed_answer"], *sealed, f"{row['client_id']}/{row['key']}")
    of_before = {
        "key": "one-consent",
        "sealed_answer": node.seal_row(inside, *sealed, f"{row['client_id']}/one-consent"),
    }
    await node.database.write(lambda conn: conn.execute(update(IDEMPOTENCY).values(of_before)) and None)
    assert await helpline.consents.record(request, idempotency_key="one-consent") == first
    assert len(await rows(two[HELPLINE], CONSENT)) == 1


async def test_the_memory_of_an_act_ends_after_a_day(two: Federation) -> None:
    await begin(two)
    assert len(await rows(two[HELPLINE], IDEMPOTENCY)) == 2
    two.clock.pass_by(hours=24.1)
    await two.travel()
    assert await rows(two[HELPLINE], IDEMPOTENCY) == []


async def test_the_answer_ends_with_its_referral_and_a_repeat_makes_no_second_one(on_both: Federation) -> None:
    helpline = on_both[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    request = referral_request(SHELTER.agency, consent.id)
    created = await helpline.referrals.send(request, idempotency_key="one-act")
    await on_both.travel()
    (before,) = await rows(on_both[HELPLINE], IDEMPOTENCY, IDEMPOTENCY.c.referral == created.id)
    said = await helpline.withdrawals.of_referral(created.id, WithdrawalForm.ERASE, idempotency_key="one-no")
    (after,) = await rows(on_both[HELPLINE], IDEMPOTENCY, IDEMPOTENCY.c.referral == created.id)
    assert before["sealed_answer"] is not None
    assert after == before | {"sealed_answer": None}
    problem = await refusal(helpline.referrals.send(request, idempotency_key="one-act"))
    assert (problem.status, problem.code, problem.who.value) == (410, "answer-destroyed", "sender")
    assert created.client_code not in problem.model_dump_json()
    other = referral_request(SHELTER.agency, consent.id, priority="routine")
    assert (await refusal(helpline.referrals.send(other, idempotency_key="one-act"))).code == "idempotency-key-reused"
    # Her no is no secret of hers: whoever lost the answer may ask for it again.
    assert await helpline.withdrawals.of_referral(created.id, WithdrawalForm.ERASE, idempotency_key="one-no") == said
    await on_both.travel()
    for node in (HELPLINE, SHELTER):
        assert [row["id"] for row in await rows(on_both[node], REFERRAL)] == [created.id]


async def test_every_answer_about_a_referral_ends_with_it_whatever_ends_it_and_no_other(two: Federation) -> None:
    story, other = await begin(two), await begin(two)
    asked = DecisionRequest(decision="information-requested", fields=(Field.PARTY,))
    await story.helps.inbox.decide(await story.offer(), asked)
    await story.travel()
    party, plan = content(party={"adults": 1}), safe_contact(now_of(two))
    calls = (
        lambda: story.asks.referrals.send_information(story.id, party, idempotency_key="told"),
        lambda: story.asks.referrals.update_safe_contact(story.id, plan, idempotency_key="plan"),
    )
    first = [await call() for call in calls]
    assert [await call() for call in calls] == first
    await story.is_over(at=story.sender)
    await destroy_referrals(story.sender.node, [story.id])
    await story.nothing_is_left(at=story.sender)
    assert [(await refusal(call())).code for call in calls] == ["answer-destroyed"] * 2
    kept = await rows(story.sender, IDEMPOTENCY, IDEMPOTENCY.c.sealed_answer.is_not(None))
    # Her two consents, and the other referral.
    assert sorted(row["referral"] or "" for row in kept) == ["", "", other.id]


async def test_a_key_whose_answer_was_destroyed_ends_like_any_other(two: Federation) -> None:
    story = await begin(two)
    await story.says_no("erase")
    assert len(await rows(two[HELPLINE], IDEMPOTENCY)) == 3
    await story.later(hours=24.1)
    assert await rows(two[HELPLINE], IDEMPOTENCY) == []


async def test_a_refused_referral_leaves_nothing_and_its_key_may_be_used_again(two: Federation) -> None:
    helpline = two[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    wrong = referral_request(SHELTER.agency, consent.id, content={"needs": ["tonight"], "narrative": "Synthetic."})
    problem = await refusal(helpline.referrals.send(wrong, idempotency_key="one-act"))
    assert (problem.status, problem.code) == (403, "never")
    assert "Synthetic" not in problem.model_dump_json()
    assert await rows(two[HELPLINE], REFERRAL) == []
    right = referral_request(SHELTER.agency, consent.id)
    assert (await helpline.referrals.send(right, idempotency_key="one-act")).disclosure_held
