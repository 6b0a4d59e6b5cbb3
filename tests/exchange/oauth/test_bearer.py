"""Bearer tokens: checked once for what never changes, every time for what can."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from support.token_requests import CLIENT, ISSUER, NOW, NOW_S, PEER, Signer, base64url, form_with

from exchange.oauth import bearer
from exchange.oauth.access_token import AccessTokenSigner
from exchange.oauth.assertion import sign_with_seed
from exchange.oauth.bearer import (
    BearerError,
    BearerVerifier,
    Caller,
    CallerKind,
    InsufficientScopeError,
    InvalidTokenError,
    MalformedTokenRequestError,
    MissingTokenError,
)
from exchange.oauth.clients import PeerClient
from exchange.oauth.compact import write_compact
from exchange.oauth.scopes import Scope
from exchange.oauth.server import TokenServer

SEED = bytes(range(32))


@pytest.fixture
def verifier(server: TokenServer) -> BearerVerifier:
    return BearerVerifier(ISSUER, server.token_key)


def in_good_standing(_caller: Caller) -> bool:
    return True


def check(verifier: BearerVerifier, token: str, scope: Scope = Scope.INBOX_READ, now: int = NOW) -> Caller:
    return verifier.verify(f"Bearer {token}", scope, now=now, standing=in_good_standing)


def own_token(header: dict[str, Any] | None = None, seed: bytes = SEED, **changed: Any) -> str:
    """A token with the node's own key (or another), and any claim changed."""
    claims = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": CLIENT,
        "client_id": CLIENT,
        "iat": NOW_S,
        "exp": NOW_S + 300,
        "jti": "t" * 32,
        "scope": "inbox:read",
    } | changed
    kept = {name: value for name, value in claims.items() if value is not ...}
    return write_compact(header or {"alg": "Ed25519", "typ": "at+jwt"}, kept, sign_with_seed(seed))


def test_a_token_names_its_caller(verifier: BearerVerifier, token: Callable[..., str]) -> None:
    caller = check(verifier, token("inbox:open inbox:read"))
    assert caller == Caller(
        CLIENT, CallerKind.CLIENT, frozenset({Scope.INBOX_READ, Scope.INBOX_OPEN}), agency=None, unit="north"
    )


def test_a_peers_token_names_its_agency(
    server: TokenServer, verifier: BearerVerifier, peer: PeerClient, peer_signer: Signer
) -> None:
    answer = server.issue(form_with(peer_signer.sign(), "federation"), peer, now=NOW)
    caller = check(verifier, answer.body["access_token"], Scope.FEDERATION)
    assert (caller.kind, caller.agency, caller.unit) == (CallerKind.PEER, PEER, None)


