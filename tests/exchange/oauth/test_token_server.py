"""The token endpoint: few ways in, many refusals, and refusals that look alike from outside."""

import base64
import hashlib
import hmac
import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from nacl.signing import SigningKey
from support.token_requests import CLIENT, ISSUER, NOW, NOW_S, PEER, Signer, base64url, form_with, jwks_of

from exchange.oauth import client_proof
from exchange.oauth.assertion import make_assertion, sign_with_seed, token_request
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.compact import read_compact, write_compact
from exchange.oauth.scopes import CLIENT_SCOPES, Scope
from exchange.oauth.server import (
    OAuthError,
    TokenResponse,
    TokenServer,
    asks_as_peer,
    replayed,
    unverified_client_id,
)

INVALID_CLIENT = {
    "error": "invalid_client",
    "error_description": "The client could not be authenticated. Compare your clock with the Date of this answer; "
    "why stands in the log of the node (token.refused).",
}


def refused(answer: TokenResponse | OAuthError, reason: str) -> None:
    """Every failed proof is the same answer; only this node's own counters know the reason."""
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.body, answer.reason) == (401, INVALID_CLIENT, reason)


def test_a_client_gets_exactly_what_it_asked_for(server: TokenServer, client: RegisteredClient, signer: Signer) -> None:
    form = form_with(signer.sign(), "inbox:open inbox:read")
    answer = server.issue(form, client, now=NOW)
    assert isinstance(answer, TokenResponse)
    assert unverified_client_id(form) == CLIENT
    assert {name: answer.body[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "inbox:open inbox:read",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.used_jti.client_id, answer.used_jti.jti) == (CLIENT, "a" * 32)
    assert answer.used_jti.keep_until == (NOW_S + 60 + 120) * 1000
    assert set(answer.body) == {"access_token", "token_type", "expires_in", "scope"}


def test_the_token_says_who_and_what_and_no_more(server: TokenServer, client: RegisteredClient, signer: Signer) -> None:
    token = server.issue(form_with(signer.sign()), client, now=NOW).body["access_token"]
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert header == {"alg": "Ed25519", "typ": "at+jwt"}
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": CLIENT,
        "client_id": CLIENT,
        "iat": NOW_S,
        "exp": NOW_S + 300,
        "scope": "inbox:read",
        "unit": "north",
    }


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("typ", [None, "JWT", "client-authentication+jwt"])
@pytest.mark.parametrize(
    ("key", "algorithm"), [("ed25519", "Ed25519"), ("ed25519", "EdDSA"), ("p256", "ES256"), ("rsa3072", "RS256")]
)
def test_an_agency_may_use_what_its_library_can(
    server: TokenServer, request: pytest.FixtureRequest, key: str, algorithm: str, typ: str | None
) -> None:
    private = request.getfixturevalue(key)
    client = RegisteredClient.from_jwks(CLIENT, jwks_of(private), CLIENT_SCOPES)
    assertion = Signer(CLIENT, private, algorithm, typ).sign()
    assert isinstance(server.issue(form_with(assertion), client, now=NOW), TokenResponse)


@pytest.mark.parametrize(("key", "algorithm"), [("ed25519", "Ed25519"), ("p256", "ES256"), ("rsa3072", "RS256")])
def test_a_signature_counts_for_what_was_signed_only(
    server: TokenServer, request: pytest.FixtureRequest, key: str, algorithm: str
) -> None:
    """One that the client has made itself, for another assertion: with every algorithm it may use."""
    private = request.getfixturevalue(key)
    client = RegisteredClient.from_jwks(CLIENT, jwks_of(private), CLIENT_SCOPES)
    signer = Signer(CLIENT, private, algorithm)
    said, other = signer.sign().rpartition(".")[0], signer.sign(jti="b" * 32).rpartition(".")[2]
    refused(server.issue(form_with(f"{said}.{other}"), client, now=NOW), "signature")


def test_the_old_name_of_an_algorithm_proves_nothing_by_itself(
    server: TokenServer, client: RegisteredClient, signer: Signer, p256: ECKey
) -> None:
    """A bad signature under it is refused, and so is a key that is no Ed25519."""
    assertion = unsigned(signer, {"alg": "EdDSA"}, b"s" * 64)
    refused(server.issue(form_with(assertion), client, now=NOW), "signature")
    other = RegisteredClient.from_jwks(CLIENT, jwks_of(p256), CLIENT_SCOPES)
    refused(server.issue(form_with(assertion), other, now=NOW), "algorithm-or-key")


