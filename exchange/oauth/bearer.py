"""Checking the bearer token of a call (RFC 6750).

Rules:

* The signature of a token is checked once and remembered under the SHA-256 of the token, in a bounded memory into which
  only good tokens come.
* Times, scope and the standing of the client are checked at every call, whatever is remembered: a client that is
  revoked between two calls is refused at the second, and a token from the future is none once the clock is right.
* An unknown token, an expired one and one of a revoked client look the same: 401 `invalid_token`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

from exchange.limits import SECOND_MS
from exchange.oauth.access_token import (
    SKEW_S,
    TOKEN_LIFETIME_S,
    Caller,
    CallerKind,
    TokenRefusedError,
    VerifiedToken,
    verify_token,
)
from exchange.oauth.scopes import Scope

__all__ = [
    "BearerError",
    "BearerVerifier",
    "Caller",
    "CallerKind",
    "InsufficientScopeError",
    "InvalidTokenError",
    "MalformedTokenRequestError",
    "MissingTokenError",
]

REMEMBERED_TOKENS = 4096

#: Answers whether the client still exists, is active, and still has what the token says.
Standing = Callable[[Caller], bool]


class BearerError(Exception):
    """The call is refused for its token. `reason` is for this node's counters and never leaves it."""

    status: ClassVar[int] = 401
    code: ClassVar[str | None] = None
    sentence: ClassVar[str] = "Send an access token: Authorization: Bearer <token>."

    def __init__(self, reason: str, *, scope: Scope | None = None) -> None:
        """Take the reason, and the scope that was missing."""
        super().__init__(self.sentence)
        self.reason = reason
        self.scope = scope

    @property
    def www_authenticate(self) -> str:
        """The challenge of RFC 6750: no error code where no token came."""
        parts = [f'error="{self.code}"', f'error_description="{self.sentence}"'] if self.code else []
        parts += [f'scope="{self.scope}"'] if self.scope else []
        return " ".join(["Bearer", ", ".join(parts)]).strip()


class MissingTokenError(BearerError):
    """No token came, or another kind of credentials."""


class MalformedTokenRequestError(BearerError):
    """The Authorization header cannot be read."""

    status = 400
    code = "invalid_request"
    sentence = "The Authorization header must hold the word Bearer, one space and one token."


class InvalidTokenError(BearerError):
    """The token is unknown, altered, expired, or its client may no longer call."""

    code = "invalid_token"
    sentence = "The access token is expired, revoked or not one of this node. Ask for a new one."


class InsufficientScopeError(BearerError):
    """The token is good, for something else."""

    status = 403
    code = "insufficient_scope"
    sentence = "The access token does not hold the scope this call needs."


class BearerVerifier:
    """Turns an Authorization header into a `Caller`, or raises."""

    def __init__(
        self,
        issuer: str,
        token_key: bytes,
        *,
        remember: int = REMEMBERED_TOKENS,
        lifetime_s: int = TOKEN_LIFETIME_S,
    ) -> None:
        """Take this node's issuer, the public half of its token key, and the longest life of a token."""
        self._lifetime_s = lifetime_s
        self._longest_ms = (lifetime_s + SKEW_S) * SECOND_MS
        self._issuer = issuer
        self._token_key = token_key
        self._remember = remember
        self._seen: OrderedDict[bytes, VerifiedToken] = OrderedDict()

    def verify(self, authorization: str | None, scope: Scope, *, now: int, standing: Standing) -> Caller:
        """Who calls, if the call may be made at all.

        Args:
            authorization: the Authorization header as it came.
            scope: what this call needs.
            now: Unix milliseconds.
            standing: asked at every call.

        Raises:
            BearerError: one of its family.
        """
        verified = self._verified(_token_of(authorization), now)
        if now >= verified.expires:
            raise InvalidTokenError("expired")
        if verified.expires > now + self._longest_ms:
            raise InvalidTokenError("time")  # made and remembered by a clock that was ahead
        if not standing(verified.caller):
            raise InvalidTokenError("standing")
        if scope not in verified.caller.scopes:
            raise InsufficientScopeError("scope", scope=scope)
        return verified.caller

    def _verified(self, token: str, now: int) -> VerifiedToken:
        key = hashlib.sha256(token.encode("ascii")).digest()
        if (remembered := self._seen.get(key)) is not None:
            self._seen.move_to_end(key)
            return remembered
        try:
            verified = verify_token(
                token, issuer=self._issuer, public_key=self._token_key, now=now, lifetime_s=self._lifetime_s
            )
        except TokenRefusedError as refused:
            raise InvalidTokenError(refused.reason) from None
        self._seen[key] = verified
        if len(self._seen) > self._remember:
            self._seen.popitem(last=False)
        return verified


def _token_of(authorization: str | None) -> str:
    if not authorization:
        raise MissingTokenError("missing")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise MissingTokenError("other-scheme")
    # Split at any white space: a token is one word.
    if not token.isascii() or token.split() != [token]:
        raise MalformedTokenRequestError("malformed-header")
    return token
