"""Fixed keys, ids and headers for vectors and tests: everything follows from a label, never from chance."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from nacl import bindings
from support.replacing import replace

from exchange.envelope.format import Envelope, Header, HeaderReceipt
from exchange.envelope.keys import AgencyKey, Dek, EpochKey, NodeKey, ReferralKey, StorageKey
from exchange.envelope.kinds import SHAPES, Kind, KindClass, SignedBy
from exchange.envelope.receipts import sign_receipt
from exchange.envelope.seal import NONCE_BYTES, STOP_FILLER_BYTES, Sign, assemble, seal_stop
from exchange.envelope.statements import ReleaseStatement, sign_statement
from exchange.limits import LIMITS


def fixed_bytes(label: str, length: int = 32) -> bytes:
    """Bytes that follow from a label: SHAKE-256 of it."""
    return hashlib.shake_256(b"referral-exchange test vectors: " + label.encode()).digest(length)


def fixed_id(label: str) -> str:
    """An id that follows from a label."""
    return fixed_bytes(label, 16).hex()


CREATED: Final = 1_798_444_800_000
"""Monday 2026-12-28, 08:00 UTC."""
RESPOND_BY: Final = CREATED + 3_600_000
AGENCY: Final = AgencyKey(fixed_bytes("agency key of helpline-one"))
NODE: Final = NodeKey(fixed_bytes("node key of helpline-one"))
OTHER_AGENCY: Final = AgencyKey(fixed_bytes("agency key of shelter-two"))
OTHER_NODE: Final = NodeKey(fixed_bytes("node key of shelter-two"))
EPOCH: Final = EpochKey(fixed_bytes("epoch key of shelter-two"))
OTHER_EPOCH: Final = EpochKey(fixed_bytes("another epoch key"))
STORAGE: Final = StorageKey(fixed_bytes("storage key"))
REFERRAL_KEY: Final = ReferralKey(fixed_bytes("referral key"))
DEK: Final = Dek(fixed_bytes("data key"))
NONCE: Final = fixed_bytes("nonce", NONCE_BYTES)
CONTENT: Final = b'{"language":["fil"],"needs":["tonight"],"party":{"adults":1}}'
LOW_ORDER: Final = (
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
)
"""Points on Curve25519, and their other spellings, that give every sender the same secret."""


def sample_receipt() -> HeaderReceipt:
    """A receipt from helpline-one to shelter-two, signed."""
    receipt = HeaderReceipt(
        receipt_id=fixed_id("receipt"),
        issuer="helpline-one",
        recipient="shelter-two",
        purpose="provide-safe-accommodation",
        groups=("contact", "name", "need", "safety"),
        basis="consent",
        issued=CREATED - 60_000,
        expires=CREATED + 90 * 86_400_000,
        signature=bytes(64),
    )
    return replace(receipt, signature=sign_receipt(receipt.signing_body(), AGENCY.sign))


_EVENTS: Final = {Kind.REFUSAL: "content-invalid"}


def sample_header(kind: Kind, **changes: Any) -> Header:
    """A header of this kind as helpline-one would send it to shelter-two, without its commitment."""
    shape = SHAPES[kind]
    stop = shape.kind_class is KindClass.STOP
    signed_by = SignedBy.NODE if stop else SignedBy.AGENCY
    values: dict[str, Any] = {
        "id": fixed_id(f"envelope {kind.value}"),
        "kind": kind,
        "referral": fixed_id("referral"),
        "sender": "helpline-one",
        "recipient": "shelter-two",
        "signed_by": signed_by,
        "signing_key": (NODE if stop else AGENCY).key_id,
        "vocabulary": 1,
        "roster_version": 7,
        "roster_digest": fixed_bytes("roster").hex(),
        "seen": 0,
        "created": CREATED,
        "expires": CREATED + (LIMITS.stop_expires_ms if stop else LIMITS.answer_expires_ms),
    }
    optional = {
        "epoch_key": EPOCH.key_id,
        "contract": fixed_bytes("contract").hex(),
        "purpose": "provide-safe-accommodation",
        "stage": min(shape.stages, default=None),
        "groups": ("name", "routing") if "disclosure" in shape.stages else ("need", "routing", "safety"),
        "event": _EVENTS.get(kind, min(shape.events or (), default=None)),
        "number": CREATED,
        "priority": "emergency",
        "respond_by": RESPOND_BY,
        "receipt": sample_receipt(),
        "in_reply_to": fixed_id("what is answered"),
    }
    values |= {name: value for name, value in optional.items() if name in shape.required}
    if kind is Kind.OFFER:
        values["expires"] = RESPOND_BY + LIMITS.offer_after_respond_by_ms
    if kind is Kind.ERASURE_RECEIPT:
        values |= {"event": "erased-by-node"}
    return Header(**(values | changes))


def wrap_deterministically(dek: Dek, epoch_public: bytes, label: str = "ephemeral key") -> bytes:
    """A SealedBox whose ephemeral key follows from a label. libsodium draws it at random; vectors cannot.

    ephemeral public key, then crypto_box(data key) under nonce BLAKE2b-192(ephemeral public key, epoch public key).
    """
    ephemeral = EpochKey(fixed_bytes(label))
    nonce = hashlib.blake2b(ephemeral.public + epoch_public, digest_size=24).digest()
    return ephemeral.public + bindings.crypto_box(dek.secret_bytes(), nonce, epoch_public, ephemeral.secret_bytes())


def sample_envelope(kind: Kind, content: bytes = CONTENT, *, sign: Sign | None = None, **changes: Any) -> Envelope:
    """An envelope of this kind; a disclosure comes with its release statement."""
    header = sample_header(kind, **changes)
    if header.kind_class is KindClass.STOP:
        return seal_stop(header, sign=sign or NODE.sign, filler=fixed_bytes("filler", STOP_FILLER_BYTES)).envelope
    wrapped_key = wrap_deterministically(DEK, EPOCH.public)
    sealed = assemble(header, content, wrapped_key=wrapped_key, sign=sign or AGENCY.sign, dek=DEK, nonce=NONCE)
    if kind is not Kind.DISCLOSURE:
        return sealed.envelope
    return replace(sealed.envelope, release=sample_release(sealed.digest))


def sample_release(disclosure: str) -> bytes:
    """The release statement for a disclosure's digest."""
    statement = ReleaseStatement(
        disclosure=disclosure,
        referral=fixed_id("referral"),
        number=CREATED + 60_000,
        accepting=fixed_bytes("accepting answer").hex(),
        released_at=CREATED + 60_000,
        roster_version=7,
        consent_live_at=CREATED + 60_000,
    )
    return sign_statement(statement, NODE.sign).to_bytes()
