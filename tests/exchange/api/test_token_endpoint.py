from __future__ import annotations

from urllib.parse import urlencode

import httpx2
import pytest
from structlog.testing import CapturingLogger
from support.api_node import CLIENT, CLIENT_SEED, ISSUER, NOW, PEER, PEER_SEED, Bench

from exchange.api import access
from exchange.oauth.assertion import ASSERTION_TYPE, make_assertion, sign_with_seed
from exchange.telemetry.allowed import CODE

FORM = "application/x-www-form-urlencoded"


def made_for(issuer: str, client: str = CLIENT) -> str:
    return make_assertion(client, issuer, sign_with_seed(CLIENT_SEED), now=NOW)


def form(api: Bench, **changes: str) -> list[tuple[str, str]]:
    made = make_assertion(CLIENT, ISSUER, sign_with_seed(CLIENT_SEED), now=api.node.now)
    pairs = {
        "grant_type": "client_credentials",
        "scope": "inbox:read",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": made,
        **changes,
    }
    return list(pairs.items())


async def ask(api: Bench, pairs: list[tuple[str, str]], content_type: str = FORM) -> httpx2.Response:
    async with api.http() as http:
        return await http.post(
            "/oauth/token", content=urlencode(pairs).encode(), headers={"Content-Type": content_type}
        )


async def test_token_opens_what_it_is_for(api: Bench) -> None:
    answer = await ask(api, form(api))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["expires_in"] == 300
    async with api.http() as http:
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await http.get("/v1/inbox", headers=headers)).status_code == 200
        assert (await http.get("/v1/referrals", headers=headers)).status_code == 403


async def test_peer_gets_a_token_for_the_federation(api: Bench) -> None:
    made = make_assertion(PEER, ISSUER, sign_with_seed(PEER_SEED), now=api.node.now)
    answer = await ask(api, form(api, client_assertion=made, scope="federation"))
    assert answer.json()["scope"] == "federation"


async def test_assertion_works_once(api: Bench) -> None:
    pairs = form(api)
    assert (await ask(api, pairs)).status_code == 200
    again = await ask(api, pairs)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        pytest.param({"client_assertion": "CANARY"}, 401, "invalid_client", id="garbage-assertion"),
        pytest.param({"scope": "CANARY"}, 400, "invalid_scope", id="unknown-scope"),
        pytest.param({"scope": "federation"}, 400, "invalid_scope", id="peers-scope"),
        pytest.param({"grant_type": "password"}, 400, "unsupported_grant_type", id="other-grant"),
        pytest.param({"grant_type": ""}, 400, "invalid_request", id="no-grant"),
    ],
)
async def test_refusals_have_the_form_of_rfc_6749(api: Bench, changes: dict[str, str], status: int, error: str) -> None:
    answer = await ask(api, form(api, **changes))
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"client_assertion": "CANARY"}, "malformed", id="garbage-assertion"),
        pytest.param({"scope": "CANARY"}, "invalid-scope", id="unknown-scope"),
        pytest.param({"client_assertion": made_for("https://node.other.example")}, "audience", id="another-server"),
        pytest.param({"client_assertion": made_for(ISSUER, "nobody")}, "unknown-client", id="unknown-client"),
    ],
)
async def test_whoever_runs_the_node_reads_why(
    api: Bench, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reason: str
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(access, "get_logger", lambda: log)
    answer = await ask(api, form(api, **changes))
    assert not answer.is_success
    assert [(call.args, call.kwargs) for call in log.calls] == [(("token.refused",), {"reason": reason})]
    assert CODE(reason)


async def test_unknown_client_and_revoked_client_look_alike(api: Bench) -> None:
    api.clients.clear()
    unknown = await ask(api, form(api))
    wrong_key = make_assertion(CLIENT, ISSUER, sign_with_seed(PEER_SEED), now=api.node.now)
    forged = await ask(api, form(api, client_assertion=wrong_key))
    assert (unknown.status_code, unknown.content) == (forged.status_code, forged.content) == (401, unknown.content)


async def test_repeated_parameter_is_refused(api: Bench) -> None:
    answer = await ask(api, [*form(api), ("scope", "inbox:open")])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("content", [b"\xff=1", b"no-equals-sign", b"&".join([b"a=1"] * 40)])
async def test_unreadable_form_is_refused(api: Bench, content: bytes) -> None:
    async with api.http() as http:
        answer = await http.post("/oauth/token", content=content, headers={"Content-Type": FORM})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_other_content_type_is_415(api: Bench) -> None:
    answer = await ask(api, form(api), content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


async def test_large_form_is_413(api: Bench) -> None:
    answer = await ask(api, form(api, padding="x" * 20_000))
    assert answer.status_code == 413


async def test_metadata_is_that_of_the_issuer(api: Bench) -> None:
    async with api.http() as http:
        answer = await http.get("/.well-known/oauth-authorization-server")
    assert answer.json()["issuer"] == ISSUER
    assert answer.json()["token_endpoint"] == f"{ISSUER}/oauth/token"
