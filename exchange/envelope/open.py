"""Opening: envelope to content, in the numbered order of docs/protocol.md.

Here are the steps that need a key: 8 `check_signature`, 13 `unwrap`, 14 and 15 `decrypt`. Parsing (1, 2, 5) is
`format`, the consent receipt (11) is `receipts`. The other steps need a roster, a clock, a contract or a memory and are
done by the use case that receives; it must have done 1 to 12 before it calls `unwrap`.

Every function returns only if its step holds, and raises otherwise. Whatever nacl raises becomes the one refusal of the
step, so that a peer cannot learn from the manner of failing.
"""

from __future__ import annotations

import hmac

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from exchange.envelope.errors import CommitmentError, DecryptError, PaddingError
from exchange.envelope.format import CIPHERTEXT_BYTES, Envelope, commitment_in
from exchange.envelope.keys import NACL_REFUSALS, NONCE_BYTES, Dek, EpochKey, verify
from exchange.envelope.seal import PADDING_MARK
from exchange.limits import LIMITS


def check_signature(envelope: Envelope, public_key: bytes) -> None:
    """Step 8: this key signed exactly this header, wrapped key and ciphertext.

    The caller has found in the roster the key that `signed_by` and `signing_key` of the header name.

    Raises:
        BadSignatureError: it did not.
    """
    verify(public_key, envelope.signed_input(), envelope.signature)


def unwrap(envelope: Envelope, epoch_key: EpochKey) -> Dek:
    """Step 13: the data key inside.

    Raises:
        UnwrapError: it was sealed to another key, or changed.
    """
    return epoch_key.unwrap(envelope.wrapped_key)


def decrypt(envelope: Envelope, dek: Dek) -> bytes:
    """Steps 14 and 15: the content, if key, header and ciphertext belong together and the padding is right.

    The caller has parsed the header strictly at step 2; here only its commitment is read again.

    Raises:
        CommitmentError: the signed header commits to another key, or to none.
        DecryptError: the ciphertext does not open with this key and header.
        PaddingError: what it contains is not padded in the one allowed way.
    """
    return decrypt_committed(envelope, dek, commitment_in(envelope.header))


def decrypt_committed(envelope: Envelope, dek: Dek, commitment: str | None) -> bytes:
    """As `decrypt`, where the caller holds what was read of this header already.

    Raises:
        CommitmentError: the signed header commits to another key, or to none.
        DecryptError: the ciphertext does not open with this key and header.
        PaddingError: what it contains is not padded in the one allowed way.
    """
    if type(commitment) is not str or not hmac.compare_digest(commitment.encode(), dek.commitment().encode()):
        raise CommitmentError
    if len(envelope.ciphertext) not in CIPHERTEXT_BYTES:
        raise DecryptError
    try:
        nonce, sealed = envelope.ciphertext[:NONCE_BYTES], envelope.ciphertext[NONCE_BYTES:]
        padded = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, envelope.header, nonce, dek.secret_bytes())
    except NACL_REFUSALS as error:
        raise DecryptError from error
    return unpad(padded)


def unpad(padded: bytes) -> bytes:
    """The content without its padding, which must have the smallest size that fits.

    Raises:
        PaddingError: the mark is missing, something else stands behind it, or the size is not the smallest.
    """
    content, mark, zeros = padded.rpartition(PADDING_MARK)
    if not mark or zeros != bytes(len(zeros)):
        raise PaddingError
    fitting = next((size for size in LIMITS.padding_bytes if len(content) < size), None)
    if fitting != len(padded):
        raise PaddingError
    return content
