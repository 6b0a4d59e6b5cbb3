"""Every call of both documents: valid, anonymous, revoked, with a token for something else, and malformed in every way.

The calls come from the OpenAPI documents themselves, so that a route cannot be forgotten here and the documented
examples are known to work.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from support.api_node import CLIENT, NOW, PEER, Bench, Example, documents, examples_of

from exchange.api import bodies
from exchange.oauth.bearer import Caller
from exchange.oauth.scopes import CLIENT_SCOPES, Scope

CALLS = examples_of(documents().values())
GUARDED = [call for call in CALLS if call.scope is not None]
PERSONAL = [call for call in GUARDED if call.name not in {"get_contract", "get_roster_mirror"}]
CREATING = [call for call in CALLS if "Idempotency-Key" in call.headers]
ACTING = [call for call in CALLS if "Actor" in call.headers]
# A batch is read, strictly, by the use case behind the hot route.
MODELLED = [call for call in CALLS if call.takes_body and call.name != "receive_envelope_batch"]
CANARY = "Maria-Canary-90210"


def name(call: Example) -> str:
    return call.name


async def send(api: Bench, call: Example, *, token: str | None, **changes: Any) -> httpx2.Response:
    headers = dict(call.headers)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = json.dumps(call.body).encode() if call.takes_body else None
    if content is not None:
        headers["Content-Type"] = "application/json"
    headers |= changes.pop("headers", {})
    content = changes.pop("content", content)
    without = changes.pop("without", None)
    if without is not None:
        headers.pop(without, None)
    async with api.http() as http:
        return await http.request(call.method, call.path, headers=headers, content=content)


def good_token(api: Bench, call: Example) -> str | None:
    if call.scope is None:
        return None
    return api.token(peer=True) if call.scope is Scope.FEDERATION else api.token(call.scope)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"].endswith(f"#{code}")
    assert CANARY not in answer.text
    return document


@pytest.mark.parametrize("call", CALLS, ids=name)
async def test_documented_example_works(api: Bench, call: Example) -> None:
    answer = await send(api, call, token=good_token(api, call))
    assert answer.status_code == call.status, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["strict-transport-security"]
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("call", PERSONAL, ids=name)
async def test_nothing_personal_is_cached(api: Bench, call: Example) -> None:
    assert (await send(api, call, token=good_token(api, call))).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("call", GUARDED, ids=name)
async def test_anonymous_is_401(api: Bench, call: Example) -> None:
    answer = await send(api, call, token=None)
    refused(answer, 401, "token-missing")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert api.calls == []


@pytest.mark.parametrize("call", GUARDED, ids=name)
async def test_another_scope_is_403(api: Bench, call: Example) -> None:
    others = CLIENT_SCOPES - {call.scope}
    answer = await send(api, call, token=api.token(*others))
    refused(answer, 403, "insufficient-scope")
    assert f'scope="{call.scope}"' in answer.headers["www-authenticate"]
    assert api.calls == []


@pytest.mark.parametrize("call", GUARDED, ids=name)
async def test_client_and_peer_are_never_taken_for_each_other(api: Bench, call: Example) -> None:
    token = api.token() if call.scope is Scope.FEDERATION else api.token(peer=True)
    refused(await send(api, call, token=token), 403, "insufficient-scope")
    assert api.calls == []


@pytest.mark.parametrize("call", GUARDED, ids=name)
async def test_revoked_between_two_calls_is_401(api: Bench, call: Example) -> None:
    token = good_token(api, call)
    assert (await send(api, call, token=token)).status_code == call.status
    api.revoked |= {CLIENT, PEER}
    refused(await send(api, call, token=token), 401, "token-invalid")
    if call.scope is not Scope.FEDERATION:
        refused(await send(api, call, token=api.token(Scope.CONTRACTS_READ)), 401, "token-invalid")


@pytest.mark.parametrize("call", [call for call in GUARDED if call.takes_body], ids=name)
async def test_revoked_while_the_body_is_held_back_is_401(
    api: Bench, call: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a stolen key would act a little more than two minutes after it was revoked."""
    passed = 0.0
    monkeypatch.setattr(bodies, "elapsed_s", lambda: passed)
    whole = json.dumps(call.body).encode()

    async def held_back() -> AsyncIterator[bytes]:
        nonlocal passed
        yield whole[:1]
        api.revoked |= {CLIENT, PEER}
        passed += 2
        yield whole[1:]

    refused(await send(api, call, token=good_token(api, call), content=held_back()), 401, "token-invalid")
    assert api.calls == []


