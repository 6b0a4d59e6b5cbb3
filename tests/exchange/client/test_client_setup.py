"""The SDK refuses addresses that can be overheard, keys that others can read, and ids that lead elsewhere."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from support.scripted_node import KEY, ScriptedNode

from exchange.client import AgencyClient, ClientKey, ClientSetupError
from exchange.client.connection import _trusts_nobody
from exchange.client.session import Call, keyed


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://node.example", id="plain http"),
        pytest.param("http://127.0.0.1.example.org", id="looks like this machine"),
        pytest.param("http://10.0.0.5:8080", id="a private network is not this machine"),
        pytest.param("ftp://127.0.0.1", id="another scheme"),
        pytest.param("node.example", id="no scheme"),
        pytest.param("", id="nothing"),
    ],
)
def test_addresses_that_could_be_overheard(url: str) -> None:
    with pytest.raises(ClientSetupError):
        AgencyClient(url, "case-system", KEY)


def test_where_there_is_no_tls_no_certificate_would_do() -> None:
    context = _trusts_nobody()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.get_ca_certs() == []


@pytest.mark.parametrize(
    "url", ["https://node.example", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:2"]
)
async def test_addresses_that_are_used(url: str) -> None:
    async with AgencyClient(url, "case-system", KEY):
        pass


def test_no_scope_is_refused() -> None:
    with pytest.raises(ClientSetupError):
        AgencyClient("https://node.example", "case-system", KEY, scopes=frozenset())


@pytest.mark.parametrize("item", ["", "../clients", "a/b", "a?b", "%2e%2e", "a b", "ä", "-", "a\n"], ids=repr)
async def test_ids_that_lead_elsewhere_are_not_sent(item: str) -> None:
    node = ScriptedNode()
    async with node.client() as client:
        with pytest.raises(ClientSetupError):
            await client.inbox.open(item)
    assert node.asked == []


def test_key_survives_its_file_and_never_shows(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ClientKey.load(path).public == KEY.public
    secret = json.loads(path.read_text())["d"]
    assert secret not in repr(KEY)
    assert secret not in str(KEY)
    assert secret not in json.dumps(KEY.public_jwk())


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    KEY.save(path)
    with pytest.raises(ClientSetupError):
        ClientKey(bytes(32)).save(path)
    assert ClientKey.load(path).public == KEY.public


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(ClientSetupError, match="chmod 600"):
        ClientKey.load(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("not json", id="not JSON"),
        pytest.param('{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}', id="public only"),
        pytest.param('{"kty": "EC", "crv": "P-256", "x": "AAAA", "d": "AAAA"}', id="another curve"),
        pytest.param('{"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": "AAAA"}', id="too short"),
        pytest.param(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "A" * 43}), id="halves differ"),
        pytest.param(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": 5}), id="not a text"),
        pytest.param(
            json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "A" * 43, "jku": "https://evil.example"}),
            id="points elsewhere",
        ),
    ],
)
def test_files_that_are_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.jwk"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ClientSetupError) as told:
        ClientKey.load(path)
    assert "A" * 43 not in str(told.value)


def test_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(ClientSetupError):
        ClientKey.load(tmp_path / "none.jwk")


@pytest.mark.parametrize(
    "named",
    [{"actor": "Sití"}, {"actor": "Siti Example"}, {"actor": ""}, {"actor": "a\r\nUnit: b"}, {"unit": "north\0"}],
)
async def test_a_name_is_no_pseudonym_and_is_not_repeated(named: dict[str, str]) -> None:
    with pytest.raises(ClientSetupError) as told:
        AgencyClient("https://node.example", "case-system", KEY, actor=named.get("actor"), unit=named.get("unit"))
    assert not any(value and value in f"{told.value} {told.value!r}" for value in named.values())
    async with AgencyClient("https://node.example", "case-system", KEY) as client:
        with pytest.raises(ClientSetupError):
            client.acting_as("Siti Example")


@pytest.mark.parametrize("key", ["ü", "a\nb", "a\x00", "", " ", "x" * 129])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(ClientSetupError, match="idempotency key"):
        keyed(Call("POST", "/v1/referrals"), key)