@pytest.mark.parametrize("spelling", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(verifier: BearerVerifier, token: Callable[..., str], spelling: str) -> None:
    assert verifier.verify(f"{spelling} {token()}", Scope.INBOX_READ, now=NOW, standing=in_good_standing)


@pytest.mark.parametrize(
    ("authorization", "error", "status"),
    [
        pytest.param(None, MissingTokenError, 401, id="nothing"),
        pytest.param("", MissingTokenError, 401, id="empty"),
        pytest.param("Basic dXNlcjpwYXNz", MissingTokenError, 401, id="basic"),
        pytest.param("token", MissingTokenError, 401, id="no-scheme"),
        pytest.param("Bearer", MalformedTokenRequestError, 400, id="scheme-only"),
        pytest.param("Bearer ", MalformedTokenRequestError, 400, id="empty-token"),
        pytest.param("Bearer a b", MalformedTokenRequestError, 400, id="two-words"),
        pytest.param("Bearer  a", MalformedTokenRequestError, 400, id="two-spaces"),
        pytest.param("Bearer é", MalformedTokenRequestError, 400, id="not-ascii"),
        pytest.param("Bearer x", InvalidTokenError, 401, id="not-a-token"),
        pytest.param(f"Bearer {'x' * 5000}", InvalidTokenError, 401, id="too-long"),
    ],
)
def test_headers_that_are_refused(
    verifier: BearerVerifier, authorization: str | None, error: type[BearerError], status: int
) -> None:
    with pytest.raises(error) as refused:
        verifier.verify(authorization, Scope.INBOX_READ, now=NOW, standing=in_good_standing)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": "https://node.other.example"}, id="another-issuer"),
        pytest.param({"aud": "https://node.other.example"}, id="another-audience"),
        pytest.param({"aud": [ISSUER]}, id="list-of-audiences"),
        pytest.param({"aud": ...}, id="no-audience"),
        pytest.param({"sub": "somebody-else"}, id="subject-is-another"),
        pytest.param({"client_id": ...}, id="no-client"),
        pytest.param({"client_id": "", "sub": ""}, id="client-without-a-name"),
        pytest.param({"jti": ...}, id="no-jti"),
        pytest.param({"exp": ...}, id="never-expires"),
        pytest.param({"iat": ...}, id="never-issued"),
        pytest.param({"exp": NOW_S + 301}, id="lives-too-long"),
        pytest.param({"iat": NOW_S + 60, "exp": NOW_S + 60}, id="ends-as-it-begins"),
        pytest.param({"iat": NOW_S + 60, "exp": NOW_S + 30}, id="ends-before-it-begins"),
        pytest.param({"exp": 1e12}, id="expiry-is-a-fraction"),
        pytest.param({"iat": NOW_S + 121, "exp": NOW_S + 200}, id="from-the-future"),
        pytest.param({"scope": "inbox:*"}, id="unknown-scope"),
        pytest.param({"scope": ""}, id="no-scope"),
        pytest.param({"scope": ["inbox:read"]}, id="scope-is-a-list"),
        pytest.param({"scope": "federation"}, id="federation-without-an-agency"),
        pytest.param({"agency": CLIENT}, id="an-agency-with-a-clients-scope"),
        pytest.param({"agency": CLIENT, "scope": "federation inbox:read"}, id="an-agency-with-a-clients-scope-too"),
        pytest.param({"agency": PEER, "scope": "federation"}, id="agency-is-not-the-client"),
        pytest.param({"agency": CLIENT, "scope": "federation", "unit": "north"}, id="agency-and-unit"),
        pytest.param({"admin": True}, id="unknown-claim"),
    ],
)
def test_claims_that_are_refused_even_with_a_good_signature(verifier: BearerVerifier, changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidTokenError):
        check(verifier, own_token(**changed), Scope.FEDERATION if "agency" in changed else Scope.INBOX_READ)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"alg": "Ed25519"}, id="no-type"),
        pytest.param({"alg": "Ed25519", "typ": "JWT"}, id="another-type"),
        pytest.param({"alg": "Ed25519", "typ": "client-authentication+jwt"}, id="a-client-assertion"),
        pytest.param({"alg": "EdDSA", "typ": "at+jwt"}, id="another-name-of-the-algorithm"),
        pytest.param({"alg": "none", "typ": "at+jwt"}, id="no-algorithm"),
        pytest.param({"alg": "Ed25519", "typ": "at+jwt", "kid": "x"}, id="names-a-key"),
        pytest.param({"alg": "Ed25519", "typ": "at+jwt", "crit": []}, id="critical"),
    ],
)
def test_headers_of_tokens_that_are_refused(verifier: BearerVerifier, header: dict[str, Any]) -> None:
    with pytest.raises(InvalidTokenError):
        check(verifier, own_token(header))


def test_a_token_made_by_a_clock_that_is_ahead_as_far_as_it_may_be_is_good(verifier: BearerVerifier) -> None:
    assert check(verifier, own_token(iat=NOW_S + 120, exp=NOW_S + 420)).client_id == CLIENT


def test_a_token_of_another_node_is_refused(verifier: BearerVerifier) -> None:
    with pytest.raises(InvalidTokenError):
        check(verifier, own_token(seed=b"o" * 32))


def test_a_clients_own_key_signs_no_tokens(verifier: BearerVerifier, ed25519: OKPKey) -> None:
    claims = {"iss": ISSUER, "aud": ISSUER, "sub": CLIENT, "client_id": CLIENT, "iat": NOW_S, "exp": NOW_S + 300}
    payload = json.dumps(claims | {"jti": "t" * 32, "scope": "inbox:read"})
    forged = jws.serialize_compact({"alg": "Ed25519", "typ": "at+jwt"}, payload, ed25519, algorithms=["Ed25519"])
    with pytest.raises(InvalidTokenError):
        check(verifier, forged)


