"""Checking a client assertion: the gate in front of the token endpoint.

Rules, in this order; the first that fails ends the check, and from outside every failure looks the same:

1. The assertion is at most 8 KiB and a strict compact JWS (`exchange.oauth.compact`).
2. The header names nothing but `alg`, `typ` and `kid`: no key and no address of a key travels with what it proves.
3. The client is known and active. Where it is not, a signature is checked all the same, with a key nobody holds.
4. `alg` is the algorithm the registered key is for; a peer has one name for it. `none` and every symmetric algorithm
   are never looked at.
5. `typ` is `client-authentication+jwt`; an agency's own client may say `JWT` or nothing, a peer may not.
6. The signature holds.
7. `iss` and `sub` are the client; `aud` is exactly one string, this server's issuer. A list is refused, even a list of
   that one issuer.
8. It is neither expired nor from the future, lives five minutes at most, and a peer says when it was issued.
9. `jti` is there. Who calls must remember it, once: a second use is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from exchange.limits import LIMITS, SECOND_MS
from exchange.oauth.assertion import CLIENT_AUTHENTICATION_TYP, MAXIMUM_ASSERTION_LIFETIME_S
from exchange.oauth.clients import CLIENT_ID, ClientKey, PeerClient, RegisteredClient, named_today
from exchange.oauth.compact import Compact, NotCompactError, read_compact

SKEW_S = LIMITS.skew_ms // SECOND_MS
MAXIMUM_ASSERTION_CHARACTERS = 8192

#: Its private half is thrown away here: unknown clients are checked against it, so that their refusal takes as long.
_NOBODYS_KEY = ClientKey.from_ed25519(bytes(SigningKey.generate().verify_key))
_HEADER_MEMBERS = {"alg", "typ", "kid"}
_JTI = re.compile(r"[\x21-\x7e]{8,128}")


class AssertionRefusedError(Exception):
    """The client did not prove who it is. `reason` is for this node's own counters and never leaves it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UsedJti:
    """What must be stored exactly once before the token leaves: a second insert means a replay."""

    client_id: str
    jti: str
    keep_until: int  # Unix milliseconds; nothing accepts the assertion after this


def unverified_subject(assertion: str) -> str | None:
    """Who the assertion says it is from. Good for looking the client up, and for nothing else.

    What no client and no agency can be called is nobody: half a character or a zero byte is not for a database.
    """
    try:
        subject = _read(assertion).claims.get("sub")
    except AssertionRefusedError:
        return None
    return subject if isinstance(subject, str) and CLIENT_ID.fullmatch(subject) else None


def check_assertion(assertion: str, client: RegisteredClient | PeerClient | None, *, issuer: str, now: int) -> UsedJti:
    """Prove that `client` made this assertion for `issuer`, and say what must be remembered.

    Args:
        assertion: the compact JWS as it came.
        client: what the caller found under `unverified_subject`; `None` when it found nothing.
        issuer: this server's own issuer.
        now: Unix milliseconds.

    Raises:
        AssertionRefusedError: any rule of this module fails.
    """
    read = _read(assertion)
    claims = read.claims
    known = client if client is not None and client.active else None
    try:
        _check_signature(assertion, read, known)
    except AssertionRefusedError:
        # Of an unknown client it was checked for the time that it takes.
        if known is not None:
            raise
    if known is None:
        raise AssertionRefusedError("unknown-client")
    _check_names(claims, known.client_id, issuer)
    expires = _check_times(claims, now // SECOND_MS, issued_required=isinstance(known, PeerClient))
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise AssertionRefusedError("jti")
    return UsedJti(known.client_id, jti, keep_until=(expires + SKEW_S) * SECOND_MS)


def _read(assertion: str) -> Compact:
    try:
        read = read_compact(assertion, at_most=MAXIMUM_ASSERTION_CHARACTERS)
    except NotCompactError:
        raise AssertionRefusedError("malformed") from None
    if set(read.header) - _HEADER_MEMBERS:
        raise AssertionRefusedError("malformed")
    return read


def _check_signature(assertion: str, read: Compact, client: RegisteredClient | PeerClient | None) -> None:
    header = read.header
    keys = client.keys if client is not None else (_NOBODYS_KEY,)
    kid = header.get("kid")
    # A client with one key may leave its `kid` out or call it as it likes; with several, an unknown name helps nobody.
    candidates = [key for key in keys if len(keys) == 1 or kid is None or kid == key.kid]
    algorithm = header.get("alg")
    if not isinstance(client, PeerClient):
        # Of an unknown client as of a known one, so that its refusal takes as long.
        algorithm = named_today(algorithm)
    candidates = [key for key in candidates if key.algorithm == algorithm]
    if not candidates:
        raise AssertionRefusedError("algorithm-or-key")
    typ = header.get("typ")
    untyped_allowed = isinstance(client, RegisteredClient) and typ in (None, "JWT")
    if client is not None and typ != CLIENT_AUTHENTICATION_TYP and not untyped_allowed:
        raise AssertionRefusedError("typ")
    if not any(_verifies(assertion, read, key) for key in candidates):
        raise AssertionRefusedError("signature")


def _verifies(assertion: str, read: Compact, key: ClientKey) -> bool:
    try:
        if key.ed25519 is not None:
            # Under either of its names: joserfc knows the old one only with a warning.
            VerifyKey(key.ed25519).verify(read.signing_input, read.signature)
        else:
            jws.deserialize_compact(assertion, key.key, algorithms=[key.algorithm])
    except (JoseError, CryptoError, ValueError, TypeError):
        return False
    return True


def _check_names(claims: Mapping[str, Any], client_id: str, issuer: str) -> None:
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        raise AssertionRefusedError("subject")
    if claims.get("aud") != issuer:
        raise AssertionRefusedError("audience")


def _check_times(claims: Mapping[str, Any], now_s: int, *, issued_required: bool) -> int:
    """The whole seconds at which the assertion ends; refused unless every time in it makes sense."""
    for name in ("exp", "iat", "nbf"):
        # `type(...) is int`: True is an int to Python, and a float or NaN compares in surprising ways.
        if name in claims and type(claims[name]) is not int:
            raise AssertionRefusedError("time")
    if "exp" not in claims or ("iat" not in claims and issued_required):
        raise AssertionRefusedError("time")
    expires: int = claims["exp"]
    issued: int = claims.get("iat", now_s)
    not_before: int = claims.get("nbf", now_s)
    if expires <= now_s - SKEW_S:
        raise AssertionRefusedError("expired")
    if max(issued, not_before) > now_s + SKEW_S:
        raise AssertionRefusedError("from-the-future")
    # Without `iat` the lifetime counts from now, and no skew is granted on top.
    if expires - issued > MAXIMUM_ASSERTION_LIFETIME_S:
        raise AssertionRefusedError("lives-too-long")
    return expires
