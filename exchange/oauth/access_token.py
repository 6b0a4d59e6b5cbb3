"""The access token: a JWT (RFC 9068) that only the node which signed it accepts.

Rules:

* One algorithm, Ed25519, and one key: the token key of this node. Nothing in a token's header chooses either.
* `typ` is `at+jwt`, so that no other JWT signed anywhere can pass as a token.
* Issuer and audience are this node. Five minutes, and not refreshed.
* A peer's token names its agency; a client's token may name its unit. No token holds both, and `federation` stands in
  a peer's token only.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from exchange.limits import LIMITS, SECOND_MS
from exchange.oauth.assertion import sign_with_seed
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.compact import NotCompactError, read_compact, write_compact
from exchange.oauth.scopes import Scope, UnknownScopeError, format_scopes, parse_scopes

TOKEN_LIFETIME_S = LIMITS.token_s
SKEW_S = LIMITS.skew_ms // SECOND_MS
MAXIMUM_TOKEN_CHARACTERS = 2048
_HEADER = {"alg": "Ed25519", "typ": "at+jwt"}
_NAMES = frozenset({"iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope", "agency", "unit"})


class CallerKind(StrEnum):
    """A system of this agency, or the node of another one."""

    CLIENT = "client"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as a verified token says it."""

    client_id: str
    kind: CallerKind
    scopes: frozenset[Scope]
    agency: str | None = None  # the peer's agency; None for a client of this agency
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature and shape hold, and when it ends (Unix milliseconds)."""

    caller: Caller
    expires: int


class TokenRefusedError(Exception):
    """The token was not made by this node, or is not a token. `reason` is for counters and stays inside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AccessTokenSigner:
    """Makes tokens. The key never shows in `repr`."""

    __slots__ = ("_issuer", "_sign", "lifetime_s", "public_key")

    def __init__(self, issuer: str, seed: bytes, *, lifetime_s: int = TOKEN_LIFETIME_S) -> None:
        """Take the issuer, the 32-byte seed of the token key, and how long a token lives."""
        self._issuer = issuer
        self.lifetime_s = lifetime_s
        self._sign = sign_with_seed(seed)
        self.public_key = bytes(SigningKey(seed).verify_key)

    def make(self, proven: RegisteredClient | PeerClient, scopes: frozenset[Scope], *, now: int) -> str:
        """One token for a client that has proven itself; `now` in Unix milliseconds."""
        issued = now // SECOND_MS
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": proven.client_id,
            "client_id": proven.client_id,
            "iat": issued,
            "exp": issued + self.lifetime_s,
            "jti": secrets.token_hex(16),
            "scope": format_scopes(scopes),
        }
        if isinstance(proven, PeerClient):
            claims["agency"] = proven.agency
        elif proven.unit is not None:
            claims["unit"] = proven.unit
        return write_compact(_HEADER, claims, self._sign)


def verify_token(
    token: str, *, issuer: str, public_key: bytes, now: int, lifetime_s: int = TOKEN_LIFETIME_S
) -> VerifiedToken:
    """Check that this node made the token and what it says. Expiry is for the caller to check, at every use.

    Raises:
        TokenRefusedError: any rule of this module fails.
    """
    try:
        read = read_compact(token, at_most=MAXIMUM_TOKEN_CHARACTERS)
    except NotCompactError:
        raise TokenRefusedError("malformed") from None
    if read.header != _HEADER:
        raise TokenRefusedError("header")
    try:
        VerifyKey(public_key).verify(read.signing_input, read.signature)
    except (CryptoError, ValueError, TypeError):
        raise TokenRefusedError("signature") from None
    return _read_claims(read.claims, issuer, now // SECOND_MS, lifetime_s)


def _read_claims(claims: Mapping[str, Any], issuer: str, now_s: int, lifetime_s: int) -> VerifiedToken:
    """What a token with a good signature says. Still strict: an older version of this node may have made it."""
    issued, expires = claims.get("iat"), claims.get("exp")
    texts = [claims.get(name, "") for name in ("client_id", "jti", "scope", "agency", "unit")]
    if type(issued) is not int or type(expires) is not int or not all(isinstance(text, str) for text in texts):
        raise TokenRefusedError("claims")
    if set(claims) - _NAMES or claims.get("iss") != issuer or claims.get("aud") != issuer:
        raise TokenRefusedError("claims")
    if issued > now_s + SKEW_S or not 0 < expires - issued <= lifetime_s:
        raise TokenRefusedError("time")
    client_id, jti, scope, agency, unit = texts
    if not client_id or not jti or claims.get("sub") != client_id or (agency and (unit or agency != client_id)):
        raise TokenRefusedError("claims")
    try:
        scopes = parse_scopes(scope)
    except UnknownScopeError:
        raise TokenRefusedError("claims") from None
    if (scopes == {Scope.FEDERATION}) != bool(agency):
        raise TokenRefusedError("claims")
    kind = CallerKind.PEER if agency else CallerKind.CLIENT
    caller = Caller(client_id, kind, scopes, agency=agency or None, unit=unit or None)
    return VerifiedToken(caller, expires=expires * SECOND_MS)