def test_a_peer_has_one_name_for_its_algorithm(server: TokenServer, peer: PeerClient, node_key: SigningKey) -> None:
    made = read_compact(make_assertion(PEER, ISSUER, sign_with_seed(bytes(node_key)), now=NOW), at_most=8192)
    renamed = write_compact({**made.header, "alg": "EdDSA"}, made.claims, sign_with_seed(bytes(node_key)))
    refused(server.issue(list(token_request(renamed, "federation").items()), peer, now=NOW), "algorithm-or-key")


def test_the_sdk_and_the_courier_make_what_the_server_takes(
    server: TokenServer, peer: PeerClient, node_key: SigningKey
) -> None:
    assertion = make_assertion(PEER, ISSUER, sign_with_seed(bytes(node_key)), now=NOW)
    answer = server.issue(list(token_request(assertion, "federation").items()), peer, now=NOW)
    assert isinstance(answer, TokenResponse)
    claims = json.loads(base64.urlsafe_b64decode(answer.body["access_token"].split(".")[1] + "=="))
    assert (claims["agency"], claims["scope"]) == (PEER, "federation")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"aud": "https://node.other.example"}, "audience", id="another-server"),
        pytest.param({"aud": f"{ISSUER}/oauth/token"}, "audience", id="token-endpoint-instead-of-issuer"),
        pytest.param({"aud": f"{ISSUER}/"}, "audience", id="slash-added"),
        pytest.param({"aud": [ISSUER]}, "audience", id="list-of-one"),
        pytest.param({"aud": [ISSUER, "https://node.other.example"]}, "audience", id="list-with-a-second-server"),
        pytest.param({"aud": ...}, "audience", id="no-audience"),
        pytest.param({"iss": PEER}, "subject", id="issuer-is-another"),
        pytest.param({"iss": ...}, "subject", id="no-issuer"),
        pytest.param({"sub": PEER}, "subject", id="subject-is-another"),
        pytest.param({"sub": [CLIENT]}, "subject", id="subject-is-a-list"),
        pytest.param({"exp": ...}, "time", id="never-expires"),
        pytest.param({"exp": NOW_S + 60.5}, "time", id="expiry-is-a-fraction"),
        pytest.param({"exp": float("nan")}, "time", id="expiry-is-not-a-number"),
        pytest.param({"exp": True}, "time", id="expiry-is-true"),
        pytest.param({"exp": str(NOW_S + 60)}, "time", id="expiry-is-text"),
        pytest.param({"iat": NOW_S - 300, "exp": NOW_S - 120}, "expired", id="expired-beyond-the-skew"),
        pytest.param({"iat": NOW_S + 121, "exp": NOW_S + 180}, "from-the-future", id="issued-in-the-future"),
        pytest.param({"nbf": NOW_S + 121}, "from-the-future", id="not-yet-valid"),
        pytest.param({"nbf": str(NOW_S)}, "time", id="valid-from-a-text"),
        pytest.param({"nbf": float("nan")}, "time", id="valid-from-no-number"),
        pytest.param({"nbf": None}, "time", id="valid-from-null"),
        pytest.param({"exp": NOW_S + 301}, "lives-too-long", id="lives-longer-than-five-minutes"),
        pytest.param({"iat": ..., "exp": NOW_S + 301}, "lives-too-long", id="lives-too-long-and-hides-its-birth"),
        pytest.param({"iat": NOW_S - 10**6}, "lives-too-long", id="born-long-ago"),
        pytest.param({"jti": ...}, "jti", id="no-jti"),
        pytest.param({"jti": "short"}, "jti", id="jti-too-short"),
        pytest.param({"jti": "x" * 129}, "jti", id="jti-too-long"),
        pytest.param({"jti": 7}, "jti", id="jti-is-a-number"),
    ],
)
def test_claims_that_are_refused(
    server: TokenServer, client: RegisteredClient, signer: Signer, changed: dict[str, Any], reason: str
) -> None:
    refused(server.issue(form_with(signer.sign(**changed)), client, now=NOW), reason)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iat": NOW_S - 170, "exp": NOW_S - 119}, id="expired-within-the-skew"),
        pytest.param({"iat": NOW_S + 120, "exp": NOW_S + 420}, id="clock-two-minutes-ahead"),
        pytest.param({"iat": ..., "exp": NOW_S + 300}, id="no-iat-from-a-client"),
        pytest.param({"extra": "ignored"}, id="claim-of-another-library"),
    ],
)
def test_claims_that_are_accepted(
    server: TokenServer, client: RegisteredClient, signer: Signer, changed: dict[str, Any]
) -> None:
    assert isinstance(server.issue(form_with(signer.sign(**changed)), client, now=NOW), TokenResponse)


