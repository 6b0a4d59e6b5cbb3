"""Every operation of both documents against real nodes: as anonymous, with a token for something else, for another
branch's object, for an object that does not exist, and valid.

A route that is missing from the table fails a test of its own, and each answer is held against the committed document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from support.committed_openapi import Described, assert_promised, operations
from support.endpoint_table import TABLE, Row
from support.http_world import NOBODYS_ID, NORTH, SOUTH, Ask, HttpWorld

from exchange.api.api import ROUTERS
from exchange.api.documentation import router as pages
from exchange.oauth.assertion import token_request
from exchange.oauth.scopes import CLIENT_SCOPES, Scope

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATIONS = operations()
GUARDED = [one for one in OPERATIONS if one.scope is not None]
OF_CLIENTS = [one for one in GUARDED if one.scope != Scope.FEDERATION]
NAMED = [one for one in GUARDED if "{" in one.path]
OWNED = [one for one in OF_CLIENTS if TABLE.get(one.name, Row(lambda _: NotImplemented)).elsewhere != "nothing"]
_NOBODYS = {
    "referral_id": NOBODYS_ID,
    "item_id": NOBODYS_ID,
    "consent_id": NOBODYS_ID,
    "digest": NOBODYS_ID * 2,
    "agency": "nobody-at-all",
}


def every(listed: list[Described]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", listed, ids=str)


async def answered(
    world: HttpWorld,
    operation: Described,
    ask: Ask,
    token: str | None,
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    answer = await world.send(ask, operation.method, operation.path, token=token, headers=headers)
    assert_promised(operation, answer)
    return answer


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return problem


async def test_every_route_is_in_the_table() -> None:
    assert {one.name for one in OPERATIONS} == set(TABLE)
    served = {(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods}
    for_people = {("GET", route.path) for route in pages.routes}
    assert {one for one in served if one[0] != "HEAD"} == for_people | {(one.method, one.path) for one in OPERATIONS}


@every(GUARDED)
async def test_anonymous_is_401(world: HttpWorld, operation: Described) -> None:
    ask = Ask(world.shelter, _NOBODYS, {})
    problem = refused(await answered(world, operation, ask, None), 401, "token-missing")
    assert problem["who"] == "sender"
    refused(await answered(world, operation, ask, "eyJhbGciOiJub25lIn0.e30."), 401, "token-invalid")


@every(GUARDED)
async def test_token_for_something_else_is_403(world: HttpWorld, operation: Described) -> None:
    ask = Ask(world.shelter, _NOBODYS, {})
    others = CLIENT_SCOPES - {Scope(operation.scope)}
    token = await world.token(world.shelter, None, others)
    refused(await answered(world, operation, ask, token), 403, "insufficient-scope")
    if operation.scope != Scope.FEDERATION:
        refused(await answered(world, operation, ask, await world.peer_token(world.shelter)), 403, "insufficient-scope")


@every(NAMED)
async def test_what_does_not_exist_is_404(world: HttpWorld, operation: Described) -> None:
    made = await TABLE[operation.name].make(world)
    ask = Ask(made.node, _NOBODYS, made.body, made.query)
    refused(await answered(world, operation, ask, await world.token(ask.node)), 404, "not-found")


@every(OWNED)
async def test_another_branchs_object_does_not_exist(world: HttpWorld, operation: Described) -> None:
    row = TABLE[operation.name]
    ask = await row.make(world)
    bound = await answered(world, operation, ask, await world.token(ask.node, SOUTH))
    _stays_unseen(row, ask, bound)
    # A system of the whole agency that names a branch sees no more than that branch.
    named = await answered(world, operation, ask, await world.token(ask.node, None), {"Unit": SOUTH})
    _stays_unseen(row, ask, named)


def _stays_unseen(row: Row, ask: Ask, answer: httpx2.Response) -> None:
    if row.elsewhere == "404":
        refused(answer, 404, "not-found")
    elif row.elsewhere == "403":
        refused(answer, 403, "no-consent")
    elif row.elsewhere == "422":
        refused(answer, 422, "unknown-subject")
    elif row.elsewhere == "missing":
        assert answer.json() == {"items": [], "missing": ask.body["ids"], "withheld": []}
    elif "items" in answer.json():
        assert ask.hidden not in answer.text
    else:
        assert answer.json()["code"] == "no-consent"


@every(OF_CLIENTS)
async def test_a_bound_system_cannot_name_another_branch(world: HttpWorld, operation: Described) -> None:
    ask = Ask(world.shelter, _NOBODYS, {})
    token = await world.token(world.shelter, NORTH)
    refused(await answered(world, operation, ask, token, {"Unit": SOUTH}), 403, "unit-not-yours")


@every(GUARDED)
async def test_valid_is_as_documented(world: HttpWorld, operation: Described) -> None:
    ask = await TABLE[operation.name].make(world)
    peer = operation.scope == Scope.FEDERATION
    token = await (world.peer_token(ask.node) if peer else world.token(ask.node, NORTH))
    answer = await answered(world, operation, ask, token)
    assert answer.is_success, answer.text
    assert answer.status_code == (201 if "201" in operation.described["responses"] else 200)
    if TABLE[operation.name].elsewhere == "hidden" and "items" in answer.json():
        assert answer.json()["items"] != []


@every([one for one in OPERATIONS if one.scope is None and one.name != "issue_token"])
async def test_public_is_as_documented(world: HttpWorld, operation: Described) -> None:
    ask = await TABLE[operation.name].make(world)
    answer = await answered(world, operation, ask, None)
    assert answer.status_code == 200, answer.text


@every([one for one in OPERATIONS if one.name == "issue_token"])
async def test_token_is_as_documented(world: HttpWorld, operation: Described) -> None:
    node = world.shelter
    assertion = "eyJhbGciOiJub25lIn0.e30."
    async with world.http(node) as http:
        wrong = await http.post(operation.path, data=token_request(assertion, "inbox:read"))
    assert_promised(operation, wrong)
    assert wrong.status_code == 401
    assert await world.token(node)
