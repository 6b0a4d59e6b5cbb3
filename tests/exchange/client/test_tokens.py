"""Tokens: asked for once, renewed in time, never for another server."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from support.scripted_node import ISSUER, ScriptedNode, json_answer, problem

from exchange.client import NodeUnreachableError, ProblemError, TokenRefusedError, UnexpectedAnswerError
from exchange.oauth.scopes import Scope

HEALTH = {"status": "ready", "checks": {}}
CONTRACTS = "/v1/contracts"


def node_with_contracts() -> ScriptedNode:
    return ScriptedNode(script={CONTRACTS: [json_answer({"items": []})]})


async def test_many_tasks_share_one_token() -> None:
    node = node_with_contracts()
    async with node.client() as client:
        await asyncio.gather(*(client.federation.contracts() for _ in range(20)))
    assert node.tokens == 1


async def test_assertion_is_for_the_configured_issuer_only() -> None:
    node = node_with_contracts()
    async with node.client(issuer="https://public.example", scopes=frozenset({Scope.CONTRACTS_READ})) as client:
        await client.federation.contracts()
    (claims,) = node.assertions
    assert claims["aud"] == "https://public.example"
    assert claims["iss"] == claims["sub"] == "case-system"
    assert 0 < claims["exp"] - claims["iat"] <= 300


async def test_token_is_renewed_before_it_ends() -> None:
    node = node_with_contracts()
    async with node.client() as client:
        await client.federation.contracts()
        node.now_s += 200
        await client.federation.contracts()
        assert node.tokens == 1
        node.now_s += 30
        await client.federation.contracts()
    assert node.tokens == 2
    assert node.requests(CONTRACTS)[-1].headers["authorization"] == "Bearer token-2"


async def test_the_life_of_a_token_is_counted_from_when_it_was_asked_for() -> None:
    node = node_with_contracts()
    node.token_takes_s = 40
    async with node.client() as client:
        await client.federation.contracts()
        node.now_s += 190
        await client.federation.contracts()
    assert node.tokens == 2


async def test_refused_token_is_renewed_once_and_the_call_repeated() -> None:
    node = ScriptedNode(script={CONTRACTS: [problem(401, "token-invalid"), json_answer({"items": []})]})
    async with node.client() as client:
        assert (await client.federation.contracts()).items == ()
    assert node.tokens == 2


async def test_a_node_that_refuses_every_token_is_not_asked_for_ever() -> None:
    node = ScriptedNode(script={CONTRACTS: [problem(401, "token-invalid")]})
    async with node.client() as client:
        with pytest.raises(Exception, match="token-invalid"):
            await client.federation.contracts()
    assert node.tokens == 2
    assert len(node.requests(CONTRACTS)) == 2


async def test_acting_as_another_worker_shares_the_token() -> None:
    node = node_with_contracts()
    async with node.client(actor="w-1", unit="north") as client:
        await client.federation.contracts()
        await client.acting_as("w-2").federation.contracts()
    assert node.tokens == 1
    assert [request.headers["actor"] for request in node.asked] == ["w-1", "w-2"]
    assert {request.headers["unit"] for request in node.asked} == {"north"}


async def test_each_try_carries_a_fresh_assertion() -> None:
    node = node_with_contracts()
    node.token_answers = [httpx2.ReadError("lost"), httpx2.ReadError("lost")]
    async with node.client() as client:
        await client.federation.contracts()
    assert len({claims["jti"] for claims in node.assertions}) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(json_answer({"error": "invalid_client"}, 401), TokenRefusedError, id="unknown client"),
        pytest.param(json_answer({"error": "invalid_scope"}, 400), TokenRefusedError, id="scope not its own"),
        pytest.param(json_answer({"error": "<script>"}, 400), UnexpectedAnswerError, id="not an OAuth code"),
        pytest.param(httpx2.Response(200, text="hello"), UnexpectedAnswerError, id="not JSON"),
        pytest.param(
            httpx2.Response(302, headers={"location": "https://evil.example"}), UnexpectedAnswerError, id="redirect"
        ),
        pytest.param(
            json_answer({"access_token": "t", "token_type": "MAC", "expires_in": 300}), UnexpectedAnswerError, id="MAC"
        ),
        pytest.param(
            json_answer({"access_token": "t", "token_type": "Bearer", "expires_in": 0}),
            UnexpectedAnswerError,
            id="dead",
        ),
    ],
)
async def test_refused_token_requests(answer: httpx2.Response, expected: type[Exception]) -> None:
    node = node_with_contracts()
    node.token_answers = [answer]
    async with node.client() as client:
        with pytest.raises(expected) as told:
            await client.federation.contracts()
    assert "script" not in str(told.value)
    assert node.asked == []


async def test_whose_token_is_refused_hears_of_the_address_too() -> None:
    """A node at `localhost` whose public address has a number refuses every proof, and key and clock are right."""
    node = node_with_contracts()
    node.token_answers = [json_answer({"error": "invalid_client"}, 401)]
    async with node.client() as client:
        with pytest.raises(TokenRefusedError, match=r"`issuer`.*clock.*whoever runs your node"):
            await client.federation.contracts()


async def test_a_scope_too_many_is_named_as_that() -> None:
    """By default every scope is asked for; whoever was registered with three has no wrong clock and no wrong key."""
    node = node_with_contracts()
    node.token_answers = [json_answer({"error": "invalid_scope"}, 400)]
    async with node.client() as client:
        with pytest.raises(TokenRefusedError) as told:
            await client.federation.contracts()
    assert "scopes" in str(told.value)
    assert "clock" not in str(told.value)


@pytest.mark.parametrize(("status", "tries"), [(429, 4), (503, 4), (500, 1), (413, 1)])
async def test_a_node_that_gives_no_token_now_says_so_itself(status: int, tries: int) -> None:
    """Not an OAuth refusal, and not something else in the node's place."""
    node = node_with_contracts()
    node.token_answers = [problem(status, "its-own-code", who="node", retry_after=0)] * 4
    async with node.client() as client:
        with pytest.raises(ProblemError) as told:
            await client.federation.contracts()
    assert (told.value.problem.status, told.value.problem.code, told.value.problem.who) == (
        status,
        "its-own-code",
        "node",
    )
    assert (node.tokens, node.asked) == (tries, [])


async def test_unreachable_token_endpoint() -> None:
    node = node_with_contracts()
    node.token_answers = [httpx2.ConnectError("down")] * 4
    async with node.client() as client:
        with pytest.raises(NodeUnreachableError):
            await client.access_token()
    assert node.tokens == 4


def test_issuer_is_the_address_unless_told_otherwise() -> None:
    client = ScriptedNode().client()
    assert client._tokens._credentials.issuer == ISSUER
