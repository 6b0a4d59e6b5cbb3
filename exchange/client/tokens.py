"""Access tokens: fetched when needed, renewed before they end, one request at a time.

Rules:

* A token is renewed when a quarter of its life is left, so that none ends on the way.
* Callers that come at the same moment share one renewal.
* A token that a node refuses is dropped, once; who held an older one does not drop its successor.
* The audience of the assertion is the issuer that was configured, never one that a server names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exchange.client.connection import Connection
from exchange.client.errors import TokenRefusedError, UnexpectedAnswerError
from exchange.client.refusals import refusal
from exchange.client.retries import Repeat
from exchange.oauth.assertion import make_assertion, token_request
from exchange.oauth.compact import Sign
from exchange.oauth.scopes import Scope, format_scopes

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path, not a secret
_FRESH_SHARE: Final = 0.75
_OK: Final = 200
_OAUTH_REFUSALS: Final = frozenset({400, 401})


class _TokenAnswer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str = Field(min_length=1)
    token_type: str = Field(pattern=r"^[Bb]earer$")
    expires_in: int = Field(gt=0)


class _OAuthRefusal(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    error: str = Field(pattern=r"^[a-z_]{1,40}$")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks for tokens, and where."""

    client_id: str
    sign: Sign = field(repr=False)
    issuer: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    fresh_until: float


class TokenKeeper:
    """Holds the one current token of a client."""

    def __init__(self, credentials: Credentials, connection: Connection, now_s: Callable[[], float]) -> None:
        self._credentials = credentials
        self._connection = connection
        self._now_s = now_s
        self._token: _Token | None = None
        self._renewing = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for at least a quarter of its life.

        Raises:
            TokenRefusedError: the node does not know this client, this key or one of these scopes.
            ProblemError: the node gives nobody a token now.
            NodeUnreachableError: the node does not answer.
        """
        if self._token is None or self._now_s() >= self._token.fresh_until:
            async with self._renewing:
                if self._token is None or self._now_s() >= self._token.fresh_until:
                    self._token = await self._fetch()
        return self._token.text

    def drop(self, refused: str) -> None:
        """Forget a token that was refused, unless it has been renewed already."""
        if self._token is not None and self._token.text == refused:
            self._token = None

    async def _fetch(self) -> _Token:
        asked_at = self._now_s()
        answer = await self._connection.send(self._request, Repeat.HARMLESS)
        try:
            if answer.status_code in _OAUTH_REFUSALS:
                raise TokenRefusedError(_OAuthRefusal.model_validate_json(answer.content).error)
            if answer.status_code != _OK:
                raise refusal(answer)
            found = _TokenAnswer.model_validate_json(answer.content)
        except ValidationError:
            raise UnexpectedAnswerError(answer.status_code) from None
        return _Token(found.access_token, asked_at + found.expires_in * _FRESH_SHARE)

    def _request(self) -> httpx2.Request:
        """Each try carries an assertion of its own: a node accepts none twice."""
        mine = self._credentials
        assertion = make_assertion(mine.client_id, mine.issuer, mine.sign, now=int(self._now_s() * 1000))
        return self._connection.build("POST", TOKEN_PATH, form=token_request(assertion, format_scopes(mine.scopes)))
