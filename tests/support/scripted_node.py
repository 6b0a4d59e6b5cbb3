"""A node that answers from a script, for tests of the SDK: it checks tokens like a real one, and counts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx2
from nacl.signing import VerifyKey

from exchange.client import AgencyClient, ClientKey, RetryPolicy

ISSUER = "https://node.example"
KEY = ClientKey(bytes(range(32)))
QUICK = RetryPolicy(attempts=4, first_wait_s=0.001, longest_wait_s=0.002, longest_retry_after_s=1)

Answer = httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response]


def problem(status: int, code: str, **members: Any) -> httpx2.Response:
    """An RFC 9457 answer."""
    body = {
        "type": f"https://referral-exchange.example/problems#{code}",
        "title": "Refused",
        "status": status,
        "code": code,
        "who": "sender",
        "detail": "Do something else.",
    } | members
    return httpx2.Response(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


def json_answer(body: object, status: int = 200, **headers: str) -> httpx2.Response:
    """A JSON answer."""
    return httpx2.Response(status, content=json.dumps(body), headers={"content-type": "application/json"} | headers)


@dataclass
class ScriptedNode:
    """Answers each path from its own list of answers; the last one repeats."""

    script: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[httpx2.Request] = field(default_factory=list)
    assertions: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    token_life_s: int = 300
    token_takes_s: float = 0
    """How long it is on its way, by the client's clock; somebody else has a turn meanwhile, always."""
    token_answers: list[Answer] = field(default_factory=list)
    now_s: float = 1_700_000_000.0

    def client(self, **options: Any) -> AgencyClient:
        """A client of this node that loses no time."""
        chosen: dict[str, Any] = {"actor": "w-0417", "retries": QUICK, "now_s": lambda: self.now_s}
        chosen |= options
        return AgencyClient(ISSUER, "case-system", KEY, transport=httpx2.MockTransport(self._answer), **chosen)

    def requests(self, path: str) -> list[httpx2.Request]:
        """What was asked at this path."""
        return [request for request in self.asked if request.url.path == path]

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/oauth/token":
            await asyncio.sleep(0)
            self.now_s += self.token_takes_s
            return self._token(request)
        self.asked.append(request)
        answers = self.script[request.url.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def _token(self, request: httpx2.Request) -> httpx2.Response:
        self.tokens += 1
        form = parse_qs(request.content.decode())
        header, claims, signature = form["client_assertion"][0].split(".")
        VerifyKey(KEY.public).verify(f"{header}.{claims}".encode(), _decode(signature))
        self.assertions.append(json.loads(_decode(claims)))
        if self.token_answers:
            answer = self.token_answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, httpx2.Response)
            return answer
        return json_answer(
            {"access_token": f"token-{self.tokens}", "token_type": "Bearer", "expires_in": self.token_life_s}
        )


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
