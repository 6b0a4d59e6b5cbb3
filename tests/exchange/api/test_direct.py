"""The hot routes answer the same with and without FastAPI between: status, headers, body, and what is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import FastAPI, Header, Query
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from support.api_node import CLIENT, ISSUER, PEER, Bench, bench

from exchange.api.arriving import InTime
from exchange.api.bodies import LARGEST_BODY
from exchange.api.direct import HOT, Direct, DirectRoute, NotDirectError
from exchange.api.examples import EXAMPLES
from exchange.api.parameters import ReferralId
from exchange.oauth.scopes import Scope as Right
from exchange.schemas.inbox import OpenRequest
from exchange.schemas.referrals import ReferralRequest
from exchange.storage.errors import CommitFailedError, StorageBusyError
from exchange.use_cases.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError

HAND_IN, DELIVER, LIST, OPEN = HOT
REFERRAL = json.dumps(EXAMPLES[ReferralRequest]).encode()
OPENING = json.dumps(EXAMPLES[OpenRequest]).encode()
WRITING = {"Actor": "w-1", "Idempotency-Key": "k-1", "Content-Type": "application/json"}
HANDED_IN = (Right.REFERRALS_WRITE,)


@dataclass
class Case:
    """One request, and how the node behaves at it."""

    name: str
    route: tuple[str, str] = HAND_IN
    body: bytes = REFERRAL
    headers: dict[str, str] = field(default_factory=lambda: dict(WRITING))
    twice: str | None = None
    scopes: tuple[Right, ...] = HANDED_IN
    token: bool = True
    peer: bool = False
    query: str = ""
    method: str | None = None
    failure: Exception | None = None
    repeated: bool = False
    revoked: bool = False
    age_s: int = 0
    status: int = 201

    def __str__(self) -> str:
        return self.name


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in WRITING.items() if key != name}


def delivery(name: str, status: int, **more: Any) -> Case:
    headers = {"Content-Type": "application/json"}
    return Case(name, DELIVER, b'{"envelopes":[]}', headers, peer=True, status=status, **more)


def listing(name: str, query: str, status: int, **more: Any) -> Case:
    return Case(name, LIST, b"", {}, scopes=(Right.INBOX_READ,), query=query, status=status, **more)


def opening(name: str, status: int, **more: Any) -> Case:
    given = {"body": OPENING, "scopes": (Right.INBOX_OPEN,), **more}
    return Case(name, OPEN, status=status, **given)


CASES = [
    Case("handed-in"),
    Case("handed-in-again", repeated=True, status=200),
    Case("no-token", token=False, status=401),
    Case("token-expired", age_s=301, status=401),
    Case("client-revoked", revoked=True, status=401),
    Case("other-scope", scopes=(Right.INBOX_READ,), status=403),
    Case("token-of-a-peer", peer=True, status=403),
    Case("authorization-twice", twice="Authorization", status=400),
    Case("no-actor", headers=without("Actor"), status=400),
    Case("actor-twice", twice="Actor", status=400),
    Case("actor-with-a-space", headers=WRITING | {"Actor": "two words"}, status=400),
    Case("unit-with-a-space", headers=WRITING | {"Unit": "two words"}, status=400),
    Case("no-key", headers=without("Idempotency-Key"), status=400),
    Case("key-twice", twice="Idempotency-Key", status=400),
    Case("no-content-type", headers=without("Content-Type"), status=415),
    Case("another-content-type", headers=WRITING | {"Content-Type": "text/plain"}, status=415),
    Case("empty", body=b"", status=400),
    Case("not-json", body=b"{", status=400),
    Case("a-list", body=b"[]", status=400),
    Case("too-deep", body=b"[" * 40 + b"]" * 40, status=400),
    Case("member-twice", body=b'{"to":"a","to":"b"}', status=400),
    Case("null", body=b'{"to":null}', status=400),
    Case("unknown-member", body=REFERRAL[:-1] + b',"canary":1}', status=422),
    Case("missing-members", body=b"{}", status=422),
    Case("too-large", body=b" " * (LARGEST_BODY + 1), status=413),
    Case("gate-says-no", failure=ForbiddenError("no-consent", "There is no consent record."), status=403),
    Case("conflict", failure=ConflictError("idempotency-key-reused", "Use a new key."), status=409),
    Case("not-found", failure=NotFoundError("not-found", "There is nothing here."), status=404),
    Case("peer-keys-unknown", failure=UnavailableError("peer-keys-unknown", "Not now."), status=503),
    Case("busy", failure=StorageBusyError("CANARY"), status=503),
    Case("commit-failed", failure=CommitFailedError("CANARY"), status=503),
    Case("broken", failure=ZeroDivisionError("CANARY"), status=500),
    Case("another-method", method="PUT", status=405),
    Case("head", method="HEAD", status=405),
    delivery("delivered", 200),
    delivery("delivered-without-token", 401, token=False),
    delivery("peer-that-left", 401, revoked=True),
    delivery("delivery-broken", 500, failure=ZeroDivisionError("CANARY")),
    listing("listed", "", 200),
    listing("listed-with-everything", "?cursor=12&limit=7&wait=3&state=new&order=urgent", 200),
    listing("limit-too-large", "?limit=101", 422),
    listing("limit-twice", "?limit=101&limit=7", 422),
    listing("unknown-parameter", "?canary=1", 422),
    listing("bad-query-without-token", "?limit=x", 401, token=False),
    listing("list-with-delete", "", 405, method="DELETE"),
    opening("opened", 200),
    opening("opened-too-many", 422, body=b'{"ids":[]}'),
    opening("opened-with-reading-right", 403, scopes=(Right.INBOX_READ,)),
]


class Typed:
    """The application as FastAPI would be it alone."""

    def __init__(self, app: FastAPI) -> None:
        assert isinstance(app.middleware_stack, InTime)
        assert isinstance(app.middleware_stack.app, Direct)
        self.app, self.inner = app, InTime(app.middleware_stack.app.app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.app
        await self.inner(scope, receive, send)


@pytest.fixture(scope="module")
def api() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield bench(patch)


async def asked(api: Bench, app: Any, case: Case, token: str) -> tuple[int, list[tuple[bytes, bytes]], bytes, Any]:
    headers = list(case.headers.items()) + ([("Authorization", f"Bearer {token}")] if case.token else [])
    headers += [header for header in headers if header[0] == case.twice]
    api.calls.clear()
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=ISSUER) as http:
        method, path = case.route
        answer = await http.request(case.method or method, path + case.query, content=case.body, headers=headers)
        return answer.status_code, sorted(answer.headers.raw), answer.content, list(api.calls)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_both_ways_answer_the_same(api: Bench, case: Case) -> None:
    api.failure, api.repeated = case.failure, case.repeated
    api.revoked = {CLIENT, PEER} if case.revoked else set()
    token = api.token(*case.scopes, peer=case.peer)
    api.node.now += case.age_s * 1000
    directly = await asked(api, api.app, case, token)
    typed = await asked(api, Typed(api.app), case, token)
    assert directly == typed
    assert directly[0] == case.status
    assert b"CANARY" not in directly[2].upper()


@pytest.mark.parametrize(("method", "path"), HOT, ids=lambda value: value.strip("/").replace("/", "-"))
async def test_fastapi_is_not_asked(api: Bench, method: str, path: str) -> None:
    async def inner(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("FastAPI was asked")

    direct = Direct(inner, [context.original_route for context in iter_route_contexts(api.app.routes)])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = api.app
        await direct(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ISSUER) as http:
        assert (await http.request(method, path)).status_code == 401


async def test_traced_request_goes_through_fastapi(api: Bench) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope |= {"app": api.app, "fastapi.telemetry": object()}
        assert api.app.middleware_stack is not None
        seen.append(scope)
        await api.app.middleware_stack(scope, receive, send)

    seen: list[Scope] = []
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=ISSUER) as http:
        assert (await http.post(HAND_IN[1])).status_code == 401
    assert seen[0]["route"].path == HAND_IN[1]


async def by_path(referral_id: ReferralId) -> Response:
    del referral_id
    return Response()


async def by_header(actor: Annotated[str, Header()]) -> Response:
    del actor
    return Response()


async def by_single_parameter(limit: Annotated[int, Query()]) -> Response:
    del limit
    return Response()


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [("/a/{referral_id}", by_path), ("/b", by_header), ("/c", by_single_parameter)],
    ids=["path", "header", "single parameter"],
)
def test_what_is_not_understood_is_refused_when_built(path: str, endpoint: Any) -> None:
    with pytest.raises(NotDirectError):
        DirectRoute(APIRoute(path, endpoint), otherwise=FastAPI())
