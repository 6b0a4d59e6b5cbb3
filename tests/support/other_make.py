"""A member's node of another make: it goes by docs/protocol.md, whose sections the numbers are, and imports nothing."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import httpx2
from nacl import bindings as sodium
from nacl.signing import SigningKey, VerifyKey

Json = dict[str, Any]
TAG: Final = "referral-exchange/v1/"
DAY, MONDAY = 86_400_000, 4 * 86_400_000
WEEK: Final = 7 * DAY
PROVES: Final = {"alg": "Ed25519", "typ": "client-authentication+jwt"}
GRANT: Final = {
    "grant_type": "client_credentials",
    "scope": "federation",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
}


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def read(data: bytes) -> Json:
    value: Json = json.loads(data)
    assert canonical(value) == data
    return value


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def framed(tag: str, *parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in ((TAG + tag).encode(), *parts))


def key_id(key: bytes) -> str:
    return sha(key).hex()[:32]


def statement(key: SigningKey, tag: str, body: Json) -> str:
    """4"""
    signature = key.sign(framed(tag, canonical(body))).signature
    return b64(canonical({"body": body, "signature": b64(signature), "tag": TAG + tag}))


def stated(text: str, tag: str, key: str) -> Json:
    """4: the body, after its signature held."""
    said = read(unb64(text))
    VerifyKey(unb64(key)).verify(framed(tag, canonical(said["body"])), unb64(said["signature"]))
    return dict(said["body"])


def padded(content: bytes) -> bytes:
    """6"""
    return (content + b"\x80").ljust(next(size for size in (4096, 16384, 65536) if size > len(content)), b"\x00")


def signed_input(envelope: Json) -> bytes:
    """6"""
    wrapped, sealed = sha(unb64(envelope["wrapped_key"])), sha(unb64(envelope["ciphertext"]))
    return framed("envelope", unb64(envelope["header"]), wrapped, sealed)


class OtherMake(httpx2.AsyncBaseTransport):
    """Answers as a node, and speaks as one. AssertionError where the other's word does not hold."""

    def __init__(self, me: str, peer: str, way: httpx2.AsyncBaseTransport, clock: Callable[[], int]) -> None:
        self.me, self.them, self.way, self.clock = me, peer, way, clock
        self.agency, self.node, self.roster = SigningKey.generate(), SigningKey.generate(), b""
        self.private = secrets.token_bytes(32)
        self.arrived: list[tuple[Json, Json, Json, str]] = []
        """Header, content, release and digest."""
        self.token, self.given = "", secrets.token_hex(16)

    def use_roster(self, data: bytes) -> None:
        """17"""
        self.roster, said = data, json.loads(data)
        members = {one["agency"]: one for one in said["members"]}
        self.mine, self.peer, self.version = members[self.me], members[self.them], said["version"]

    def _card(self) -> Json:
        """5, 17"""
        key, starts = sodium.crypto_scalarmult_base(self.private), (self.clock() - MONDAY) // WEEK * WEEK + MONDAY
        said = {"key_id": key_id(key), "key": b64(key), "seq": 1}
        body = said | {"agency": self.me, "not_before": starts, "not_after": starts + WEEK}
        said |= dict.fromkeys(("not_before", "not_after"), "2026-11-30T00:00:00Z")  # as the rest, believed by nobody
        said |= {"statement": statement(self.agency, "epoch-key", body)}
        card = {"agency": self.me, "kind": self.mine["kind"], "software": "another", "synthetic": True}
        card |= {"agency_key": self.mine["agency_key"], "node_key": self.mine["node_key"], "epochs": [said]}
        card |= {"suites": ["rx1"], "vocabularies": [1], "contracts": [], "revocations": []}
        return card | {"roster_version": self.version, "roster_digest": sha(self.roster).hex()}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """17: it is asked."""
        body, path = await request.aread(), request.url.path
        if path == "/.well-known/referral-node":
            return httpx2.Response(200, json=self._card())
        if path == "/oauth/token":
            return httpx2.Response(200, json=self._token_for(dict(parse_qsl(body.decode()))))
        assert path == "/federation/v1/envelopes"
        assert request.headers["authorization"] == f"Bearer {self.given}"
        receipts = [self._receive(one) for one in json.loads(body)["envelopes"]]
        return httpx2.Response(200, json={"answers": [{"result": "accepted", "receipt": one} for one in receipts]})

    def _token_for(self, form: dict[str, str]) -> Json:
        signed, _, signature = form.pop("client_assertion").rpartition(".")
        header, claims = (json.loads(unb64(part)) for part in signed.split("."))
        VerifyKey(unb64(self.peer["node_key"])).verify(signed.encode(), unb64(signature))
        assert (form, header) == (GRANT, PROVES)
        assert [claims[name] for name in ("iss", "sub", "aud")] == [self.them, self.them, self.mine["node_url"]]
        return {"access_token": self.given, "token_type": "Bearer", "expires_in": 300, "scope": form["scope"]}

    def _receive(self, envelope: Json) -> str:
        """10"""
        header, digest = read(unb64(envelope["header"])), sha(signed_input(envelope)).hex()
        assert (header["from"], header["to"], header["suite"]) == (self.them, self.me, "rx1")
        key = unb64(self.peer[f"{header['signed_by']}_key"])
        assert key_id(key) == header["signing_key"]
        VerifyKey(key).verify(signed_input(envelope), unb64(envelope["signature"]))
        if receipt := dict(header.get("receipt", {})):
            signature = unb64(receipt.pop("signature"))
            VerifyKey(unb64(self.peer["agency_key"])).verify(framed("consent-receipt", canonical(receipt)), signature)
        release = stated(envelope["release"], "release", self.peer["node_key"]) if "release" in envelope else {}
        assert release.get("disclosure") == (digest if header["kind"] == "disclosure" else None)
        content = read(self._open(envelope, header)) if "epoch_key" in header else {}
        self.arrived.append((header, content, release, digest))
        said = {"envelope": header["id"], "digest": digest, "sender": self.them, "recipient": self.me}
        said |= {"referral": header["referral"], "received_at": self.clock()}
        return statement(self.node, "delivery-receipt", said)

    def _open(self, envelope: Json, header: Json) -> bytes:
        """6"""
        key, sealed = sodium.crypto_scalarmult_base(self.private), unb64(envelope["ciphertext"])
        dek = sodium.crypto_box_seal_open(unb64(envelope["wrapped_key"]), key, self.private)
        assert sha(framed("dek-commitment", dek)).hex() == header["dek_commitment"]
        bound, nonce = unb64(envelope["header"]), sealed[:24]
        opened = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], bound, nonce, dek)
        content: bytes = opened.rstrip(b"\x00").removesuffix(b"\x80")
        assert padded(content) == opened
        return content

    async def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Json:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        async with httpx2.AsyncClient(transport=self.way, headers=headers | {"content-type": kind}) as line:
            answer = await line.request(method, self.peer["node_url"] + path, content=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def call(self, path: str, body: bytes) -> Json:
        """17: with a token, which it gets first."""
        if not self.token:
            now, claims = self.clock() // 1000, {"iss": self.me, "sub": self.me, "aud": self.peer["node_url"]}
            parts = (PROVES, claims | {"iat": now, "exp": now + 60, "jti": secrets.token_hex(16)})
            signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
            form = GRANT | {"client_assertion": f"{signed}.{b64(self.node.sign(signed.encode()).signature)}"}
            kind = "application/x-www-form-urlencoded"
            self.token = (await self._ask("POST", "/oauth/token", urlencode(form).encode(), kind))["access_token"]
        return await self._ask("POST", path, body)

    def _header(self, kind: str, referral: str, key: SigningKey, members: Json) -> Json:
        """7"""
        signed_by = "node" if key is self.node else "agency"
        header = {"suite": "rx1", "id": secrets.token_hex(16), "kind": kind, "referral": referral, "vocabulary": 1}
        header |= {"from": self.me, "to": self.them, "signed_by": signed_by, "seen": 0, "created": self.clock()}
        header |= {"signing_key": key_id(bytes(key.verify_key)), "roster_version": self.version}
        return header | {"roster_digest": sha(self.roster).hex()} | members

    def receipt(self, purpose: str, groups: list[str]) -> Json:
        """9"""
        body = {"receipt_id": secrets.token_hex(16), "issuer": self.me, "recipient": self.them, "purpose": purpose}
        body |= {"groups": groups, "basis": "consent", "issued": self.clock(), "expires": self.clock() + 30 * DAY}
        return body | {"signature": b64(self.agency.sign(framed("consent-receipt", canonical(body))).signature)}

    async def seal(self, kind: str, referral: str, content: Json, **members: Any) -> Json:
        """2, 5, 6: to the other's key of this week."""
        card, now = await self._ask("GET", "/.well-known/referral-node?revocations=true"), self.clock()
        weeks = [stated(one["statement"], "epoch-key", self.peer["agency_key"]) for one in card["epochs"]]
        week = max((one for one in weeks if one["not_before"] <= now < one["not_after"]), key=lambda one: one["seq"])
        dek, nonce = secrets.token_bytes(32), secrets.token_bytes(24)
        header = self._header(kind, referral, self.agency, {"expires": now + 13 * DAY} | members)
        header |= {"epoch_key": week["key_id"], "dek_commitment": sha(framed("dek-commitment", dek)).hex()}
        bound, text = canonical(header), padded(canonical(content))
        sealed = nonce + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(text, bound, nonce, dek)
        return self._signed(header, sodium.crypto_box_seal(dek, unb64(week["key"])), sealed, self.agency)

    def stop(self, kind: str, referral: str, number: int, event: str) -> Json:
        """6, 8"""
        header = self._header(kind, referral, self.node, {"number": number, "event": event})
        header["expires"] = header["created"] + 400 * DAY
        return self._signed(header, secrets.token_bytes(80), secrets.token_bytes(4136), self.node)

    def _signed(self, header: Json, wrapped: bytes, sealed: bytes, key: SigningKey) -> Json:
        envelope = {"header": b64(canonical(header)), "wrapped_key": b64(wrapped), "ciphertext": b64(sealed)}
        return envelope | {"signature": b64(key.sign(signed_input(envelope)).signature)}

    def released(self, envelope: Json, number: int, accepting: str) -> Json:
        """12"""
        now, referral = self.clock(), read(unb64(envelope["header"]))["referral"]
        body = {"disclosure": sha(signed_input(envelope)).hex(), "referral": referral, "number": number}
        body |= {"accepting": accepting, "released_at": now, "consent_live_at": now, "roster_version": self.version}
        return envelope | {"release": statement(self.node, "release", body)}

    async def deliver(self, envelope: Json) -> str:
        """6, 10: what came of it, or why it was refused."""
        filled = json.dumps(envelope, separators=(",", ":")).ljust(8704)
        (answer,) = (await self.call("/federation/v1/envelopes", f'{{"envelopes":[{filled}]}}'.encode()))["answers"]
        if answer["result"] != "accepted":
            return str(answer["problem"]["code"])
        said = stated(answer["receipt"], "delivery-receipt", self.peer["node_key"])
        assert (said["digest"], said["recipient"]) == (sha(signed_input(envelope)).hex(), self.them)
        return "accepted"
