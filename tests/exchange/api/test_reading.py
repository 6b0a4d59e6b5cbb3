"""Lists, links, negotiation and caches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.api_node import Bench
from support.committed_openapi import operations

from exchange.api.examples import EXAMPLES
from exchange.api.rendering import ENVELOPE
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.node import Health

ITEM = "/v1/inbox/3c81d7f05ae94b2f96b0d4e8172c5fa6"
REFERRAL = "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94"
CONSENT = "/v1/consents/5d2f0c1ab94e4c7f8a6e1b3d9c7f0a21"


def headers(api: Bench, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token()}", "Actor": "worker-1", **more}


async def test_inbox_query_reaches_the_use_case_and_the_link(api: Bench) -> None:
    async with api.http() as http:
        query = f"cursor=12&limit=5&wait=25&state=new&referral={REFERRAL}"
        answer = await http.get(f"/v1/inbox?{query}", headers=headers(api, Unit="penang"))
    assert api.calls[0][2] == {
        "cursor": "12",
        "limit": 5,
        "wait": 25.0,
        "status": "new",
        "order": "arrival",
        "unit": "penang",
        "referral": REFERRAL,
    }
    link = f"/v1/inbox?cursor=57&limit=5&wait=25&state=new&referral={REFERRAL}"
    assert answer.headers["link"] == f'<{link}>; rel="next"'
    assert answer.json()["next_cursor"] == "57"


async def test_referral_changes_link(api: Bench) -> None:
    async with api.http() as http:
        answer = await http.get("/v1/referrals?cursor=9&wait=2.5", headers=headers(api))
    assert api.calls[0][1] == ("9", 2.5, None)
    assert answer.headers["link"] == '</v1/referrals?cursor=184&wait=2>; rel="next"'


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=0", id="no-items"),
        pytest.param("limit=101", id="too-many"),
        pytest.param("limit=CANARY", id="no-number"),
        pytest.param("wait=26", id="too-long"),
        pytest.param("wait=-1", id="backwards"),
        pytest.param("wait=nan", id="not-a-number"),
        pytest.param("state=CANARY", id="unknown-state"),
        pytest.param("referral=CANARY", id="no-id"),
        pytest.param("order=CANARY", id="unknown-order"),
        pytest.param("cursor=CAN%20ARY", id="cursor-with-space"),
        pytest.param("cursor=" + "9" * 201, id="long-cursor"),
        pytest.param("CANARY=1", id="unknown-parameter"),
    ],
)
async def test_query_out_of_range_is_refused(api: Bench, query: str) -> None:
    async with api.http() as http:
        answer = await http.get(f"/v1/inbox?{query}", headers=headers(api))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "CAN" not in answer.text
    assert api.calls == []


@pytest.mark.parametrize("lease", ["a\0b", "", "x" * 129, "\u202e", "a b"])
async def test_what_can_be_no_lease_is_refused_before_it_is_looked_for(api: Bench, lease: str) -> None:
    async with api.http() as http:
        answer = await http.put(f"{ITEM}/acknowledgement", json={"lease": lease}, headers=headers(api))
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (422, "lease")
    assert api.calls == []


@pytest.mark.parametrize(
    "until", ["1799000000", "1799000000000", "2027-01-01 00:00Z", "2027-01-01T00:00:00", "9999-12-31T23:59:59-14:00"]
)
async def test_a_renewal_ends_at_a_written_moment(api: Bench, until: str) -> None:
    async with api.http() as http:
        answer = await http.post(f"{CONSENT}/renewal", json={"until": until}, headers=headers(api))
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (422, "until")
    assert api.calls == []


async def test_advice_takes_moment_and_channel(api: Bench) -> None:
    async with api.http() as http:
        good = await http.get(
            f"{ITEM}/contact-advice",
            params={"at": "2026-11-29T14:00:00+08:00", "channel": "signal"},
            headers=headers(api),
        )
        naive = await http.get(f"{ITEM}/contact-advice?at=2026-11-29T14:00:00", headers=headers(api))
        number = await http.get(f"{ITEM}/contact-advice?at=1795400000", headers=headers(api))
    assert good.status_code == 200
    assert api.calls[0][1][2] == "signal"
    assert api.calls[0][1][3] == datetime(2026, 11, 29, 6, tzinfo=UTC)
    assert (naive.status_code, number.status_code) == (422, 422)


@pytest.mark.parametrize(
    "at",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59.999Z",
        "9999-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
async def test_there_is_no_advice_about_the_ends_of_the_calendar(api: Bench, at: str) -> None:
    async with api.http() as http:
        answer = await http.get(f"{ITEM}/contact-advice", params={"at": at}, headers=headers(api))
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (422, "query.at")
    assert api.calls == []


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.9999Z"])
async def test_there_is_advice_about_every_year_between(api: Bench, at: str) -> None:
    async with api.http() as http:
        answer = await http.get(f"{ITEM}/contact-advice", params={"at": at}, headers=headers(api))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("accept", "sealed"),
    [
        pytest.param(ENVELOPE, True, id="asked"),
        pytest.param(f"text/html, {ENVELOPE};q=0.5", True, id="among-others"),
        pytest.param("Application/Vnd.Referral-Envelope+JSON", True, id="capitals"),
        pytest.param(f"{ENVELOPE};q=0", False, id="refused"),
        pytest.param("application/json", False, id="json"),
        pytest.param("*/*", False, id="anything"),
    ],
)
async def test_sealed_envelope_by_its_media_type(api: Bench, accept: str, sealed: bool) -> None:
    async with api.http() as http:
        answer = await http.get(ITEM, headers=headers(api, Accept=accept))
    assert answer.headers["content-type"] == (ENVELOPE if sealed else "application/json")
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-store"
    assert api.calls[0][0] == ("sealed_envelope" if sealed else "open_item")
    if sealed:
        assert answer.json() == EXAMPLES[WireEnvelope]


@pytest.mark.parametrize(
    "path",
    ["/v1/contracts/" + "6b" * 32, "/.well-known/referral-node", "/openapi.json", "/docs/assets/docs.js"],
)
async def test_impersonal_documents_are_revalidated(api: Bench, path: str) -> None:
    async with api.http() as http:
        first = await http.get(path, headers=headers(api))
        again = await http.get(path, headers=headers(api, **{"If-None-Match": first.headers["etag"]}))
        other = await http.get(path, headers=headers(api, **{"If-None-Match": '"other"'}))
    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.content == b""


def test_the_documents_say_what_is_revalidated() -> None:
    named = {one.path for one in operations() if "304" in one.described["responses"]}
    assert named == {
        "/.well-known/oauth-authorization-server",
        "/.well-known/referral-node",
        "/v1/contracts/{digest}",
        "/federation/v1/roster",
    }


async def test_same_body_elsewhere_is_another_request(api: Bench) -> None:
    body: dict[str, Any] = {"content": {"expected_stay": "weeks"}}
    async with api.http() as http:
        for referral in ("9f" * 16, "8e" * 16):
            await http.post(
                f"/v1/referrals/{referral}/information",
                json=body,
                headers=headers(api, **{"Idempotency-Key": "one"}),
            )
    first, second = (call[1][3] for call in api.calls)
    assert (first.client_id, first.key) == (second.client_id, second.key)
    assert first.body != second.body


@pytest.mark.parametrize("path", ["recall", "release", "entered-in-error"])
@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"", 200, id="none"),
        pytest.param(b"{}", 200, id="empty-object"),
        pytest.param(b'{"reason": "CANARY"}', 422, id="something"),
    ],
)
async def test_calls_without_a_body_take_none(api: Bench, path: str, content: bytes, status: int) -> None:
    async with api.http() as http:
        answer = await http.post(
            f"/v1/referrals/{'9f' * 16}/{path}",
            content=content,
            headers=headers(api, **({"Content-Type": "application/json"} if content else {})),
        )
    assert answer.status_code == status
    assert "CANARY" not in answer.text


async def test_not_ready_is_503(api: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def readiness(_node: Any) -> Health:
        return Health(status="not-ready", checks={"database": "away"})

    monkeypatch.setattr("exchange.api.health.readiness", readiness)
    async with api.http() as http:
        answer = await http.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "away"})


async def test_hsts_only_behind_tls(api: Bench) -> None:
    api.node.issuer = "http://127.0.0.1:8080"
    async with api.http() as http:
        assert "strict-transport-security" not in (await http.get("/health/live")).headers
