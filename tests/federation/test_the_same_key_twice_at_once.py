"""Of two requests with one Idempotency-Key at the same time the first commit wins, and the other hears its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import begin

from contracts.vocabulary import WithdrawalForm
from exchange.client import new_idempotency_key
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.use_cases import send_referral, withdraw

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
