"""Generated requests, right and wrong ones, against real nodes with real tokens; the same ones in every run.

Whatever comes in: never a 5xx, never an undocumented status, media type or body, a problem document for every refusal,
nothing repeated of what was sent; and what the document allows is not refused as malformed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from support.committed_openapi import Described, assert_promised, document, operations
from support.endpoint_table import TABLE
from support.http_world import Ask, HttpWorld, http_world

from exchange.oauth.scopes import Scope

T = TypeVar("T")
SCHEMAS = {name: schemathesis.openapi.from_dict(document(name)) for name in ("openapi", "federation")}
OPERATIONS = [one for one in operations() if one.name != "issue_token"]
WITH_BODY = [one for one in OPERATIONS if "requestBody" in one.described]
CANARY = "Canary90210Maria"
EXAMPLES = 6
#: What says that a value does not fit its schema. Rules that no schema can say have codes and sentences of their own.
MALFORMED = frozenset(
    {"missing", "unknown-member", "unknown-term", "wrong-form", "out-of-range", "invalid", "repeated", "another-branch"}
)


class Served:
    """Both nodes on an event loop of their own, since generated requests come from plain functions."""

    def __init__(self, loop: asyncio.AbstractEventLoop, world: HttpWorld) -> None:
        self.loop = loop
        self.world = world
        self._asks: dict[str, Ask] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def ask(self, operation: Described) -> Ask:
        """Objects that exist, so that a generated request reaches them."""
        if operation.name not in self._asks:
            self._asks[operation.name] = self.run(TABLE[operation.name].make(self.world))
        return self._asks[operation.name]

    def send(
        self, operation: Described, path: str, headers: dict[str, str], query: dict[str, Any], body: bytes | None
    ) -> httpx2.Response:
        return self.run(self._send(operation, path, headers, query, body))

    async def _send(
        self, operation: Described, path: str, headers: dict[str, str], query: dict[str, Any], body: bytes | None
    ) -> httpx2.Response:
        node = self._asks[operation.name].node
        if operation.scope is not None:
            peer = operation.scope == Scope.FEDERATION
            token = await (self.world.peer_token(node) if peer else self.world.token(node))
            headers = headers | {"Authorization": f"Bearer {token}"}
        async with self.world.http(node) as http:
            return await http.request(operation.method, path, headers=headers, params=query, content=body)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()
    opening = stack.enter_async_context(http_world(tmp_path_factory.mktemp("world")))
    try:
        world = asyncio.run_coroutine_threadsafe(opening, loop).result(60)
        for node in (world.helpline.node, world.shelter.node):
            node.limits = replace(node.limits, wait_longest_s=0)  # nobody here waits for news
        yield Served(loop, world)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def every(listed: list[Described]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", listed, ids=str)


def generated(served: Served, operation: Described, mode: GenerationMode) -> None:
    described = SCHEMAS[operation.document][operation.path][operation.method]
    ask = served.ask(operation)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described.as_strategy(generation_mode=mode))
    def examine(case: Case) -> None:
        path = operation.path.format(**ask.path) if mode is GenerationMode.POSITIVE else case.formatted_path
        answer = served.send(operation, path, *_parts(case, operation))
        assert_promised(operation, answer)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            if mode is GenerationMode.POSITIVE:
                assert {field["code"] for field in answer.json()["fields"]}.isdisjoint(MALFORMED), answer.text

    examine()


def _parts(case: Case, operation: Described) -> tuple[dict[str, str], dict[str, Any], bytes | None]:
    headers = {name: str(value) for name, value in (case.headers or {}).items() if str(value).isascii()}
    headers = {name: value for name, value in headers.items() if value.isprintable()}
    headers.pop("Unit", None)  # another branch sees nothing, and then nothing would be tried
    body = None
    if "requestBody" in operation.described and not isinstance(case.body, schemathesis.core.NotSet):
        body = json.dumps(case.body, default=str).encode()
        headers["Content-Type"] = "application/json"
    return headers, dict(case.query or {}), body


@every(OPERATIONS)
def test_what_fits_the_document_is_not_malformed(served: Served, operation: Described) -> None:
    generated(served, operation, GenerationMode.POSITIVE)


def _formed(operation: Described) -> bool:
    """Whether anything in its head has a form: every text may stand in `If-None-Match`."""
    return any(parameter["name"] != "If-None-Match" for parameter in operation.described.get("parameters", ()))


@every([one for one in OPERATIONS if (one.scope is not None and _formed(one)) or one in WITH_BODY])
def test_what_does_not_fit_is_refused_as_documented(served: Served, operation: Described) -> None:
    generated(served, operation, GenerationMode.NEGATIVE)


@every(WITH_BODY)
def test_no_refusal_repeats_what_was_sent(served: Served, operation: Described) -> None:
    example = operation.described["requestBody"]["content"]["application/json"]["example"]
    ask = served.ask(operation)
    headers = {"Actor": "w-0417", "Content-Type": "application/json"}
    bodies = [*_spoiled(example), example | {CANARY: "more"}, [CANARY], CANARY]
    for place, body in enumerate(bodies):
        key = {"Idempotency-Key": f"canary-{place}"}
        content = json.dumps(body).encode()
        answer = served.send(operation, operation.path.format(**ask.path), headers | key, {}, content)
        assert_promised(operation, answer)
        if answer.status_code >= 400:
            assert CANARY not in answer.text, answer.text


def _spoiled(value: Any) -> Iterator[Any]:
    """The value with each of its leaves, one after the other, replaced by the canary."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from (value | {name: changed} for changed in _spoiled(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], changed, *value[place + 1 :]] for changed in _spoiled(inner))
    else:
        yield CANARY
