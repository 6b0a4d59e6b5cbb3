"""An envelope as the simulation reads it: by its own few lines, with the receiver's key of the week."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.public import PrivateKey, SealedBox

FORWARDS = frozenset({"offer", "disclosure", "information", "update"})
ANSWERS = frozenset({"decision", "progress", "information-request", "recall-answer"})


@dataclass(frozen=True, slots=True)
class Opened:
    """One envelope, read."""

    id: str
    kind: str
    referral: str
    header: dict[str, Any]
    digest: str
    wire: dict[str, str]
    release: dict[str, Any] | None
    """The body of its release statement."""

    @property
    def number(self) -> int:
        """The sender's number of it."""
        return int(self.release["number"] if self.release else self.header["number"])


def read(wire: dict[str, str]) -> Opened:
    """Everything that is not sealed."""
    raw = _bytes(wire["header"])
    header = json.loads(raw)
    release = statement(wire["release"]) if "release" in wire else None
    parts = (b"referral-exchange/v1/envelope", raw, *(_digest(wire[name]) for name in ("wrapped_key", "ciphertext")))
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return Opened(header["id"], header["kind"], header["referral"], header, sha256(framed).hexdigest(), wire, release)


def statement(text: str) -> dict[str, Any]:
    """The body of a signed statement; nobody looks at the signature here."""
    body: dict[str, Any] = json.loads(_bytes(text))["body"]
    return body


def inside(opened: Opened, private: bytes) -> dict[str, Any]:
    """What is sealed in it."""
    key = SealedBox(PrivateKey(private)).decrypt(_bytes(opened.wire["wrapped_key"]))
    sealed = _bytes(opened.wire["ciphertext"])
    padded = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], _bytes(opened.wire["header"]), sealed[:24], key)
    content: dict[str, Any] = json.loads(padded.rstrip(b"\x00")[:-1])
    return content


def batch(body: bytes) -> list[Opened]:
    """The envelopes of a batch."""
    return [read(wire) for wire in json.loads(body)["envelopes"]]


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _digest(text: str) -> bytes:
    return sha256(_bytes(text)).digest()
