"""Rewrapping on arrival: the data key under a random key per referral, so that destroying one referral is possible.

Rules:

* The referral key is 32 random bytes in a key store that no backup contains. Destroying it destroys every envelope of
  the referral, also in a restored backup of the database.
* The wrapped form is bound to referral and envelope: moved to another row it does not open.
* Its first byte is the version of this format.
"""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from exchange.envelope.errors import KeyUnusableError, SealedRowError
from exchange.envelope.keys import KEY_BYTES, NACL_REFUSALS, NONCE_BYTES, Dek, ReferralKey
from exchange.envelope.tags import Tag, framed

VERSION: Final = b"\x01"
_SEALED_AT: Final = len(VERSION) + NONCE_BYTES
REWRAPPED_BYTES: Final = _SEALED_AT + KEY_BYTES + 16
"""Version 1, nonce 24, data key 32, authenticator 16."""


def rewrap(dek: Dek, *, referral_key: ReferralKey, referral: str, envelope: str, nonce: bytes) -> bytes:
    """The data key of one envelope, wrapped under the key of its referral; `nonce` is 24 fresh random bytes."""
    if len(nonce) != NONCE_BYTES:
        raise SealedRowError
    bound = _bound(referral, envelope)
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(dek.secret_bytes(), bound, nonce, referral_key.secret_bytes())
    return VERSION + nonce + sealed


def unwrap_again(rewrapped: bytes, *, referral_key: ReferralKey, referral: str, envelope: str) -> Dek:
    """The data key inside.

    Raises:
        SealedRowError: another referral, another envelope, another key, an unknown version, or changed.
    """
    if len(rewrapped) != REWRAPPED_BYTES or not rewrapped.startswith(VERSION):
        raise SealedRowError
    nonce, sealed = rewrapped[len(VERSION) : _SEALED_AT], rewrapped[_SEALED_AT:]
    bound = _bound(referral, envelope)
    try:
        return Dek(crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, bound, nonce, referral_key.secret_bytes()))
    except (*NACL_REFUSALS, KeyUnusableError) as error:
        raise SealedRowError from error


def _bound(referral: str, envelope: str) -> bytes:
    return framed(Tag.REFERRAL_WRAP, referral.encode(), envelope.encode())
