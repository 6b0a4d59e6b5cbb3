"""Which keys may be registered: public, strong, for signatures; and what a client can never be given."""

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from support.token_requests import CLIENT, ISSUER, NOW, base64url, jwks_of

from exchange.oauth.assertion import make_assertion, sign_with_seed
from exchange.oauth.clients import ClientKey, ClientKeyError, PeerClient, RegisteredClient
from exchange.oauth.metadata import server_metadata
from exchange.oauth.scopes import CLIENT_SCOPES, Scope, UnknownScopeError, format_scopes, parse_scopes


def test_rsa_of_2048_bits_is_too_short(rsa2048: RSAKey) -> None:
    with pytest.raises(ClientKeyError, match="3072"):
        ClientKey.from_jwk(rsa2048.as_dict(private=False))


def test_rsa_of_3072_bits_is_long_enough(rsa3072: RSAKey) -> None:
    assert ClientKey.from_jwk(rsa3072.as_dict(private=False)).algorithm == "RS256"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(OctKey.generate_key(256), id="symmetric"),
        pytest.param(OKPKey.generate_key("X25519"), id="x25519"),
        pytest.param(OKPKey.generate_key("Ed448"), id="ed448"),
        pytest.param(ECKey.generate_key("P-384"), id="p-384"),
        pytest.param(ECKey.generate_key("secp256k1"), id="secp256k1"),
    ],
)
def test_other_kinds_of_keys_are_refused(key: Any) -> None:
    jwk = key.as_dict(private=False) if not isinstance(key, OctKey) else key.as_dict(private=True)
    with pytest.raises(ClientKeyError):
        ClientKey.from_jwk(jwk)


@pytest.mark.parametrize("name", ["ed25519", "p256", "rsa3072"])
def test_a_private_key_is_refused_and_not_repeated(request: pytest.FixtureRequest, name: str) -> None:
    private = request.getfixturevalue(name).as_dict(private=True)
    with pytest.raises(ClientKeyError, match="public key only") as refused:
        ClientKey.from_jwk(private)
    assert str(private["d"]) not in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"kty": "rsa"}, id="unknown-kind"),
        pytest.param({"kty": ["OKP"]}, id="kind-is-a-list"),
        pytest.param({"x": "AAAA"}, id="too-few-bytes"),
        pytest.param({"x": 7}, id="coordinate-is-a-number"),
        pytest.param({"alg": "Ed448"}, id="for-another-algorithm"),
        pytest.param({"alg": ["EdDSA"]}, id="for-a-list-of-algorithms"),
        pytest.param({"use": "enc"}, id="for-encryption"),
        pytest.param({"kid": "no spaces please"}, id="key-id-with-spaces"),
        pytest.param({"kid": 7}, id="key-id-is-a-number"),
        pytest.param({"x5u": "https://keys.evil.example"}, id="points-elsewhere"),
    ],
)
def test_changed_keys_are_refused(ed25519: OKPKey, changed: dict[str, Any]) -> None:
    with pytest.raises(ClientKeyError):
        ClientKey.from_jwk(ed25519.as_dict(private=False) | changed)


def test_a_point_beside_the_curve_is_no_key(p256: ECKey) -> None:
    """Found when it is registered, and not at the first login."""
    with pytest.raises(ClientKeyError):
        ClientKey.from_jwk(p256.as_dict(private=False) | {"y": base64url(b"\x01" * 32)})


def test_a_key_may_say_what_it_is_for(ed25519: OKPKey) -> None:
    described = {"alg": "EdDSA", "use": "sig", "key_ops": ["verify"], "kid": "of-this-year"}
    assert ClientKey.from_jwk(ed25519.as_dict(private=False) | described).kid == "of-this-year"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"e": base64url(b"\x03")}, id="exponent-three"),
        pytest.param({"e": base64url((65538).to_bytes(3, "big"))}, id="even-exponent"),
        pytest.param({"e": base64url((2**32 + 1).to_bytes(5, "big"))}, id="exponent-that-takes-long"),
        pytest.param({"n": base64url(b"\x7f" + b"\xff" * 383)}, id="one-bit-too-short"),
        pytest.param({"n": base64url(b"\xff" * 1025)}, id="longer-than-8192-bits"),
        pytest.param({"n": 5}, id="modulus-is-a-number"),
        pytest.param({"e": ""}, id="no-exponent"),
    ],
)
def test_weak_rsa_numbers_are_refused(rsa3072: RSAKey, changed: dict[str, Any]) -> None:
    with pytest.raises(ClientKeyError):
        ClientKey.from_jwk(rsa3072.as_dict(private=False) | changed)


