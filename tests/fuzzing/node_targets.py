"""Real nodes under wrong requests: every endpoint, and whatever a member with valid keys seals, signs and sends.

What must hold for every answer: no 5xx; a status, media type and body that the committed document names; a refusal is a
problem document; nothing of what was sent is repeated in it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx2
from fuzzing.pure_targets import ANSWERS, BODY
from support.committed_openapi import Described, assert_promised, operations
from support.endpoint_table import TABLE
from support.http_world import Ask, HttpWorld, http_world
from support.lying_peer import LyingPeer, batch_of
from support.mutations import Mutations
from support.replacing import replace

from contracts.canonical_json import canonical
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind, KindClass, SignedBy, class_of
from exchange.envelope.wire import read_again
from exchange.oauth.scopes import Scope
from exchange.schemas.federation import BatchAnswer

CANARY: Final = "Canary90210Maria"
FRESH: Final = 25
"""Requests against one object before another is made: the first that succeeds may have used it up."""
ITEM_ANSWERS: Final = frozenset({"accepted", "refused", "later"})
OPERATIONS: Final = tuple(operations())
_PLACES: Final = ("body", "body", "body", "body", "path", "query", "header")
_QUERY: Final = ("cursor", "limit", "wait", "unit", "since", "state")
_HEADERS: Final = ("Actor", "Unit", "Idempotency-Key", "Authorization", "Content-Type", "Content-Length", "Accept",
                   "Content-Encoding", "traceparent", "Host", "Transfer-Encoding", "X-Forwarded-For")  # fmt: skip


@dataclass(slots=True)
class NodeFuzzer:
    """Two nodes, and requests against them."""

    world: HttpWorld
    random: Random
    mutations: Mutations
    liar: LyingPeer
    last: object = None
    """What was sent last; a finding shows it."""
    _asks: dict[str, tuple[Ask, int]] = field(default_factory=dict)

    async def endpoint(self) -> str:
        """One wrong request to one endpoint: its outcome."""
        operation = self.random.choice(OPERATIONS)
        ask = await self._ask(operation)
        place = self.random.choice(_PLACES)
        headers: dict[str, str] = {}
        path, query, body = dict(ask.path), dict(ask.query), ask.body
        if place == "path" and path:
            name = self.random.choice(list(path))
            path[name] = _in_a_path(self._text(path[name]))
        elif place == "query":
            query[self.random.choice(_QUERY)] = self._text(
                self.random.choice(("1", "0", "later", secrets.token_hex(16)))
            )
        elif place == "header":
            headers[self.random.choice(_HEADERS)] = _in_a_header(self._text("value"))
        else:
            body = self._body(operation, body)
        token = None
        if operation.scope is not None:
            peer = operation.scope == Scope.FEDERATION
            token = await (self.world.peer_token(ask.node) if peer else self.world.token(ask.node))
        if operation.name == "issue_token":
            headers.setdefault(
                "Content-Type", self.random.choice(("application/x-www-form-urlencoded", "application/json"))
            )
        changed = Ask(ask.node, path, body, query)
        self.last = (operation.name, path, query, headers, body)
        try:
            answer = await self.world.send(changed, operation.method, operation.path, token=token, headers=headers)
        except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeError):
            return "unsendable"
        _look_at(operation, answer)
        return f"{answer.status_code}"

    async def envelope(self) -> str:
        """One envelope from a member that lies: in the header, in what is inside, in both, in the batch around it."""
        kind = self.random.choice(list(Kind))
        header = self._header(kind)
        envelope = self._sealed(kind, header)
        if self.random.random() < 0.4:
            unknown = {CANARY: CANARY} if self.random.random() < 0.2 else {}
            members = self.mutations.value(read_again(envelope.header) | unknown)
            envelope = replace(envelope, header=_written(members))
        sign = self.liar.liar.node.node_key.sign if _by_node(envelope.header) else self.liar.agency_key.sign
        envelope = replace(envelope, signature=sign(envelope.signed_input()))
        if kind is Kind.DISCLOSURE and self.random.random() < 0.8:
            envelope = replace(envelope, release=self._release(envelope))
        body = batch_of(envelope)
        if self.random.random() < 0.15:
            body = self.mutations.json(json.loads(body))
        self.last = body
        answer = await self.liar.post(body)
        assert answer.status_code < 500, answer.text
        assert CANARY not in answer.text
        if answer.status_code != 200:
            return f"{answer.status_code}"
        first = next(iter(BatchAnswer.model_validate_json(answer.content).answers), None)
        if first is None:
            return "empty"
        assert first.result in ITEM_ANSWERS
        return first.problem.code if first.problem is not None else first.result

    async def _ask(self, operation: Described) -> Ask:
        ask, used = self._asks.get(operation.name, (None, FRESH))
        if ask is None or used >= FRESH:
            ask, used = await TABLE[operation.name].make(self.world), 0
        self._asks[operation.name] = (ask, used + 1)
        return ask

    def _text(self, text: str) -> str:
        changed = self.mutations.value(text)
        return f"{CANARY}{changed}" if self.random.random() < 0.3 else str(changed)

    def _body(self, operation: Described, body: Any) -> Any:
        if isinstance(body, bytes):
            body = json.loads(body)
        if operation.name == "issue_token":
            body = {"grant_type": "client_credentials", "client_assertion": "e30.e30.AA", "scope": "inbox:read"}
        if isinstance(body, dict) and self.random.random() < 0.3:
            body = body | {CANARY: CANARY}
        return self.mutations.json({} if body is None else body)

    def _header(self, kind: Kind) -> Any:
        changes: dict[str, Any] = {}
        if class_of(kind) is KindClass.ANSWER or kind in (Kind.INFORMATION, Kind.REFUSAL):
            changes["in_reply_to"] = secrets.token_hex(16)
        shape_events = {Kind.DECISION: "declined", Kind.PROGRESS: "in-service", Kind.RECALL_ANSWER: "recalled",
                        Kind.INFORMATION_REQUEST: "information-requested", Kind.WITHDRAWAL: "erase",
                        Kind.ERASURE_RECEIPT: "erased-by-node", Kind.REFUSAL: "content-invalid"}  # fmt: skip
        if kind in shape_events:
            changes["event"] = shape_events[kind]
        return self.liar.header(kind, **changes)

    def _sealed(self, kind: Kind, header: Any) -> Envelope:
        if header.kind_class is KindClass.STOP:
            return self.liar.stop(kind, event=header.event, in_reply_to=header.in_reply_to)
        inside = BODY if header.kind_class is KindClass.FORWARD else ANSWERS.get(kind, {})
        content = self.mutations.json(inside) if self.random.random() < 0.8 else canonical(inside)
        return self.liar.sealed(header, content[:65_000])

    def _release(self, envelope: Envelope) -> bytes:
        right = replace(envelope, header=self.liar.sealed(self._header(Kind.DISCLOSURE), b"{}").header)
        released = self.liar.released(right, secrets.token_hex(32), disclosure=envelope.digest()).release or b""
        return self.mutations.json(json.loads(released))[:4096] or b"{}"


def _by_node(header: bytes) -> bool:
    return f'"signed_by":"{SignedBy.NODE.value}"'.encode() in header


def _written(members: object) -> bytes:
    try:
        return canonical(members)[:4096]
    except ValueError:
        return b"{}"


def _in_a_path(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"%{ord(c) % 256:02x}" for c in text)[:500] or "x"


def _in_a_header(text: str) -> str:
    return "".join(c for c in text if " " <= c <= "~")[:2000]


def _look_at(operation: Described, answer: httpx2.Response) -> None:
    assert answer.status_code < 500, f"{operation.name}: {answer.status_code} {answer.text}"
    assert CANARY not in answer.text or answer.is_success, f"{operation.name} repeats what was sent"
    if operation.name == "issue_token" or answer.status_code in (404, 405):
        return
    assert_promised(operation, answer)
    if not answer.is_success:
        assert answer.headers["content-type"] == "application/problem+json"


@asynccontextmanager
async def node_fuzzer(folder: Path, random: Random) -> AsyncIterator[NodeFuzzer]:
    """Two nodes on SQLite, and a liar among them."""
    async with http_world(folder) as world:
        liar = await LyingPeer.of(world.helpline, world.shelter)
        yield NodeFuzzer(world, random, Mutations(random), liar)
