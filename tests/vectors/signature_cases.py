"""Signatures on which libraries differ. Each was made with the arithmetic of the curve, not with a signing function."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from nacl import bindings
from vectors.samples import AGENCY, fixed_bytes

Case = dict[str, Any]
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ORDER_8: Final = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
"""A point of order eight: added to another point it disappears in every check that multiplies by the cofactor."""
NEUTRAL: Final = bytes([1]) + bytes(31)
NEUTRAL_AGAIN: Final = bytes.fromhex("ee" + "ff" * 30 + "7f")
"""The neutral point, with a y-coordinate that is not below the prime."""
MESSAGE: Final = b"what is signed"


def _scalar(label: str) -> int:
    return int.from_bytes(fixed_bytes(label), "little") % ORDER


def _point(scalar: int) -> bytes:
    return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little"))


def _challenge(r: bytes, public: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public + MESSAGE).digest(), "little") % ORDER


def _signature(r: bytes, s: int) -> bytes:
    return r + s.to_bytes(32, "little")


def _twisted_key(secret: int) -> tuple[bytes, bytes]:
    """A key with a part of order eight, and a signature that only holds where the cofactor is multiplied in."""
    public = bindings.crypto_core_ed25519_add(_point(secret), ORDER_8)
    for attempt in range(100):
        nonce = _scalar(f"nonce {attempt}")
        challenge = _challenge(_point(nonce), public)
        if challenge % 8:
            return public, _signature(_point(nonce), (nonce + challenge * secret) % ORDER)
    raise AssertionError


def signatures() -> Iterator[Case]:
    """Section 2: Ed25519 without a cofactor, one spelling of S, no point of low order."""
    secret, nonce = _scalar("secret of the signatures"), _scalar("nonce of the signatures")
    public, r = _point(secret), _point(nonce)
    right = (nonce + _challenge(r, public) * secret) % ORDER
    twisted_r = bindings.crypto_core_ed25519_add(r, ORDER_8)
    twisted_s = (nonce + _challenge(twisted_r, public) * secret) % ORDER
    twisted_key, of_twisted_key = _twisted_key(secret)
    signed = AGENCY.sign(MESSAGE)
    cases = (
        ("signed", AGENCY.public, signed, MESSAGE, True),
        ("made-by-arithmetic", public, _signature(r, right), MESSAGE, True),
        ("another-message", AGENCY.public, signed, MESSAGE + b".", False),
        ("another-key", public, signed, MESSAGE, False),
        ("short", AGENCY.public, signed[:-1], MESSAGE, False),
        ("long", AGENCY.public, signed + b"\x00", MESSAGE, False),
        ("s-not-reduced", public, _signature(r, right + ORDER), MESSAGE, False),
        ("r-needs-cofactor", public, _signature(twisted_r, twisted_s), MESSAGE, False),
        ("key-needs-cofactor", twisted_key, of_twisted_key, MESSAGE, False),
        ("r-neutral", public, _signature(NEUTRAL, _challenge(NEUTRAL, public) * secret % ORDER), MESSAGE, False),
        (
            "r-in-another-spelling",
            public,
            _signature(NEUTRAL_AGAIN, _challenge(NEUTRAL_AGAIN, public) * secret % ORDER),
            MESSAGE,
            False,
        ),
        ("key-neutral", NEUTRAL, _signature(r, nonce), MESSAGE, False),
        ("key-in-another-spelling", NEUTRAL_AGAIN, _signature(r, nonce), MESSAGE, False),
        ("key-is-no-point", bytes.fromhex("02" + "00" * 31), _signature(r, nonce), MESSAGE, False),
        ("key-short", public[:-1], _signature(r, right), MESSAGE, False),
    )
    for name, key, signature, message, holds in cases:
        yield {
            "name": name,
            "public": key.hex(),
            "message": message.hex(),
            "signature": signature.hex(),
            "expect": "success" if holds else "bad-signature",
        }
