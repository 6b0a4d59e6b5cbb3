"""A token that was checked once is remembered; whether it may still be used is asked at every call."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import rows

from exchange.cli.profile import read_profile
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.oauth.assertion import token_request
from exchange.oauth.compact import write_compact
from exchange.storage.access import revoke_client
from exchange.storage.tables import REFERRAL


async def revoked(two: Federation) -> None:
    client_id = read_profile(two[HELPLINE].home).client_id
    assert await two[HELPLINE].node.database.write(lambda conn: revoke_client(conn, client_id))


async def expired(two: Federation) -> None:
    two.clock.pass_by(seconds=two[HELPLINE].node.limits.token_s + 1)


@pytest.mark.parametrize("subject", ["\ud800", "a\0b", "nobody-here"], ids=["half-a-character", "zero", "unknown"])
async def test_who_can_be_no_client_is_refused_as_an_unknown_one_is(on_both: Federation, subject: str) -> None:
    node = on_both[HELPLINE]
    assertion = write_compact({"alg": "Ed25519"}, {"sub": "SUBJECT"}, lambda _: bytes(64)).split(".")
    claims = json.dumps({"sub": subject}).encode()
    assertion[1] = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    form = token_request(".".join(assertion), "inbox:read")
    async with httpx2.AsyncClient(transport=on_both.network) as http:
        answer = await http.post(f"http://127.0.0.1:{node.port}/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


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
