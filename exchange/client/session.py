"""One call: token, headers, tries again, and an answer that is either a model or a `ProblemError`.

Rules:

* A body is one of the request models, written as JSON without empty members; an answer is read strictly, a refusal as
  `exchange.client.refusals` says.
* A call that creates something carries an Idempotency-Key, made once and kept over every try.
* A token that is refused is renewed once and the call repeated: it was not carried out.
* Whatever ends such a call, its error has the key: the token that a repeat does not get, a proxy in front of the node,
  an answer of a later version. Whoever repeated it under another key would do it twice.
* No error of this module carries a body in its text or its chain.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from exchange.client.connection import ANSWER_TIMEOUT_S, Connection, Query
from exchange.client.errors import ClientError, ClientSetupError, ProblemError, UnexpectedAnswerError
from exchange.client.refusals import PROBLEM_TYPE, refusal
from exchange.client.retries import Repeat
from exchange.client.tokens import TokenKeeper
from exchange.referral.values import AS_WRITTEN

AnswerT = TypeVar("AnswerT", bound=BaseModel)

JSON_TYPE: Final = "application/json"
_UNAUTHORIZED: Final = 401
_HARMLESS_METHODS: Final = frozenset({"GET", "PUT", "DELETE"})
_KEY_BYTES: Final = 16
_KEY: Final = re.compile(r"[!-~]{1,128}")
_PSEUDONYM: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_idempotency_key() -> str:
    """A key for one act, to be kept over every try of it."""
    return secrets.token_hex(_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the node."""

    method: str
    path: str
    body: BaseModel | None = None
    query: Query | None = None
    idempotency_key: str | None = None
    accept: str = JSON_TYPE
    answer_within_s: float = ANSWER_TIMEOUT_S
    harmless: bool = False
    """A POST without a key whose repetition changes nothing: the node answers the same act the same way."""
    check: Callable[[], None] | None = None
    """Called before every try. What it raises ends the call: nothing more is sent."""


class Session:
    """A connection, its tokens, and the worker for whom the calls are made."""

    def __init__(self, connection: Connection, tokens: TokenKeeper, actor: str | None, unit: str | None) -> None:
        """Take who acts, for which branch.

        Raises:
            ClientSetupError: one of them is no pseudonym. A name would be on its way before the node refuses it.
        """
        if any(named is not None and _PSEUDONYM.fullmatch(named) is None for named in (actor, unit)):
            raise ClientSetupError(
                "Actor and unit are pseudonyms of up to 64 letters, digits, dots, hyphens and underscores, never names."
            )
        self._connection = connection
        self._tokens = tokens
        self._actor = actor
        self._unit = unit

    def acting_as(self, actor: str, unit: str | None) -> Session:
        """The same connection and tokens for another worker."""
        return Session(self._connection, self._tokens, actor, unit or self._unit)

    async def ask(self, call: Call, answer: type[AnswerT]) -> AnswerT:
        """The node's answer.

        Raises:
            ProblemError: the node refused.
            TokenRefusedError: it gave no token.
            NodeUnreachableError: it did not answer.
            UnexpectedAnswerError: something else answered.
        """
        try:
            return _read(await self._send(call), answer)
        except ClientError as ended:
            ended.idempotency_key = call.idempotency_key
            raise

    async def ask_publicly(self, call: Call, answer: type[AnswerT], *, also: int | None = None) -> AnswerT:
        """The answer to a call that needs no token; `also` is a status beside success with which it comes."""
        build = lambda: self._build(call, {})  # noqa: E731 - one expression
        return _read(await self._connection.send(build, _repeat(call)), answer, also)

    async def _send(self, call: Call) -> httpx2.Response:
        token = await self._tokens.token()
        answer = await self._try(call, token)
        if answer.status_code == _UNAUTHORIZED:
            self._tokens.drop(token)
            answer = await self._try(call, await self._tokens.token())
        return answer

    async def _try(self, call: Call, token: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"} | self._who()
        return await self._connection.send(lambda: self._build(call, headers), _repeat(call))

    def _who(self) -> dict[str, str]:
        named = {"Actor": self._actor, "Unit": self._unit}
        return {name: value for name, value in named.items() if value is not None}

    def _build(self, call: Call, headers: dict[str, str]) -> httpx2.Request:
        if call.check is not None:
            call.check()
        headers = {"Accept": f"{call.accept}, {PROBLEM_TYPE}"} | headers
        body = None
        if call.body is not None:
            body = call.body.model_dump_json(exclude_none=True, by_alias=True).encode()
            headers["Content-Type"] = JSON_TYPE
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
        return self._connection.build(
            call.method, call.path, headers=headers, query=call.query, body=body, answer_within_s=call.answer_within_s
        )


def keyed(call: Call, idempotency_key: str | None) -> Call:
    """The call as an act that creates something: under the caller's key, or a fresh one.

    Raises:
        ClientSetupError: no header carries this key.
    """
    if idempotency_key is None:
        idempotency_key = new_idempotency_key()
    if _KEY.fullmatch(idempotency_key) is None:
        # An empty one too: under a fresh key in its place every repeat would be another act.
        raise ClientSetupError("An idempotency key has 1 to 128 visible characters of ASCII.")
    return replace(call, idempotency_key=idempotency_key)


def checked_id(text: str) -> str:
    """An id or name as it may stand in a path.

    Raises:
        ClientSetupError: it could lead elsewhere.
    """
    if not text or not (text.isascii() and text.replace("-", "").isalnum()):
        raise ClientSetupError("An id consists of letters, digits and hyphens.")
    return text


def _repeat(call: Call) -> Repeat:
    harmless = call.harmless or call.idempotency_key is not None or call.method in _HARMLESS_METHODS
    return Repeat.HARMLESS if harmless else Repeat.IF_NOT_CARRIED_OUT


def _read(answer: httpx2.Response, wanted: type[AnswerT], also: int | None = None) -> AnswerT:
    if not answer.is_success:
        refused = refusal(answer)
        if answer.status_code != also or isinstance(refused, ProblemError):
            raise refused
    try:
        # What her referral says may be of an earlier version.
        return wanted.model_validate_json(answer.content, context=AS_WRITTEN)
    except ValidationError:
        # `from None`: pydantic's error would carry what was received.
        raise UnexpectedAnswerError(answer.status_code) from None
