"""Sealing: content to envelope. Encrypt, then sign; both identities are bound by the header.

Steps:

1. Content is padded to the smallest of 4096, 16384, 65536 bytes that is greater than it: 0x80, then zeros.
2. The header gets the commitment to the data key and is written; these are the bytes that will be signed.
3. The data key is sealed to the epoch key (`wrapped_key`). A key that gives everybody the same secret is refused.
4. The padded content is sealed under the data key with the header as associated data; the nonce stands in front.
5. The signature covers tag, header, and the digests of `wrapped_key` and `ciphertext`.

A stop has nothing to seal: its two sealed members are random filler of the usual lengths.

Nothing here decides whether the content may be sent. Only the room that holds a gate's result may call it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.public import PublicKey, SealedBox

from exchange.envelope.errors import ContentTooLargeError, KeyUnusableError, MalformedError
from exchange.envelope.format import CIPHERTEXT_BYTES, WRAPPED_KEY_BYTES, Envelope, Header, digest_of, encode_header
from exchange.envelope.keys import KEY_BYTES, NACL_REFUSALS, NONCE_BYTES, Dek, key_id
from exchange.envelope.kinds import KindClass
from exchange.limits import LIMITS

STOP_FILLER_BYTES: Final = WRAPPED_KEY_BYTES + CIPHERTEXT_BYTES[0]
"""How much random filler a stop needs."""
PADDING_MARK: Final = b"\x80"

Sign = Callable[[bytes], bytes]
"""Signs a message: `AgencyKey.sign` or `NodeKey.sign`."""


class Sealed(NamedTuple):
    """An envelope that was made here, and its digest: both come from the bytes that were signed."""

    envelope: Envelope
    digest: str


def pad(content: bytes) -> bytes:
    """The content in the smallest size that is greater than it.

    Raises:
        ContentTooLargeError: no size is.
    """
    for size in LIMITS.padding_bytes:
        if len(content) < size:
            return content + PADDING_MARK + bytes(size - len(content) - 1)
    raise ContentTooLargeError


def wrap_dek(dek: Dek, epoch_public: bytes) -> bytes:
    """The data key, sealed to an epoch key.

    The ephemeral key inside is libsodium's own randomness: it is destroyed at once and nobody may choose it.

    Raises:
        KeyUnusableError: the public key is malformed or of low order.
    """
    if len(epoch_public) != KEY_BYTES:
        raise KeyUnusableError
    try:
        return _box(epoch_public).encrypt(dek.secret_bytes())
    except NACL_REFUSALS as error:
        raise KeyUnusableError from error


def seal(header: Header, content: bytes, *, epoch_public: bytes, sign: Sign, dek: bytes, nonce: bytes) -> Sealed:
    """A forward or an answer, sealed and signed.

    Args:
        header: complete but for `dek_commitment`.
        content: what only the receiver may read.
        epoch_public: the receiver's key of this week, of which the header names the id.
        sign: signs with the agency key, of which the header names the id.
        dek: 32 fresh random bytes, used for this envelope only.
        nonce: 24 fresh random bytes.

    Raises:
        ContentTooLargeError: the content fits into no envelope.
        KeyUnusableError: the epoch key is unusable, or not the one the header names.
        MalformedError: the receiver would refuse this header.
    """
    if key_id(epoch_public) != header.epoch_key:
        raise KeyUnusableError
    key = Dek(dek)
    return assemble(header, content, wrapped_key=wrap_dek(key, epoch_public), sign=sign, dek=key, nonce=nonce)


def assemble(header: Header, content: bytes, *, wrapped_key: bytes, sign: Sign, dek: Dek, nonce: bytes) -> Sealed:
    """Steps 1, 2, 4 and 5, around a data key that is already wrapped: test vectors need it so. Otherwise use `seal`."""
    if header.kind_class is KindClass.STOP:
        raise MalformedError("kind")
    if len(nonce) != NONCE_BYTES:
        raise MalformedError("nonce")
    padded = pad(content)
    head = encode_header(header, dek_commitment=dek.commitment())
    ciphertext = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(padded, head, nonce, dek.secret_bytes())
    return _signed(head, wrapped_key, ciphertext, sign)


def seal_stop(header: Header, *, sign: Sign, filler: bytes) -> Sealed:
    """A stop: complete in its header, around random filler that nobody opens.

    Args:
        header: complete.
        sign: signs with the key that `signed_by` names.
        filler: `STOP_FILLER_BYTES` fresh random bytes.

    Raises:
        MalformedError: the header is not that of a stop, or the filler has another length.
    """
    if header.kind_class is not KindClass.STOP:
        raise MalformedError("kind")
    if len(filler) != STOP_FILLER_BYTES:
        raise MalformedError("filler")
    wrapped_key, ciphertext = filler[:WRAPPED_KEY_BYTES], filler[WRAPPED_KEY_BYTES:]
    return _signed(encode_header(header), wrapped_key, ciphertext, sign)


def _signed(head: bytes, wrapped_key: bytes, ciphertext: bytes, sign: Sign) -> Sealed:
    signed = Envelope(head, wrapped_key, ciphertext, b"").signed_input()
    return Sealed(Envelope(head, wrapped_key, ciphertext, sign(signed)), digest_of(signed))


@lru_cache(maxsize=256)
def _box(epoch_public: bytes) -> SealedBox[PublicKey]:
    """A box for a public key; making one costs a tenth of using it."""
    return SealedBox(PublicKey(epoch_public))
