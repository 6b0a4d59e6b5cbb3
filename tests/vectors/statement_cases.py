"""The cases about keys, statements, receipts, epochs and what lies at rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from support.replacing import replace
from vectors.envelope_cases import flipped
from vectors.samples import (
    AGENCY,
    CREATED,
    DEK,
    EPOCH,
    LOW_ORDER,
    NODE,
    NONCE,
    OTHER_AGENCY,
    OTHER_EPOCH,
    OTHER_NODE,
    REFERRAL_KEY,
    STORAGE,
    fixed_bytes,
    fixed_id,
    sample_header,
    sample_release,
)

from contracts.canonical_json import canonical
from exchange.envelope.epochs import EpochRevocation, EpochStatement, Week, state_epoch, week_of
from exchange.envelope.format import Header
from exchange.envelope.key_file import KdfCost, KeySet, seal_keys
from exchange.envelope.keys import EpochKey
from exchange.envelope.kinds import Kind
from exchange.envelope.receipts import sign_receipt
from exchange.envelope.rewrap import rewrap
from exchange.envelope.sealed_rows import SealedRows
from exchange.envelope.statements import (
    Adherence,
    ConsentStatus,
    DeliveryReceipt,
    Signed,
    Statement,
    sign_statement,
)
from exchange.envelope.tags import Tag, framed
from exchange.envelope.wire import parse_canonical, to_base64url

Case = dict[str, Any]
OK: Final = "success"
WEEK: Final = 7 * 86_400_000
CHEAP: Final = KdfCost(1, 8192)
"""The cheapest derivation there is; a reader accepts it only when a test says so."""
PASSPHRASE: Final = "correct horse battery staple"


def keys() -> Iterator[Case]:
    yield {"name": "key-id", "public": AGENCY.public.hex(), "key_id": AGENCY.key_id, "expect": OK}
    yield {
        "name": "framing",
        "tag": "ENVELOPE",
        "parts": ["", "6162"],
        "framed": framed(Tag.ENVELOPE, b"", b"ab").hex(),
        "expect": OK,
    }
    yield {"name": "commitment", "dek": DEK.secret_bytes().hex(), "commitment": DEK.commitment(), "expect": OK}
    yield {
        "name": "storage-derivations",
        "storage": STORAGE.secret_bytes().hex(),
        "row_key": STORAGE.row_key().secret_bytes().hex(),
        "token_seed": STORAGE.token_key().secret_bytes().hex(),
        "digest_use": "request-body",
        "digest_value": "7b7d",
        "digest": STORAGE.keyed_digest("request-body", b"{}"),
        "expect": OK,
    }
    for index, point in enumerate(LOW_ORDER):
        yield {"name": f"low-order-{index}", "seal_to": point, "expect": "key-unusable"}
    yield {"name": "short-key", "seal_to": "00" * 31, "expect": "key-unusable"}
    yield {"name": "good-key", "seal_to": EPOCH.public.hex(), "expect": OK}


def sample_statements() -> dict[str, tuple[Signed[Any], bytes]]:
    """One of each statement with the public key that signs it."""
    receipt = DeliveryReceipt(
        envelope=fixed_id("envelope offer"),
        digest=fixed_bytes("digest").hex(),
        sender="helpline-one",
        recipient="shelter-two",
        referral=fixed_id("referral"),
        received_at=CREATED + 900,
    )
    adherence = Adherence(agency="shelter-two", contract=fixed_bytes("contract").hex(), adopted_at=CREATED)
    status = ConsentStatus(
        agency="helpline-one",
        recipient="shelter-two",
        receipts=fixed_bytes("answers").hex(),
        stated_at=CREATED + 3_600_000,
    )
    revocation = EpochRevocation(
        agency="shelter-two", key_id=EPOCH.key_id, compromised_since=CREATED, revoked_at=CREATED + 5, seq=9
    )
    epoch = state_epoch(EPOCH, week_of(CREATED), agency="shelter-two", seq=4, sign=OTHER_AGENCY.sign)
    return {
        "DeliveryReceipt": (sign_statement(receipt, OTHER_NODE.sign), OTHER_NODE.public),
        "Adherence": (sign_statement(adherence, OTHER_AGENCY.sign), OTHER_AGENCY.public),
        "ConsentStatus": (sign_statement(status, NODE.sign), NODE.public),
        "EpochRevocation": (sign_statement(revocation, OTHER_AGENCY.sign), OTHER_AGENCY.public),
        "EpochStatement": (epoch, OTHER_AGENCY.public),
    }


def statements() -> Iterator[Case]:
    def case(name: str, kind: str, data: bytes, public: bytes, expect: str, **more: Any) -> Case:
        return {
            "name": name,
            "kind": kind,
            "statement": data.decode(),
            "public": public.hex(),
            "expect": expect,
            **more,
        }

    for kind, (signed, public) in sample_statements().items():
        data = signed.to_bytes()
        more = {"leaf": signed.unverified.leaf} if kind == "DeliveryReceipt" else {}
        yield case(kind, kind, data, public, OK, **more)
        yield case(f"{kind}-other-key", kind, data, AGENCY.public, "statement-signature")
        changed = replace(signed, signature=flipped(signed.signature, 3)).to_bytes()
        yield case(f"{kind}-signature-changed", kind, changed, public, "statement-signature")
        body = signed.unverified.body()
        untagged = Signed(signed.unverified, OTHER_AGENCY.sign(body)).to_bytes()
        yield case(f"{kind}-signed-without-tag", kind, untagged, OTHER_AGENCY.public, "statement-signature")
    release = sample_release(fixed_bytes("disclosure").hex())
    yield case("ReleaseStatement", "ReleaseStatement", release, NODE.public, OK)
    receipt = sample_statements()["DeliveryReceipt"][0].to_bytes()
    yield case("another-kind", "ReleaseStatement", receipt, OTHER_NODE.public, "statement-malformed")
    for name, data in _malformed_statements(receipt):
        yield case(name, "DeliveryReceipt", data, OTHER_NODE.public, "statement-malformed")


def _malformed_statements(right: bytes) -> Iterator[tuple[str, bytes]]:
    members = parse_canonical(right, longest=4096)
    body = members["body"]
    yield "white-space", right.replace(b",", b", ", 1)
    yield "body-member-missing", canonical(members | {"body": {"digest": body["digest"]}})
    yield "body-member-unknown", canonical(members | {"body": body | {"note": "x"}})
    yield "body-is-text", canonical(members | {"body": "x"})
    yield "tag-unknown", canonical(members | {"tag": "referral-exchange/v2/delivery-receipt"})
    yield "member-unknown", canonical(members | {"note": "x"})
    yield "signature-short", canonical(members | {"signature": "AAAA"})
    yield "digest-upper-case", canonical(members | {"body": body | {"digest": body["digest"].upper()}})
    yield "time-true", canonical(members | {"body": body | {"received_at": True}})
    yield "time-zero", canonical(members | {"body": body | {"received_at": 0}})
    yield "too-large", canonical(members | {"note": "x" * 4096})


def _with_receipt(**changes: Any) -> Header:
    """An offer whose receipt says something else, properly signed."""
    header = sample_header(Kind.OFFER)
    assert header.receipt is not None
    receipt = replace(header.receipt, **changes)
    return replace(header, receipt=replace(receipt, signature=sign_receipt(receipt.signing_body(), AGENCY.sign)))


def receipts() -> Iterator[Case]:
    def case(name: str, header: Header, expect: str, at: int = CREATED) -> Case:
        members = replace(header, dek_commitment=DEK.commitment()).members()
        public = AGENCY.public.hex()
        return {"name": name, "header": canonical(members).decode(), "public": public, "at": at, "expect": expect}

    offer = sample_header(Kind.OFFER)
    assert offer.receipt is not None
    receipt = offer.receipt
    yield case("covers", offer, OK)
    yield case("last-moment-of-the-skew", offer, OK, receipt.expires + 119_999)
    yield case("expired", offer, "receipt-expired", receipt.expires + 120_000)
    yield case("not-yet-issued", offer, "receipt-expired", receipt.issued - 120_001)
    yield case("other-receiver", _with_receipt(recipient="embassy-three"), "receipt-mismatch")
    yield case("other-issuer", _with_receipt(issuer="embassy-three"), "receipt-mismatch")
    yield case("other-purpose", _with_receipt(purpose="provide-legal-aid"), "receipt-mismatch")
    yield case("group-not-covered", _with_receipt(groups=("need",)), "receipt-mismatch")
    unsigned = replace(offer, receipt=replace(receipt, signature=bytes(64)))
    yield case("unsigned", unsigned, "receipt-signature")
    by_node = replace(receipt, signature=sign_receipt(receipt.signing_body(), NODE.sign))
    yield case("signed-by-node-key", replace(offer, receipt=by_node), "receipt-signature")
    widened = replace(receipt, groups=("contact", "identity", "name", "need", "safety"))
    yield case("widened-afterwards", replace(offer, receipt=widened), "receipt-signature")


def _epoch(key: EpochKey, week: Week, seq: int) -> EpochStatement:
    return state_epoch(key, week, agency="shelter-two", seq=seq, sign=OTHER_AGENCY.sign).unverified


def epochs() -> Iterator[Case]:
    def case(name: str, statements: list[Statement], revocations: list[Statement], expect: str, **more: Any) -> Case:
        lists = {"statements": [s.members() for s in statements], "revocations": [r.members() for r in revocations]}
        return {"name": name, **lists, "at": CREATED, "known_seq": 0, "expect": expect, **more}

    week = week_of(CREATED)
    following = Week(week.not_after, week.not_after + WEEK)
    first, second = _epoch(EPOCH, week, 4), _epoch(OTHER_EPOCH, week, 6)
    revoked = EpochRevocation(
        agency="shelter-two", key_id=EPOCH.key_id, compromised_since=CREATED, revoked_at=CREATED, seq=5
    )
    yield case("this-week", [first, _epoch(OTHER_EPOCH, following, 5)], [], OK, chosen=EPOCH.key_id)
    yield case("highest-seq", [second, first], [], OK, chosen=OTHER_EPOCH.key_id)
    yield case("replaced-after-revocation", [first, second], [revoked], OK, chosen=OTHER_EPOCH.key_id)
    before = _epoch(OTHER_EPOCH, Week(week.not_before - WEEK, week.not_before), 6)
    yield case("highest-seq-of-a-week-that-is-over", [first, before], [], OK, known_seq=6, chosen=EPOCH.key_id)
    yield case("last-moment", [first], [], OK, at=week.not_after - 1, chosen=EPOCH.key_id)
    yield case("revoked", [first], [revoked], "no-epoch-key")
    yield case("week-over", [first], [], "no-epoch-key", at=week.not_after)
    yield case("none", [], [], "no-epoch-key")
    yield case("list-went-back", [first], [], "epoch-went-back", known_seq=5)
    yield case("number-twice", [first, replace(second, seq=4)], [], "epoch-repeated")
    yield case("number-twice-in-two-weeks", [first, _epoch(OTHER_EPOCH, following, 4)], [], "epoch-repeated")
    yield case("number-of-a-revocation", [first, replace(second, seq=5)], [revoked], "epoch-repeated")
    crooked = replace(first, not_before=week.not_before + 1)
    yield case("starts-late", [crooked], [], "epoch-not-a-week")
    yield case("two-weeks", [replace(first, not_after=following.not_after)], [], "epoch-not-a-week")
    yield case("key-id-of-another", [replace(first, key_id=OTHER_EPOCH.key_id)], [], "key-unusable")
    low = bytes(32)
    low_id = "66687aadf862bd776c8fc18b8e9f8e20"
    yield case("low-order", [replace(first, key=to_base64url(low), key_id=low_id)], [], "key-unusable")
    # A list is refused as a whole, and for its keys before its numbers.
    later = replace(_epoch(OTHER_EPOCH, following, 5), key=to_base64url(low), key_id=low_id)
    yield case("low-order-in-another-week", [first, later], [], "key-unusable")
    another = replace(_epoch(OTHER_EPOCH, following, 5), key_id=EPOCH.key_id)
    yield case("key-id-of-another-in-another-week", [first, another], [], "key-unusable")
    yield case("low-order-in-a-list-that-went-back", [first, later], [], "key-unusable", known_seq=9)
    yield case("starts-late-in-a-list-that-went-back", [crooked], [], "epoch-not-a-week", known_seq=9)
    yield case("low-order-in-a-week-that-is-none", [replace(later, not_after=week.not_after)], [], "epoch-not-a-week")


def rest() -> Iterator[Case]:
    yield from _rewrapped()
    yield from _rows()
    yield from _key_files()


def _rewrapped() -> Iterator[Case]:
    referral, envelope = fixed_id("referral"), fixed_id("envelope offer")
    wrapped = rewrap(DEK, referral_key=REFERRAL_KEY, referral=referral, envelope=envelope, nonce=NONCE)
    right = {"kind": "rewrap", "key": REFERRAL_KEY.secret_bytes().hex(), "referral": referral, "envelope": envelope}
    right |= {"wrapped": wrapped.hex(), "value": DEK.secret_bytes().hex()}
    yield {"name": "rewrapped", **right, "expect": OK}
    for name, changes in (
        ("rewrapped-other-referral", {"referral": fixed_id("other")}),
        ("rewrapped-other-envelope", {"envelope": fixed_id("other")}),
        ("rewrapped-other-key", {"key": fixed_bytes("other").hex()}),
        ("rewrapped-changed", {"wrapped": flipped(wrapped).hex()}),
        ("rewrapped-other-version", {"wrapped": "02" + wrapped.hex()[2:]}),
        ("rewrapped-short", {"wrapped": wrapped.hex()[:-2]}),
    ):
        yield {"name": name, **right, **changes, "expect": "sealed-row"}


def _rows() -> Iterator[Case]:
    place = {"table": "inbox", "column": "header", "row": fixed_id("row")}
    sealed = SealedRows(STORAGE.row_key()).seal(b"header bytes", **place, nonce=NONCE)
    right = {"kind": "row", "key": STORAGE.secret_bytes().hex(), **place, "sealed": sealed.hex()}
    right |= {"value": b"header bytes".hex()}
    yield {"name": "row", **right, "expect": OK}
    for name, changes in (
        ("row-other-table", {"table": "outbox"}),
        ("row-other-column", {"column": "body"}),
        ("row-other-row", {"row": fixed_id("other")}),
        ("row-shifted-boundary", {"table": "inboxh", "column": "eader"}),
        ("row-other-key", {"key": fixed_bytes("other").hex()}),
        ("row-changed", {"sealed": flipped(sealed).hex()}),
        ("row-other-version", {"sealed": "02" + sealed.hex()[2:]}),
        ("row-empty", {"sealed": ""}),
    ):
        yield {"name": name, **right, **changes, "expect": "sealed-row"}


def _key_files() -> Iterator[Case]:
    chain = KeySet(agency=AGENCY, node=NODE, storage=STORAGE, epochs=(EPOCH, OTHER_EPOCH))
    salt = fixed_bytes("salt", 16)
    data = seal_keys(chain, PASSPHRASE.encode(), salt=salt, nonce=NONCE, cost=CHEAP)
    right = {"kind": "key-file", "file": data.decode(), "passphrase": PASSPHRASE, "agency": AGENCY.key_id}
    right |= {"opslimit_floor": CHEAP.opslimit, "memlimit_floor": CHEAP.memlimit}
    yield {"name": "key-file", **right, "expect": OK}
    members = parse_canonical(data.strip(), longest=65536)
    sealed = members["sealed"]
    for name, changes, expect in (
        ("key-file-wrong-passphrase", {"passphrase": "correct horse battery stable"}, "passphrase-wrong"),
        ("key-file-below-floor", {"opslimit_floor": 2, "memlimit_floor": 67108864}, "key-file-weak"),
        ("key-file-cost-changed", {"file": _file(members, opslimit=2)}, "passphrase-wrong"),
        ("key-file-cost-enormous", {"file": _file(members, memlimit=2**40)}, "key-file-weak"),
        ("key-file-cost-zero", {"file": _file(members, opslimit=0)}, "key-file-malformed"),
        (
            "key-file-sealed-changed",
            {"file": _file(members, sealed=sealed[:40] + "A" + sealed[41:])},
            "passphrase-wrong",
        ),
        ("key-file-other-format", {"file": _file(members, format="other/v1")}, "key-file-malformed"),
        ("key-file-other-kdf", {"file": _file(members, kdf="scrypt")}, "key-file-malformed"),
        ("key-file-unknown-member", {"file": _file(members, note="x")}, "key-file-malformed"),
        ("key-file-not-json", {"file": "-----BEGIN PRIVATE KEY-----"}, "key-file-malformed"),
    ):
        yield {"name": name, **right, **changes, "expect": expect}


def _file(members: dict[str, Any], **changes: Any) -> str:
    return canonical(members | changes).decode() + "\n"