@pytest.mark.parametrize(
    "jwks",
    [
        pytest.param({}, id="empty"),
        pytest.param({"keys": []}, id="no-keys"),
        pytest.param({"keys": "x"}, id="not-a-list"),
        pytest.param({"keys": ["x"]}, id="not-keys"),
    ],
)
def test_key_sets_that_are_refused(jwks: dict[str, Any]) -> None:
    with pytest.raises(ClientKeyError):
        RegisteredClient.from_jwks(CLIENT, jwks, CLIENT_SCOPES)


def test_a_key_set_that_points_elsewhere_is_refused(ed25519: OKPKey) -> None:
    with pytest.raises(ClientKeyError):
        RegisteredClient.from_jwks(CLIENT, {**jwks_of(ed25519), "jwks_uri": "https://keys.evil.example"}, CLIENT_SCOPES)


@pytest.mark.parametrize("beside", [frozenset[Scope](), CLIENT_SCOPES])
def test_a_client_is_never_given_federation(ed25519: OKPKey, beside: frozenset[Scope]) -> None:
    with pytest.raises(ClientKeyError, match="federation"):
        RegisteredClient.from_jwks(CLIENT, jwks_of(ed25519), beside | {Scope.FEDERATION})


def test_five_keys_are_too_many(ed25519: OKPKey) -> None:
    with pytest.raises(ClientKeyError):
        RegisteredClient.from_jwks(CLIENT, jwks_of(*[ed25519] * 5), CLIENT_SCOPES)


@pytest.mark.parametrize("client_id", ["", "-x", "a b", "a" * 65, "a\n", "ä"])
def test_client_ids_that_are_refused(ed25519: OKPKey, client_id: str) -> None:
    with pytest.raises(ClientKeyError):
        RegisteredClient.from_jwks(client_id, jwks_of(ed25519), CLIENT_SCOPES)


@pytest.mark.parametrize(("agency", "key"), [("Helpline", b"k" * 32), ("helpline-one", b"k" * 31), ("", b"k" * 32)])
def test_peers_that_no_roster_holds(agency: str, key: bytes) -> None:
    with pytest.raises(ClientKeyError):
        PeerClient(agency, key)


@pytest.mark.parametrize("lifetime", [0, -1, 301])
def test_no_assertion_lives_longer_than_five_minutes(lifetime: int) -> None:
    with pytest.raises(ValueError, match="300"):
        make_assertion(CLIENT, ISSUER, sign_with_seed(b"s" * 32), now=NOW, lifetime_s=lifetime)


def test_no_two_assertions_are_the_same() -> None:
    made = {make_assertion(CLIENT, ISSUER, sign_with_seed(b"s" * 32), now=NOW) for _ in range(20)}
    assert len(made) == 20


@pytest.mark.parametrize("text", ["", " ", "inbox:read ", "inbox:read\tinbox:open", "admin", "inbox:read inbox:read"])
def test_scope_texts_that_are_refused(text: str) -> None:
    with pytest.raises(UnknownScopeError) as refused:
        parse_scopes(text)
    assert "admin" not in str(refused.value)


def test_scopes_have_one_spelling() -> None:
    assert format_scopes(parse_scopes("inbox:read consents:write")) == "consents:write inbox:read"


def test_the_metadata_names_what_is_accepted_and_no_key() -> None:
    document = server_metadata(ISSUER)
    assert document["issuer"] == ISSUER
    assert document["token_endpoint"] == f"{ISSUER}/oauth/token"
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert document["token_endpoint_auth_signing_alg_values_supported"] == ["Ed25519", "EdDSA", "ES256", "RS256"]
    assert not {"jwks_uri", "jwks", "registration_endpoint", "authorization_endpoint"} & set(document)
    assert json.loads(json.dumps(document)) == document
