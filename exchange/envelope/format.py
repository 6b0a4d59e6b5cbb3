"""The envelope: strict parse, one spelling, its signed input and its digest. No cryptography but SHA-256.

Rules:

* An envelope has the members header, wrapped_key, ciphertext, signature, and on its way a disclosure has `release`.
* Lengths are checked before anything is decoded; a ciphertext has one of exactly three lengths.
* The header inside is bytes: `header.parse_header` reads it, nothing ever writes it again.
* Nothing here looks at a clock, a roster or a key.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from exchange.envelope.errors import MalformedError
from exchange.envelope.header import SUITE, VOCABULARIES, Header, HeaderReceipt, encode_header, parse_header
from exchange.envelope.kinds import Kind, KindClass, SignedBy
from exchange.envelope.tags import PREFIX_BYTES, Tag, framed
from exchange.envelope.wire import SIGNATURE_BYTES, from_base64url, read_again, refuse_unless, to_base64url
from exchange.limits import LIMITS

__all__ = [
    "CIPHERTEXT_BYTES",
    "SIGNATURE_BYTES",
    "SUITE",
    "VOCABULARIES",
    "WIRE_BYTES",
    "WRAPPED_KEY_BYTES",
    "Envelope",
    "Header",
    "HeaderReceipt",
    "Kind",
    "KindClass",
    "SignedBy",
    "check_on_the_wire",
    "commitment_in",
    "digest_of",
    "encode_header",
    "parse_envelope",
    "parse_header",
    "signed_input",
]

WRAPPED_KEY_BYTES: Final = 80
"""Ephemeral public key 32, authenticator 16, data key 32."""
SEAL_OVERHEAD_BYTES: Final = 40
"""Nonce 24 in front, authenticator 16 behind."""
CIPHERTEXT_BYTES: Final = tuple(size + SEAL_OVERHEAD_BYTES for size in LIMITS.padding_bytes)
"""The only lengths a ciphertext has."""
WIRE_BYTES: Final = dict(zip(CIPHERTEXT_BYTES, LIMITS.wire_bytes, strict=True))
"""What an envelope takes in a batch, by the length of its ciphertext."""
_DIGEST_BYTES: Final = 32
_REQUIRED: Final = frozenset({"header", "wrapped_key", "ciphertext", "signature"})


def commitment_in(header: bytes) -> str | None:
    """The commitment in a header that was parsed strictly before; reads nothing else, so that opening stays quick."""
    return read_again(header).get("dek_commitment")


def signed_input(header: bytes, wrapped_key_digest: bytes, ciphertext_digest: bytes) -> bytes:
    """What the signature covers. Enough to check it after the wrapped key itself has been destroyed."""
    return framed(Tag.ENVELOPE, header, wrapped_key_digest, ciphertext_digest)


def part_digests(signed: bytes) -> bytes:
    """What a signed input covers beside the header: SHA-256 of the wrapped key, then of the ciphertext."""
    second = len(signed) - _DIGEST_BYTES
    first = second - PREFIX_BYTES - _DIGEST_BYTES
    return signed[first : first + _DIGEST_BYTES] + signed[second:]


def digest_of(signed: bytes) -> str:
    """The digest of the envelope with this signed input: its SHA-256, in hexadecimal."""
    return hashlib.sha256(signed).hexdigest()


class Envelope(NamedTuple):
    """One sealed message, as it lies and as it travels. Well-formed in its lengths; nothing else is proven."""

    header: bytes
    wrapped_key: bytes
    ciphertext: bytes
    signature: bytes
    release: bytes | None = None
    """The signed release statement; only a disclosure on its way has one."""

    def signed_input(self) -> bytes:
        """What the signature covers."""
        return signed_input(
            self.header, hashlib.sha256(self.wrapped_key).digest(), hashlib.sha256(self.ciphertext).digest()
        )

    def digest(self) -> str:
        """The name of exactly these bytes."""
        return digest_of(self.signed_input())

    def to_json(self) -> dict[str, str]:
        """The JSON members."""
        members = {
            "header": to_base64url(self.header),
            "wrapped_key": to_base64url(self.wrapped_key),
            "ciphertext": to_base64url(self.ciphertext),
            "signature": to_base64url(self.signature),
        }
        if self.release is not None:
            members["release"] = to_base64url(self.release)
        return members


def parse_envelope(value: object) -> Envelope:
    """The envelope in a parsed JSON value.

    Raises:
        TooLargeError: step 1.
        MalformedError: step 2.
    """
    if not isinstance(value, dict) or not value.keys() >= _REQUIRED:
        raise MalformedError("envelope")
    if not value.keys() <= _REQUIRED | {"release"}:
        raise MalformedError("a member that an envelope does not have")
    header = from_base64url(value["header"], member="header", longest=LIMITS.header_bytes)
    wrapped_key = from_base64url(value["wrapped_key"], member="wrapped_key", longest=WRAPPED_KEY_BYTES)
    ciphertext = from_base64url(value["ciphertext"], member="ciphertext", longest=CIPHERTEXT_BYTES[-1])
    signature = from_base64url(value["signature"], member="signature", longest=SIGNATURE_BYTES)
    release = None
    if "release" in value:
        release = from_base64url(value["release"], member="release", longest=LIMITS.statement_bytes)
        refuse_unless(len(release) > 0, "release")
    refuse_unless(len(header) > 0, "header")
    refuse_unless(len(wrapped_key) == WRAPPED_KEY_BYTES, "wrapped_key")
    refuse_unless(len(ciphertext) in CIPHERTEXT_BYTES, "ciphertext")
    refuse_unless(len(signature) == SIGNATURE_BYTES, "signature")
    return Envelope(header, wrapped_key, ciphertext, signature, release)


def check_on_the_wire(envelope: Envelope, header: Header) -> None:
    """The rules of step 2 that need both halves.

    A disclosure travels with its release statement and nothing else does; a stop has the smallest size, so that its
    length says nothing.

    Raises:
        MalformedError: step 2.
    """
    refuse_unless((envelope.release is not None) == (header.kind is Kind.DISCLOSURE), "release")
    if header.kind_class is KindClass.STOP:
        refuse_unless(len(envelope.ciphertext) == CIPHERTEXT_BYTES[0], "ciphertext")
