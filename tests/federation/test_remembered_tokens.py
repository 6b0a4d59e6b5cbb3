"""A token that was checked once is remembered; whether it may still be used is asked at every call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx2
import pytest
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import rows

from exchange.cli.profile import read_profile
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.storage.access import revoke_client
from exchange.storage.tables import REFERRAL


async def revoked(two: Federation) -> None:
    client_id = read_profile(two[HELPLINE].home).client_id
    assert await two[HELPLINE].node.database.write(lambda conn: revoke_client(conn, client_id))


async def expired(two: Federation) -> None:
    two.clock.pass_by(seconds=two[HELPLINE].node.limits.token_s + 1)


@pytest.mark.parametrize("ends", [revoked, expired], ids=["client-revoked", "token-expired"])
async def test_remembered_token_hands_nothing_in(
    two: Federation, ends: Callable[[Federation], Awaitable[None]]
) -> None:
    helpline = two[HELPLINE]
    client = helpline.client()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    body = referral_request(SHELTER.agency, consent.id).model_dump_json(exclude_none=True)
    headers = {
        "Authorization": f"Bearer {await client.access_token()}",
        "Actor": "w-test",
        "Content-Type": "application/json",
    }
    url = f"http://127.0.0.1:{helpline.port}/v1/referrals"
    async with httpx2.AsyncClient(transport=two.network) as http:
        answers = [
            await http.post(url, content=body, headers=headers | {"Idempotency-Key": f"k-{n}"}) for n in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201]
        await ends(two)
        refused = await http.post(url, content=body, headers=headers | {"Idempotency-Key": "k-2"})
        repeated = await http.post(url, content=body, headers=headers | {"Idempotency-Key": "k-0"})
    for answer in (refused, repeated):
        assert (answer.status_code, answer.json()["code"]) == (401, "token-invalid")
        assert "invalid_token" in answer.headers["WWW-Authenticate"]
    assert len(await rows(helpline, REFERRAL)) == 2
