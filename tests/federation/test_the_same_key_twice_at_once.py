"""Of two requests with one Idempotency-Key at the same time the first commit wins, and the other hears its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import update
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import ANOTHER_NAME, Story, begin, content, now_of, plan, refusal, rows

from contracts.vocabulary import WithdrawalForm
from exchange.client import new_idempotency_key
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.errors import SealedRowError
from exchange.schemas.referrals import WithdrawalAnswer, WithdrawalRequest
from exchange.storage.tables import IDEMPOTENCY
from exchange.use_cases import send_referral, withdraw
from exchange.use_cases.acting import Acting
from exchange.use_cases.idempotency import Idempotency, Stored

Work = Callable[[], Awaitable[Any]]


def meanwhile(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, other: Work) -> list[Any]:
    """What another process answers while this one has found no answer and begins to work; the list fills with it."""
    real, answered = getattr(module, name), list[Any]()

    async def late(*args: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        answered.append(await other())
        return await real(*args)

    monkeypatch.setattr(module, name, late)
    return answered


@pytest.mark.parametrize("form", ["stop-sharing", "stop-service", "erase"])
async def test_her_no_said_twice_at_once(two: Federation, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    story = await begin(two)
    key = new_idempotency_key()

    async def say() -> Any:
        return await story.asks.withdrawals.of_consent(story.consent, WithdrawalForm(form), idempotency_key=key)

    first = meanwhile(monkeypatch, withdraw, "again", say)
    assert [await say()] == first


async def test_a_referral_that_another_process_stored_before_she_said_no(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = two[HELPLINE].client(), new_idempotency_key()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    request = referral_request(SHELTER.agency, consent.id)

    async def send_and_say_no() -> Any:
        answer = await client.referrals.send(request, idempotency_key=key)
        await client.withdrawals.of_consent(consent.id, WithdrawalForm("stop-service"))
        return answer

    first = meanwhile(monkeypatch, send_referral, "_send_once", send_and_say_no)
    assert [await client.referrals.send(request, idempotency_key=key)] == first


async def strangely_kept(story: Story, key: str) -> bytes:
    """What is kept under this key is of a later version, whose answers have a member more; returns it."""
    node = story.sender.node
    [row] = await rows(story.sender, IDEMPOTENCY, IDEMPOTENCY.c.key == node.storage_key.keyed_digest(*_use(key)))
    place = "idempotency", "sealed_answer", f"{row['client_id']}/{row['key']}"
    kept = node.open_row(row["sealed_answer"], *place)[:-1] + b',"of_a_later_version":true}'
    await story.writes(
        update(IDEMPOTENCY).where(IDEMPOTENCY.c.key == row["key"]).values(sealed_answer=node.seal_row(kept, *place))
    )
    return kept


def _use(key: str) -> tuple[str, bytes]:
    return "idempotency-key", key.encode()


async def test_an_answer_of_a_later_version_is_repeated_byte_for_byte(two: Federation) -> None:
    """After going back to this version a repeat of her no was an internal error, although it stands."""
    story = await begin(two)
    request = WithdrawalRequest(consent=story.consent, form=WithdrawalForm.ERASE)

    async def say() -> Stored[WithdrawalAnswer]:
        idem = Idempotency("system", "a-key", b"body")
        return await withdraw.withdraw(story.sender.node, Acting("system", "w-test"), request, idem)

    assert (await say()).answer.form is WithdrawalForm.ERASE
    kept, again = await strangely_kept(story, "a-key"), await say()
    assert (again.body, again.repeated) == (kept, True)
    with pytest.raises(SealedRowError):
        _ = again.answer


async def test_an_answer_of_a_later_version_is_told_as_what_it_is_where_it_is_looked_at(two: Federation) -> None:
    story = await begin(two)
    fresh = content(preferred_name=ANOTHER_NAME, safe_contact=plan(now_of(two)))
    await story.asks.referrals.replace_disclosure(story.id, fresh, idempotency_key="a-key")
    await strangely_kept(story, "a-key")
    problem = await refusal(story.asks.referrals.replace_disclosure(story.id, fresh, idempotency_key="a-key"))
    assert (problem.status, problem.code) == (422, "sealed-row")