async def test_a_body_that_comes_at_once_costs_no_second_question(api: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def standing(_node: object, caller: Caller) -> bool:
        asked.append(caller.client_id)
        return True

    monkeypatch.setattr("exchange.api.callers.client_standing", standing)
    call = next(call for call in CREATING if call.takes_body)
    assert (await send(api, call, token=good_token(api, call))).status_code == call.status
    assert asked == [CLIENT]


@pytest.mark.parametrize("call", GUARDED, ids=name)
async def test_expired_is_401(api: Bench, call: Example) -> None:
    token = good_token(api, call)
    api.node.now = NOW + 301_000
    refused(await send(api, call, token=token), 401, "token-invalid")


@pytest.mark.parametrize("call", MODELLED, ids=name)
async def test_anonymous_body_is_never_read(api: Bench, call: Example) -> None:
    refused(await send(api, call, token=None, content=b"{" * 10_000), 401, "token-missing")


@pytest.mark.parametrize("call", ACTING, ids=name)
@pytest.mark.parametrize(
    "actor",
    [
        pytest.param("Maria Canary", id="space"),
        pytest.param("a" * 65, id="long"),
        pytest.param("", id="empty"),
        pytest.param("m@ria", id="sign"),
    ],
)
async def test_actor_has_one_form(api: Bench, call: Example, actor: str) -> None:
    document = refused(
        await send(api, call, token=good_token(api, call), headers={"Actor": actor}), 400, "header-invalid"
    )
    assert document["fields"][0]["path"] == "header.Actor"


@pytest.mark.parametrize("call", ACTING, ids=name)
async def test_actor_is_required(api: Bench, call: Example) -> None:
    refused(await send(api, call, token=good_token(api, call), without="Actor"), 400, "header-missing")
    assert api.calls == []


@pytest.mark.parametrize("call", CREATING, ids=name)
async def test_idempotency_key_is_required(api: Bench, call: Example) -> None:
    refused(await send(api, call, token=good_token(api, call), without="Idempotency-Key"), 400, "header-missing")
    long = await send(api, call, token=good_token(api, call), headers={"Idempotency-Key": "k" * 129})
    refused(long, 400, "header-invalid")
    spaced = await send(api, call, token=good_token(api, call), headers={"Idempotency-Key": "two words"})
    refused(spaced, 400, "header-invalid")
    assert api.calls == []


@pytest.mark.parametrize("call", [call for call in CREATING if call.method == "POST"], ids=name)
async def test_repeat_is_200_with_the_first_answer(api: Bench, call: Example) -> None:
    first = await send(api, call, token=good_token(api, call))
    api.repeated = True
    again = await send(api, call, token=good_token(api, call))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content


def _bodies(call: Example) -> list[Any]:
    raw = json.dumps(call.body).encode()
    member = next(iter(call.body))
    repeated = raw[:-1] + b", " + json.dumps(member).encode() + b": " + json.dumps(call.body[member]).encode() + b"}"
    return [
        pytest.param(call, b"", "not-json" if call.name not in OPTIONAL else None, id=f"{call.name}-empty"),
        pytest.param(call, raw[:-1], "not-json", id=f"{call.name}-cut-short"),
        pytest.param(call, b'["' + CANARY.encode() + b'"]', "not-json", id=f"{call.name}-list"),
        pytest.param(call, b"\xef\xbb\xbf" + raw, "not-json", id=f"{call.name}-byte-order-mark"),
        pytest.param(call, raw.decode().encode("utf-16"), "not-json", id=f"{call.name}-utf-16"),
        pytest.param(call, b"[" * 5000, "not-json", id=f"{call.name}-deep"),
        pytest.param(call, b'{"a": NaN}', "not-json", id=f"{call.name}-not-a-number"),
        pytest.param(call, json.dumps({**call.body, member: None}).encode(), "null-member", id=f"{call.name}-null"),
        pytest.param(call, repeated, "repeated-member", id=f"{call.name}-repeated"),
    ]


OPTIONAL = {"lease_inbox_item", "acknowledge_inbox_item"}


@pytest.mark.parametrize(
    ("call", "content", "code"), [case for call in MODELLED for case in _bodies(call) if case.values[2]]
)
async def test_malformed_body_is_400(api: Bench, call: Example, content: bytes, code: str) -> None:
    refused(await send(api, call, token=good_token(api, call), content=content), 400, code)
    assert api.calls == []


@pytest.mark.parametrize("call", MODELLED, ids=name)
async def test_unknown_member_is_refused_without_its_name(api: Bench, call: Example) -> None:
    content = json.dumps({**call.body, CANARY: CANARY}).encode()
    document = refused(await send(api, call, token=good_token(api, call), content=content), 422, "invalid-request")
    assert {"path": "$", "code": "unknown-member"}.items() <= document["fields"][0].items()


@pytest.mark.parametrize("call", MODELLED, ids=name)
async def test_wrong_type_is_refused_without_its_value(api: Bench, call: Example) -> None:
    for member in call.body:
        changed = {**call.body, member: {CANARY: [CANARY]}}
        answer = await send(api, call, token=good_token(api, call), content=json.dumps(changed).encode())
        document = refused(answer, 422, "invalid-request")
        assert any(field["path"].startswith(member) for field in document["fields"]), document


@pytest.mark.parametrize("call", MODELLED, ids=name)
async def test_no_text_anywhere_is_echoed(api: Bench, call: Example) -> None:
    """Every string of the example, one after the other, replaced by the canary: refused or taken, never repeated."""
    for place in _strings(call.body):
        changed = copy.deepcopy(call.body)
        target = changed
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = CANARY
        answer = await send(api, call, token=good_token(api, call), content=json.dumps(changed).encode())
        assert answer.status_code in {call.status, 422}
        assert CANARY not in answer.text


def _strings(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, str):
        return [place]
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for step, inner in steps for found in _strings(inner, (*place, step))]


