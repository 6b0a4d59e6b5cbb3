"""One server, one client of the agency, one peer, and a clock that stands still. All of it synthetic."""

from collections.abc import Callable

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from nacl.signing import SigningKey
from support.token_requests import CLIENT, ISSUER, NOW, PEER, Signer, base64url, form_with, jwks_of

from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.scopes import CLIENT_SCOPES
from exchange.oauth.server import TokenServer


@pytest.fixture(scope="session")
def ed25519() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


@pytest.fixture(scope="session")
def p256() -> ECKey:
    return ECKey.generate_key("P-256")


@pytest.fixture(scope="session")
def rsa3072() -> RSAKey:
    return RSAKey.generate_key(3072)


@pytest.fixture(scope="session")
def rsa2048() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture
def server() -> TokenServer:
    return TokenServer(ISSUER, bytes(range(32)))


@pytest.fixture
def client(ed25519: OKPKey) -> RegisteredClient:
    return RegisteredClient.from_jwks(CLIENT, jwks_of(ed25519), CLIENT_SCOPES, unit="north")


@pytest.fixture
def signer(ed25519: OKPKey) -> Signer:
    return Signer(CLIENT, ed25519)


@pytest.fixture(scope="session")
def node_key() -> SigningKey:
    return SigningKey(b"n" * 32)


@pytest.fixture
def peer(node_key: SigningKey) -> PeerClient:
    return PeerClient(PEER, bytes(node_key.verify_key))


@pytest.fixture
def peer_signer(node_key: SigningKey) -> Signer:
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64url(bytes(node_key.verify_key)),
        "d": base64url(bytes(node_key)),
    }
    return Signer(PEER, OKPKey.import_key(jwk))


@pytest.fixture
def token(server: TokenServer, client: RegisteredClient, signer: Signer) -> Callable[..., str]:
    def make(scope: str = "inbox:read", now: int = NOW) -> str:
        assertion = signer.sign(iat=now // 1000, exp=now // 1000 + 60)
        answer = server.issue(form_with(assertion, scope), client, now=now)
        return str(answer.body["access_token"])

    return make