def test_an_unknown_client_a_revoked_one_and_a_wrong_key_cannot_be_told_apart(
    server: TokenServer, client: RegisteredClient, signer: Signer
) -> None:
    strange = Signer(CLIENT, OKPKey.generate_key("Ed25519")).sign()
    answers = [
        server.issue(form_with(strange), client, now=NOW),
        server.issue(form_with(signer.sign()), None, now=NOW),
        server.issue(form_with(signer.sign()), replace(client, active=False), now=NOW),
        replayed(),
    ]
    assert all(isinstance(answer, OAuthError) for answer in answers)
    assert {json.dumps([answer.status, dict(answer.headers), dict(answer.body)]) for answer in answers} == {
        json.dumps(
            [401, {"Cache-Control": "no-store", "Pragma": "no-cache", "WWW-Authenticate": "Bearer"}, INVALID_CLIENT]
        )
    }


@pytest.mark.parametrize("key_type", ["ed25519", "p256", "rsa3072"])
def test_nobody_is_refused_for_less_work_than_somebody(
    server: TokenServer, key_type: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that it takes a stranger would learn which systems an agency has."""
    key = request.getfixturevalue(key_type)
    client = RegisteredClient.from_jwks(CLIENT, jwks_of(key), CLIENT_SCOPES)
    strange = Signer(CLIENT, OKPKey.generate_key("Ed25519"))
    checked: list[str] = []
    monkeypatch.setattr(client_proof, "_verifies", lambda *_: checked.append("signature"))
    for nobody in (None, replace(client, active=False)):
        for typ in (strange.typ, "JWT", None):
            assertion = replace(strange, typ=typ).sign()
            refused(server.issue(form_with(assertion), nobody, now=NOW), "unknown-client")
    assert checked == ["signature"] * 6


def unsigned(signer: Signer, header: dict[str, Any], signature: bytes = b"") -> str:
    parts = [base64url(json.dumps(part).encode()) for part in (header, signer.claims())]
    return ".".join([*parts, base64url(signature)])


def test_alg_none_is_not_a_signature(server: TokenServer, client: RegisteredClient, signer: Signer) -> None:
    for name in ("none", "None", "NONE", ""):
        assertion = unsigned(signer, {"alg": name, "typ": "JWT"})
        refused(server.issue(form_with(assertion), client, now=NOW), "algorithm-or-key")


def test_a_public_key_is_not_a_shared_secret(
    server: TokenServer, client: RegisteredClient, signer: Signer, ed25519: OKPKey
) -> None:
    """The oldest trick: HS256 keyed with the public key that everybody may read."""
    public = base64.urlsafe_b64decode(str(ed25519.as_dict(private=False)["x"]) + "=")
    unsigned_part = unsigned(signer, {"alg": "HS256", "typ": "JWT"}).rpartition(".")[0]
    for secret in (public, json.dumps(ed25519.as_dict(private=False)).encode()):
        mac = hmac.new(secret, unsigned_part.encode(), hashlib.sha256).digest()
        refused(server.issue(form_with(f"{unsigned_part}.{base64url(mac)}"), client, now=NOW), "algorithm-or-key")


@pytest.mark.parametrize("algorithm", ["ES384", "PS256", "RS384", "Ed448", "HS512"])
def test_a_header_cannot_choose_another_algorithm(
    server: TokenServer, client: RegisteredClient, signer: Signer, algorithm: str
) -> None:
    refused(
        server.issue(form_with(unsigned(signer, {"alg": algorithm}, b"s" * 64)), client, now=NOW), "algorithm-or-key"
    )


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"jku": "https://keys.evil.example"}, id="address-of-keys"),
        pytest.param({"x5u": "https://keys.evil.example"}, id="address-of-a-certificate"),
        pytest.param({"crit": ["exp"], "exp": 1}, id="critical-extension"),
        pytest.param({"b64": True}, id="other-encoding"),
        pytest.param({"zip": "DEF"}, id="compression"),
    ],
)
def test_nothing_else_stands_in_the_header(
    server: TokenServer, client: RegisteredClient, signer: Signer, header: dict[str, Any]
) -> None:
    assertion = unsigned(signer, {"alg": "Ed25519", "typ": "JWT", **header}, b"s" * 64)
    refused(server.issue(form_with(assertion), client, now=NOW), "malformed")


def test_a_key_does_not_travel_with_what_it_proves(server: TokenServer, client: RegisteredClient) -> None:
    own = OKPKey.generate_key("Ed25519")
    assertion = Signer(CLIENT, own, header={"jwk": own.as_dict(private=False)}).sign()
    refused(server.issue(form_with(assertion), client, now=NOW), "malformed")


def test_any_changed_character_refuses(server: TokenServer, client: RegisteredClient, signer: Signer) -> None:
    good = signer.sign()
    for place in range(0, len(good), 7):
        if good[place] == ".":
            continue
        bad = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        answer = server.issue(form_with(bad), client, now=NOW)
        assert isinstance(answer, OAuthError)
        assert answer.body == INVALID_CLIENT


@pytest.mark.parametrize(
    "assertion",
    [
        pytest.param("x", id="no-segments"),
        pytest.param("a.b", id="two-segments"),
        pytest.param("a.b.c.d", id="four-segments"),
        pytest.param("..", id="empty-segments"),
        pytest.param("a.a.a", id="as-long-as-no-bytes-are"),
        pytest.param("é.é.é", id="not-ascii"),
        pytest.param("A" * 9000, id="too-long"),
        pytest.param(f"{base64url(b'[]')}.{base64url(b'{}')}.", id="header-is-a-list"),
        pytest.param(f"{base64url(b'{}')}.{base64url(b'[' * 3000)}.", id="nested-without-end"),
        pytest.param(f"{base64url(b'{}')}.{base64url(b'null')}.", id="claims-are-null"),
        pytest.param(f'{base64url(b"""{"alg":"Ed25519","alg":"none"}""")}.{base64url(b"{}")}.', id="member-twice"),
        pytest.param(f"{base64url(b'{}')}=.{base64url(b'{}')}.", id="padded"),
    ],
)
def test_what_is_not_an_assertion(server: TokenServer, client: RegisteredClient, assertion: str) -> None:
    assert unverified_client_id(form_with(assertion)) is None
    refused(server.issue(form_with(assertion), client, now=NOW), "malformed")


def test_an_assertion_that_is_too_long_is_not_read(
    server: TokenServer, client: RegisteredClient, signer: Signer
) -> None:
    refused(server.issue(form_with(signer.sign(extra="x" * 8192)), client, now=NOW), "malformed")


@pytest.mark.parametrize("subject", [[CLIENT], 7, None, "", f"{CLIENT}\0", "\ud800"])
def test_who_can_be_nobody_is_not_looked_up(signer: Signer, subject: Any) -> None:
    assert unverified_client_id(form_with(signer.sign(sub=subject))) is None


@pytest.mark.parametrize(
    ("typ", "reason"),
    [
        pytest.param("at+jwt", "typ", id="access-token"),
        pytest.param("dpop+jwt", "typ", id="other-proof"),
        pytest.param("jwt", "typ", id="other-case"),
    ],
)
def test_another_kind_of_jwt_proves_nothing(
    server: TokenServer, client: RegisteredClient, signer: Signer, typ: str, reason: str
) -> None:
    refused(server.issue(form_with(replace(signer, typ=typ).sign()), client, now=NOW), reason)


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt"])
def test_a_peer_must_name_the_type(server: TokenServer, peer: PeerClient, peer_signer: Signer, typ: str | None) -> None:
    assertion = replace(peer_signer, typ=typ).sign()
    refused(server.issue(form_with(assertion, "federation"), peer, now=NOW), "typ")


def test_a_peer_must_say_when(server: TokenServer, peer: PeerClient, peer_signer: Signer) -> None:
    refused(server.issue(form_with(peer_signer.sign(iat=...), "federation"), peer, now=NOW), "time")


@pytest.mark.parametrize(("key", "algorithm"), [("p256", "ES256"), ("rsa3072", "RS256")])
def test_a_peer_proves_itself_with_its_node_key_only(
    server: TokenServer, peer: PeerClient, request: pytest.FixtureRequest, key: str, algorithm: str
) -> None:
    assertion = Signer(PEER, request.getfixturevalue(key), algorithm).sign()
    refused(server.issue(form_with(assertion, "federation"), peer, now=NOW), "algorithm-or-key")


@pytest.mark.parametrize("scope", ["inbox:read", "federation inbox:read", "consents:write", ""])
def test_a_peer_gets_no_scope_of_a_client(
    server: TokenServer, peer: PeerClient, peer_signer: Signer, scope: str
) -> None:
    answer = server.issue(form_with(peer_signer.sign(), scope), peer, now=NOW)
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.code) == (400, "invalid_scope")


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param("federation", id="a-peers-scope"),
        pytest.param("inbox:read federation", id="a-peers-scope-beside-ones-own"),
        pytest.param("referrals:write", id="not-registered"),
        pytest.param("inbox:read referrals:write", id="one-too-many"),
        pytest.param("inbox:read inbox:read", id="twice"),
        pytest.param("inbox:read  inbox:open", id="two-spaces"),
        pytest.param("INBOX:READ", id="other-case"),
        pytest.param("inbox:*", id="wildcard"),
        pytest.param("", id="none"),
    ],
)
def test_one_scope_too_many_refuses_all(server: TokenServer, ed25519: OKPKey, signer: Signer, scope: str) -> None:
    client = RegisteredClient.from_jwks(CLIENT, jwks_of(ed25519), frozenset({Scope.INBOX_READ, Scope.INBOX_OPEN}))
    answer = server.issue(form_with(signer.sign(), scope), client, now=NOW)
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.code) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"grant_type": "password"}, "unsupported_grant_type", id="password"),
        pytest.param({"grant_type": "authorization_code"}, "unsupported_grant_type", id="code"),
        pytest.param({"grant_type": "refresh_token"}, "unsupported_grant_type", id="refresh"),
        pytest.param({"grant_type": ""}, "invalid_request", id="no-grant-type"),
        pytest.param({"client_assertion": ""}, "invalid_request", id="no-assertion"),
        pytest.param({"client_assertion_type": ""}, "invalid_request", id="no-assertion-type"),
        pytest.param({"client_assertion_type": "urn:x"}, "invalid_request", id="another-assertion-type"),
        pytest.param({"client_secret": "s3cret"}, "invalid_request", id="a-secret-beside-it"),
        pytest.param({"password": "s3cret"}, "invalid_request", id="a-password-beside-it"),
        pytest.param({"username": "s3cret"}, "invalid_request", id="a-user-name-beside-it"),
        pytest.param({"client_id": "somebody-else"}, "invalid_client", id="another-client-id"),
    ],
)
def test_forms_that_are_refused(
    server: TokenServer, client: RegisteredClient, signer: Signer, more: dict[str, str], code: str
) -> None:
    answer = server.issue(form_with(signer.sign(), **more), client, now=NOW)
    assert isinstance(answer, OAuthError)
    assert answer.code == code
    assert "s3cret" not in str(answer)


@pytest.mark.parametrize(
    "name", ["grant_type", "scope", "client_assertion_type", "client_assertion", "client_id", "unknown"]
)
def test_a_parameter_twice_is_refused_even_with_the_same_value(
    server: TokenServer, client: RegisteredClient, signer: Signer, name: str
) -> None:
    form = form_with(signer.sign(), client_id=CLIENT, unknown="x")
    answer = server.issue([*form, (name, dict(form)[name])], client, now=NOW)
    assert isinstance(answer, OAuthError)
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_a_replay_is_recognised_by_what_is_stored_once(
    server: TokenServer, client: RegisteredClient, signer: Signer
) -> None:
    form = form_with(signer.sign())
    first, second = (server.issue(form, client, now=NOW) for _ in range(2))
    assert isinstance(first, TokenResponse)
    assert isinstance(second, TokenResponse)
    # The caller's unique insert fails on the second and answers `replayed()`.
    assert first.used_jti == second.used_jti
    assert (replayed().status, replayed().body) == (401, INVALID_CLIENT)


def test_what_is_stored_outlives_the_assertion(server: TokenServer, client: RegisteredClient, signer: Signer) -> None:
    form = form_with(signer.sign(exp=NOW_S + 300))
    answer = server.issue(form, client, now=NOW)
    assert isinstance(answer, TokenResponse)
    refused(server.issue(form, client, now=answer.used_jti.keep_until), "expired")


def test_an_assertion_for_another_grant_is_refused_beside_it(
    server: TokenServer, client: RegisteredClient, signer: Signer
) -> None:
    answer = server.issue([*form_with(signer.sign()), ("assertion", signer.sign())], client, now=NOW)
    assert isinstance(answer, OAuthError)
    assert answer.code == "invalid_request"


def test_of_two_assertions_neither_says_who_asks(signer: Signer) -> None:
    form = form_with(signer.sign())
    assert unverified_client_id([*form, ("client_assertion", signer.sign())]) is None


@pytest.mark.parametrize(
    ("scopes", "as_peer"),
    [
        pytest.param(["federation"], True, id="alone"),
        pytest.param(["federation", "federation"], False, id="twice"),
        pytest.param(["federation", "inbox:read"], False, id="before-another"),
        pytest.param(["federation inbox:read"], False, id="beside-another"),
        pytest.param(["inbox:read"], False, id="another"),
        pytest.param([], False, id="none"),
    ],
)
def test_who_asks_for_the_scope_of_peers_asks_for_nothing_else(scopes: list[str], as_peer: bool) -> None:
    assert asks_as_peer([("scope", scope) for scope in scopes]) is as_peer


def test_a_subject_that_no_client_can_have_is_not_looked_up() -> None:
    longest = Signer("a" * 64, OKPKey.generate_key("Ed25519"))
    assert unverified_client_id(form_with(longest.sign())) == "a" * 64
    assert unverified_client_id(form_with(longest.sign(sub="a" * 65))) is None


def test_a_client_with_one_key_may_call_it_as_it_likes(
    server: TokenServer, client: RegisteredClient, ed25519: OKPKey
) -> None:
    named = Signer(CLIENT, ed25519, header={"kid": "key-of-this-year"})
    assert isinstance(server.issue(form_with(named.sign()), client, now=NOW), TokenResponse)


def test_with_two_keys_each_counts_until_it_is_taken_out(
    server: TokenServer, ed25519: OKPKey, p256: ECKey, rsa3072: RSAKey
) -> None:
    both = RegisteredClient.from_jwks(CLIENT, jwks_of(ed25519, p256), CLIENT_SCOPES)
    assert isinstance(server.issue(form_with(Signer(CLIENT, p256, "ES256").sign()), both, now=NOW), TokenResponse)
    assert isinstance(server.issue(form_with(Signer(CLIENT, ed25519).sign()), both, now=NOW), TokenResponse)
    refused(server.issue(form_with(Signer(CLIENT, rsa3072, "RS256").sign()), both, now=NOW), "algorithm-or-key")
    named = Signer(CLIENT, ed25519, header={"kid": "nobody"}).sign()
    refused(server.issue(form_with(named), both, now=NOW), "algorithm-or-key")


def test_of_two_named_keys_one_that_is_named_counts_by_its_name_only(
    server: TokenServer, ed25519: OKPKey, p256: ECKey
) -> None:
    named = {"keys": [key.as_dict(private=False, kid=kid) for key, kid in ((ed25519, "old"), (p256, "new"))]}
    client = RegisteredClient.from_jwks(CLIENT, named, CLIENT_SCOPES)
    for header in ({"kid": "old"}, {}):
        assertion = Signer(CLIENT, ed25519, header=header).sign()
        assert isinstance(server.issue(form_with(assertion), client, now=NOW), TokenResponse)
    misnamed = Signer(CLIENT, ed25519, header={"kid": "new"}).sign()
    refused(server.issue(form_with(misnamed), client, now=NOW), "algorithm-or-key")


def test_no_log_line_at_any_level_holds_the_token_or_the_assertion(
    server: TokenServer, client: RegisteredClient, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assertion = signer.sign()
    answer = server.issue(form_with(assertion), client, now=NOW)
    assert isinstance(answer, TokenResponse)
    assert answer.body["access_token"] not in caplog.text + repr(answer)
    assert assertion not in caplog.text


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param("http://node.shelter.example", id="plain-http"),
        pytest.param("https://node.shelter.example/", id="slash"),
        pytest.param("https://", id="no-host"),
        pytest.param("https:node.shelter.example", id="no-host-but-a-path"),
        pytest.param("https://node.shelter.example?x=1", id="query"),
        pytest.param("https://node.shelter.example#x", id="fragment"),
        pytest.param("ftp://localhost", id="another-scheme"),
    ],
)
def test_an_issuer_others_could_not_trust_is_refused(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # Authlib's own switch must not open this
    with pytest.raises(ValueError, match="issuer"):
        TokenServer(issuer, b"s" * 32)


def test_on_one_machine_http_is_enough() -> None:
    assert TokenServer("http://127.0.0.1:8080", b"s" * 32).token_key