@pytest.mark.parametrize("call", [call for call in CALLS if call.takes_body], ids=name)
@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("text/plain", id="text"),
        pytest.param("application/x-www-form-urlencoded", id="form"),
        pytest.param("application/json; charset=iso-8859-1", id="latin"),
        pytest.param("application/merge-patch+json", id="patch"),
        pytest.param("", id="none"),
    ],
)
async def test_other_content_type_is_415(api: Bench, call: Example, content_type: str) -> None:
    answer = await send(api, call, token=good_token(api, call), headers={"Content-Type": content_type})
    refused(answer, 415, "unsupported-media-type")
    assert api.calls == []


@pytest.mark.parametrize("call", [call for call in CALLS if call.takes_body], ids=name)
async def test_too_large_is_413(api: Bench, call: Example) -> None:
    size = 4 * 1024 * 1024 + 1 if call.scope is Scope.FEDERATION and call not in MODELLED else 256 * 1024 + 1
    content = json.dumps({"padding": CANARY}).encode().ljust(size)
    refused(await send(api, call, token=good_token(api, call), content=content), 413, "body-too-large")
    assert api.calls == []


@pytest.mark.parametrize("call", [call for call in CALLS if "/v1/" in call.path], ids=name)
async def test_an_id_in_another_form_is_404(api: Bench, call: Example) -> None:
    for value in (CALLS[0].path, "3c81d7f05ae94b2f96b0d4e8172c5fa6", "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94"):
        if value in call.path and value.startswith(("3c", "9f")):
            path = call.path.replace(value, CANARY)
            changed = Example(**{**{f: getattr(call, f) for f in call.__dataclass_fields__}, "path": path})
            refused(await send(api, changed, token=good_token(api, call)), 404, "not-found")
    assert api.calls == []
