"""The keys of an agency and its node. One class per role, so that a key cannot be used for another's purpose.

Rules:

* A secret never shows: `repr`, `str` and formatting name the class only; pickling and copying are refused.
* Two secrets are compared in constant time; they have no hash, so they cannot be looked up in a table by value.
* Secret bytes leave a key only through `secret_bytes()`, which a reviewer can search for.
* What is signed is always framed under a tag (`tags.framed`), but for the compact JWS of an OAuth client assertion.
* Keys are made from bytes. Where the bytes come from (the operating system) is the caller's business.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import ClassVar, Final, NoReturn

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from exchange.envelope.errors import BadSignatureError, KeyUnusableError, UnwrapError
from exchange.envelope.format import SIGNATURE_BYTES, WRAPPED_KEY_BYTES
from exchange.envelope.tags import Tag, framed

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
"""The nonce of XChaCha20-Poly1305."""
NACL_REFUSALS: Final = (CryptoError, ValueError, TypeError, RuntimeError)
"""Everything that nacl raises for bad input; each caller turns all of it into one refusal."""


@lru_cache(maxsize=1024)
def key_id(public: bytes) -> str:
    """The name of a public key: the first 32 hexadecimal characters of its SHA-256.

    Raises:
        KeyUnusableError: it is not 32 bytes long.
    """
    if len(public) != KEY_BYTES:
        raise KeyUnusableError
    return hashlib.sha256(public).hexdigest()[:32]


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Return only if this Ed25519 key made this signature over this message.

    Raises:
        BadSignatureError: it did not, or key or signature are malformed.
    """
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise BadSignatureError
    try:
        crypto_sign_open(signature + message, public)
    except NACL_REFUSALS as error:
        raise BadSignatureError from error


class Secret:
    """Thirty-two secret bytes that cannot show themselves."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if type(secret) is not bytes or len(secret) != KEY_BYTES:
            raise KeyUnusableError
        self._secret = secret

    def secret_bytes(self) -> bytes:
        """The bytes themselves, for a key file, a sealed row or a derivation. Never for a log."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]  # deliberately unhashable

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("A secret is neither pickled nor copied.")


class Dek(Secret):
    """The data key of one envelope."""

    __slots__ = ()

    def commitment(self) -> str:
        """What the header says of this key, since the cipher alone does not bind it."""
        return hashlib.sha256(framed(Tag.DEK_COMMITMENT, self._secret)).hexdigest()


class ReferralKey(Secret):
    """The random key of one referral. It lives in the key store only; destroying it destroys the referral."""

    __slots__ = ()


class SigningSecret(Secret):
    """An Ed25519 seed."""

    __slots__ = ("_signing", "key_id", "public")

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        # libsodium's own form, seed and public half: the way through `SigningKey` costs as much again as signing.
        self.public, self._signing = crypto_sign_seed_keypair(secret)
        self.key_id: Final = key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature over a message, which has to be framed under a tag."""
        return crypto_sign(message, self._signing)[:SIGNATURE_BYTES]


class AgencyKey(SigningSecret):
    """Speaks for the agency: envelopes, epoch statements, consent receipts, adherence to a contract."""

    __slots__ = ()


class NodeKey(SigningSecret):
    """Speaks for the node: delivery receipts, release statements, stops, OAuth client assertions."""

    __slots__ = ()


class TokenKey(SigningSecret):
    """Signs the access tokens of this node's own authorization server. Derived from the storage key."""

    __slots__ = ()


class EpochKey(Secret):
    """Opens what was sealed to the agency in one week (X25519)."""

    __slots__ = ("_box", "key_id", "public")

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        private = PrivateKey(secret)
        self.public: Final = bytes(private.public_key)
        self.key_id: Final = key_id(self.public)
        self._box = SealedBox(private)

    def unwrap(self, wrapped_key: bytes) -> Dek:
        """The data key inside.

        Raises:
            UnwrapError: it was sealed to another key, or changed.
        """
        if len(wrapped_key) != WRAPPED_KEY_BYTES:
            raise UnwrapError
        try:
            return Dek(self._box.decrypt(wrapped_key))
        except (*NACL_REFUSALS, KeyUnusableError) as error:
            raise UnwrapError from error


class StorageKey(Secret):
    """The root of everything a node seals or digests at rest. Its children are derived, each for one purpose.

    Children are BLAKE2b-256 keyed with this key, over no input, personalised per purpose.
    """

    __slots__ = ("_digest_key", "_row_key")

    _ROWS: ClassVar[bytes] = b"rx1/sealed-rows"
    _DIGESTS: ClassVar[bytes] = b"rx1/keyed-digest"
    _TOKENS: ClassVar[bytes] = b"rx1/token-seed"

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self._row_key: Final = self._derive(self._ROWS)
        self._digest_key: Final = self._derive(self._DIGESTS)

    def _derive(self, purpose: bytes) -> bytes:
        return hashlib.blake2b(key=self._secret, digest_size=KEY_BYTES, person=purpose).digest()

    def row_key(self) -> RowKey:
        """The key under which database values are sealed (`sealed_rows`)."""
        return RowKey(self._row_key)

    def token_key(self) -> TokenKey:
        """The key that signs this node's access tokens."""
        return TokenKey(self._derive(self._TOKENS))

    def keyed_digest(self, use: str, value: bytes) -> str:
        """A digest of something guessable, in hexadecimal, that nobody without this key can test a guess against.

        Args:
            use: what the digest is for, so that equal values of two columns do not look equal.
            value: what is digested.
        """
        message = framed(Tag.KEYED_DIGEST, use.encode(), value)
        return hashlib.blake2b(message, key=self._digest_key, digest_size=KEY_BYTES).hexdigest()

    def has_marked(self, use: str, value: bytes, mark: str | None) -> bool:
        """Whether this mark is the keyed digest of the value: whoever has no key can write none beside it."""
        return mark is not None and hmac.compare_digest(mark.encode(), self.keyed_digest(use, value).encode())


class RowKey(Secret):
    """Seals database values."""

    __slots__ = ()