def test_any_changed_character_refuses(verifier: BearerVerifier, token: Callable[..., str]) -> None:
    good = token()
    check(verifier, good)  # remembered: a tampered token must not profit from it
    for place in range(0, len(good), 5):
        if good[place] == ".":
            continue
        bad = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        with pytest.raises(InvalidTokenError):
            check(verifier, bad)


def test_alg_none_without_a_signature_is_refused(verifier: BearerVerifier) -> None:
    _, claims, _ = own_token().split(".")
    for header in ({"alg": "none", "typ": "at+jwt"}, {"alg": "Ed25519", "typ": "at+jwt"}):
        with pytest.raises(InvalidTokenError):
            check(verifier, f"{base64url(json.dumps(header).encode())}.{claims}.")


def test_expiry_is_checked_although_the_token_is_remembered(
    verifier: BearerVerifier, token: Callable[..., str]
) -> None:
    good = token()
    assert check(verifier, good, now=NOW + 299_999)
    with pytest.raises(InvalidTokenError):
        check(verifier, good, now=NOW + 300_000)


def test_a_client_revoked_between_two_calls_is_refused_at_the_second(
    verifier: BearerVerifier, token: Callable[..., str]
) -> None:
    good, active = token(), {CLIENT}

    def standing(caller: Caller) -> bool:
        return caller.client_id in active

    assert verifier.verify(f"Bearer {good}", Scope.INBOX_READ, now=NOW, standing=standing)
    active.clear()
    with pytest.raises(InvalidTokenError) as refused:
        verifier.verify(f"Bearer {good}", Scope.INBOX_READ, now=NOW, standing=standing)
    assert refused.value.www_authenticate == InvalidTokenError("expired").www_authenticate


@pytest.mark.parametrize("scope", sorted(set(Scope) - {Scope.INBOX_READ}))
def test_every_other_scope_is_refused(verifier: BearerVerifier, token: Callable[..., str], scope: Scope) -> None:
    with pytest.raises(InsufficientScopeError) as refused:
        check(verifier, token("inbox:read"), scope)
    assert refused.value.status == 403
    assert f'scope="{scope}"' in refused.value.www_authenticate


def test_a_peer_reads_no_inbox(
    server: TokenServer, verifier: BearerVerifier, peer: PeerClient, peer_signer: Signer
) -> None:
    answer = server.issue(form_with(peer_signer.sign(), "federation"), peer, now=NOW)
    with pytest.raises(InsufficientScopeError):
        check(verifier, answer.body["access_token"], Scope.INBOX_READ)


def test_the_memory_is_bounded_and_holds_good_tokens_only(server: TokenServer, token: Callable[..., str]) -> None:
    small = BearerVerifier(ISSUER, server.token_key, remember=2)
    tokens = [token() for _ in range(4)]
    for good in tokens:
        check(small, good)
    for n in range(10):
        with pytest.raises(InvalidTokenError):
            check(small, f"bad{n}")
    assert len(small._seen) == 2
    assert check(small, tokens[0])


def test_who_calls_again_and_again_is_not_forgotten_for_who_calls_once(
    server: TokenServer, token: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = BearerVerifier(ISSUER, server.token_key, remember=2)
    busy, once, again = token(), token(), token()
    for good in (busy, once, busy, again):
        check(small, good)
    monkeypatch.setattr(bearer, "verify_token", pytest.fail)
    assert check(small, busy)


def test_challenges_follow_rfc_6750_and_repeat_nothing() -> None:
    assert MissingTokenError("missing").www_authenticate == "Bearer"
    assert InvalidTokenError("signature").www_authenticate.startswith('Bearer error="invalid_token", ')
    assert "signature" not in InvalidTokenError("signature").www_authenticate + str(InvalidTokenError("signature"))


def test_the_signing_key_does_not_show() -> None:
    assert SEED.hex() not in repr(AccessTokenSigner(ISSUER, SEED))


def test_a_token_of_a_clock_that_was_ahead_is_none_once_it_is_right(verifier: BearerVerifier) -> None:
    day_ms = 86_400_000
    token = own_token(iat=NOW_S + 86_400, exp=NOW_S + 86_400 + 300)
    check(verifier, token, now=NOW + day_ms)
    with pytest.raises(InvalidTokenError, match="token is expired"):
        check(verifier, token)
    check(verifier, token, now=NOW + day_ms)
