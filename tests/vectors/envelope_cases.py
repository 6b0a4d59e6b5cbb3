"""The cases about headers, envelopes and padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from nacl.secret import Aead
from support.replacing import replace
from vectors.samples import (
    AGENCY,
    CONTENT,
    CREATED,
    DEK,
    EPOCH,
    NODE,
    NONCE,
    OTHER_AGENCY,
    OTHER_EPOCH,
    fixed_bytes,
    fixed_id,
    sample_envelope,
    sample_header,
    sample_release,
    wrap_deterministically,
)

from contracts.canonical_json import canonical
from exchange.envelope.format import Envelope, encode_header
from exchange.envelope.keys import Dek
from exchange.envelope.kinds import Kind, KindClass
from exchange.envelope.seal import Sign, pad
from exchange.envelope.wire import to_base64url

Case = dict[str, Any]
OK: Final = "success"
DAY: Final = 86_400_000


def written(kind: Kind, **changes: Any) -> dict[str, Any]:
    """The members of a sample header, with its commitment where the kind has one."""
    header = sample_header(kind, **changes)
    if header.kind_class is not KindClass.STOP:
        header = replace(header, dek_commitment=DEK.commitment())
    return header.members()


def headers() -> Iterator[Case]:
    for kind in Kind:
        yield {"name": f"{kind.value}", "header": canonical(written(kind)).decode(), "expect": OK}
    for name, kind, changes, member in _WRONG_HEADERS:
        members = {key: value for key, value in (written(kind) | changes).items() if value is not None}
        yield {"name": name, "header": canonical(members).decode(), "expect": "malformed", "member": member}
    yield from _spellings()


_BIG: Final = 2**53
_WRONG_HEADERS: Final[tuple[tuple[str, Kind, dict[str, Any], str], ...]] = (
    ("offer-without-receipt", Kind.OFFER, {"receipt": None}, "receipt"),
    ("offer-without-contract", Kind.OFFER, {"contract": None}, "contract"),
    ("offer-without-seen", Kind.OFFER, {"seen": None}, "seen"),
    ("offer-with-event", Kind.OFFER, {"event": "accepted"}, "a member that this kind does not have"),
    ("offer-at-stage-disclosure", Kind.OFFER, {"stage": "disclosure"}, "stage"),
    ("offer-at-stage-named", Kind.OFFER, {"stage": "named"}, "stage"),
    ("offer-signed-by-node", Kind.OFFER, {"signed_by": "node"}, "signed_by"),
    ("offer-to-itself", Kind.OFFER, {"to": "helpline-one"}, "to"),
    ("offer-expires-late", Kind.OFFER, {"expires": CREATED + 3_600_000 + DAY + 1}, "expires"),
    ("offer-answered-before-made", Kind.OFFER, {"respond_by": CREATED, "expires": CREATED + DAY}, "respond_by"),
    ("unknown-member", Kind.OFFER, {"note": "x"}, "a member that this kind does not have"),
    ("unknown-kind", Kind.OFFER, {"kind": "gossip"}, "kind"),
    ("unknown-group", Kind.OFFER, {"groups": ["everything", "need"]}, "groups"),
    ("groups-not-sorted", Kind.OFFER, {"groups": ["routing", "need"]}, "groups"),
    ("groups-repeated", Kind.OFFER, {"groups": ["need", "need"]}, "groups"),
    ("groups-empty", Kind.OFFER, {"groups": []}, "groups"),
    ("unknown-purpose", Kind.OFFER, {"purpose": "curiosity"}, "purpose"),
    ("unknown-priority", Kind.OFFER, {"priority": "whenever"}, "priority"),
    ("id-upper-case", Kind.OFFER, {"id": fixed_id("x").upper()}, "id"),
    ("id-short", Kind.OFFER, {"id": "ab"}, "id"),
    ("agency-with-capital", Kind.OFFER, {"from": "Helpline-one"}, "from"),
    ("number-zero", Kind.OFFER, {"number": 0}, "number"),
    ("number-true", Kind.OFFER, {"number": True}, "number"),
    ("number-too-large", Kind.OFFER, {"number": _BIG}, "number"),
    ("number-as-text", Kind.OFFER, {"number": "1"}, "number"),
    ("seen-negative", Kind.OFFER, {"seen": -1}, "seen"),
    ("disclosure-with-number", Kind.DISCLOSURE, {"number": 5}, "a member that this kind does not have"),
    ("disclosure-with-priority", Kind.DISCLOSURE, {"priority": "urgent"}, "a member that this kind does not have"),
    ("disclosure-at-stage-offer", Kind.DISCLOSURE, {"stage": "offer"}, "stage"),
    ("disclosure-lives-15-days", Kind.DISCLOSURE, {"expires": CREATED + 15 * DAY}, "expires"),
    ("information-without-question", Kind.INFORMATION, {"in_reply_to": None}, "in_reply_to"),
    ("decision-completed", Kind.DECISION, {"event": "completed"}, "event"),
    ("decision-without-event", Kind.DECISION, {"event": None}, "event"),
    ("decision-with-groups", Kind.DECISION, {"groups": ["need"]}, "a member that this kind does not have"),
    ("progress-accepted", Kind.PROGRESS, {"event": "accepted"}, "event"),
    ("answer-expired-at-birth", Kind.PROGRESS, {"expires": CREATED}, "expires"),
    ("recall-with-contract", Kind.RECALL, {"contract": "0" * 64}, "a member that this kind does not have"),
    ("recall-with-commitment", Kind.RECALL, {"dek_commitment": "0" * 64}, "a member that this kind does not have"),
    ("withdrawal-with-receipt", Kind.WITHDRAWAL, {"receipt": {}}, "a member that this kind does not have"),
    ("withdrawal-with-groups", Kind.WITHDRAWAL, {"groups": ["name"]}, "a member that this kind does not have"),
    ("withdrawal-with-epoch-key", Kind.WITHDRAWAL, {"epoch_key": "0" * 32}, "a member that this kind does not have"),
    ("withdrawal-without-form", Kind.WITHDRAWAL, {"event": None}, "event"),
    ("withdrawal-unknown-form", Kind.WITHDRAWAL, {"event": "pause"}, "event"),
    ("withdrawal-ends-early", Kind.WITHDRAWAL, {"expires": CREATED + 14 * DAY}, "expires"),
    ("refusal-tells-duplicate", Kind.REFUSAL, {"event": "duplicate"}, "event"),
    ("refusal-tells-received", Kind.REFUSAL, {"event": "already-received"}, "event"),
    ("refusal-tells-conflict", Kind.REFUSAL, {"event": "conflict-of-interest"}, "event"),
    ("refusal-in-prose", Kind.REFUSAL, {"event": "we know her"}, "event"),
    ("node-attests-for-agency", Kind.ERASURE_RECEIPT, {"event": "erased-by-agency"}, "signed_by"),
    ("receipt-member-missing", Kind.OFFER, {"receipt": {"basis": "consent"}}, "receipt"),
    (
        "receipt-exact-basis",
        Kind.OFFER,
        {"receipt": written(Kind.OFFER)["receipt"] | {"basis": "caregiver"}},
        "receipt.basis",
    ),
    (
        "receipt-signature-short",
        Kind.OFFER,
        {"receipt": written(Kind.OFFER)["receipt"] | {"signature": "AAAA"}},
        "receipt.signature",
    ),
)


def _spellings() -> Iterator[Case]:
    members = written(Kind.OFFER)
    right = canonical(members).decode()
    wrong = "malformed"
    yield {
        "name": "white-space",
        "header": right.replace(",", ", ", 1),
        "expect": wrong,
        "member": "not canonical JSON",
    }
    yield {"name": "trailing-newline", "header": right + "\n", "expect": wrong, "member": "not canonical JSON"}
    yield {
        "name": "other-order",
        "header": '{"vocabulary":1,' + right[1:].replace(',"vocabulary":1', ""),
        "expect": wrong,
        "member": "not canonical JSON",
    }
    yield {
        "name": "duplicate-key",
        "header": '{"contract":"x",' + right[1:],
        "expect": wrong,
        "member": "not canonical JSON",
    }
    yield {
        "name": "needless-escape",
        "header": right.replace("emergency", "\\u0065mergency"),
        "expect": wrong,
        "member": "not canonical JSON",
    }
    yield {
        "name": "float",
        "header": right.replace('"seen":0', '"seen":0.0'),
        "expect": wrong,
        "member": "numbers are integers",
    }
    yield {"name": "null", "header": right.replace('"seen":0', '"seen":null'), "expect": wrong, "member": "seen"}
    yield {
        "name": "not-a-number",
        "header": right.replace('"seen":0', '"seen":NaN'),
        "expect": wrong,
        "member": "numbers are integers",
    }
    yield {"name": "array", "header": "[]", "expect": wrong, "member": "not a JSON object"}
    yield {"name": "cut-off", "header": right[:-1], "expect": wrong, "member": "not JSON"}
    yield {"name": "deep", "header": "[" * 4000, "expect": wrong, "member": "not JSON"}
    yield {"name": "too-large", "header": right + " " * 4096, "expect": "too-large"}
    yield {"name": "other-suite", "header": canonical(members | {"suite": "rx2"}).decode(), "expect": "unknown-suite"}
    yield {"name": "other-suite-other-members", "header": '{"suite":"rx9"}', "expect": "unknown-suite"}
    yield {"name": "delete-escaped", "header": '{"note":"\\u007f","suite":"rx9"}', "expect": "unknown-suite"}
    yield {
        "name": "delete-not-escaped",
        "header": '{"note":"\x7f","suite":"rx9"}',
        "expect": wrong,
        "member": "not canonical JSON",
    }
    yield {
        "name": "no-suite",
        "header": canonical({k: v for k, v in members.items() if k != "suite"}).decode(),
        "expect": wrong,
        "member": "suite",
    }
    yield {
        "name": "next-vocabulary",
        "header": canonical(members | {"vocabulary": 2}).decode(),
        "expect": "unknown-vocabulary",
    }
    yield {
        "name": "vocabulary-true",
        "header": canonical(members | {"vocabulary": True}).decode(),
        "expect": wrong,
        "member": "vocabulary",
    }


def _envelope_case(name: str, envelope: Envelope, expect: str, **more: Any) -> Case:
    keys = {
        "agency_public": AGENCY.public.hex(),
        "node_public": NODE.public.hex(),
        "epoch_private": EPOCH.secret_bytes().hex(),
    }
    return {"name": name, "envelope": envelope.to_json(), "expect": expect, **keys, **more}


def resigned(envelope: Envelope, sign: Sign = AGENCY.sign, **changes: Any) -> Envelope:
    """The envelope with other members, signed again: what a malicious sender could make."""
    changed = replace(envelope, **changes)
    return replace(changed, signature=sign(changed.signed_input()))


def flipped(data: bytes, at: int = -1) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def envelopes() -> Iterator[Case]:
    offer = sample_envelope(Kind.OFFER)
    for kind in (Kind.OFFER, Kind.DISCLOSURE, Kind.DECISION):
        envelope = sample_envelope(kind)
        yield _envelope_case(kind.value, envelope, OK, content=CONTENT.hex(), digest=envelope.digest())
    for kind in (Kind.WITHDRAWAL, Kind.ERASURE_RECEIPT):
        envelope = sample_envelope(kind)
        yield _envelope_case(kind.value, envelope, OK, digest=envelope.digest())
    larger = sample_envelope(Kind.OFFER, CONTENT.ljust(4096, b" "))
    yield _envelope_case("offer-second-size", larger, OK, content_length=4096, digest=larger.digest())
    yield from _broken_signatures(offer)
    yield from _malicious_senders(offer)
    yield from _malformed_envelopes(offer)


def _broken_signatures(offer: Envelope) -> Iterator[Case]:
    header = offer.header.replace(b'"seen":0', b'"seen":1')
    wrong = "bad-signature"
    yield _envelope_case("header-changed", replace(offer, header=header), wrong)
    yield _envelope_case("wrapped-key-changed", replace(offer, wrapped_key=flipped(offer.wrapped_key)), wrong)
    yield _envelope_case("ciphertext-changed", replace(offer, ciphertext=flipped(offer.ciphertext)), wrong)
    yield _envelope_case("signature-changed", replace(offer, signature=flipped(offer.signature, 0)), wrong)
    yield _envelope_case("signed-by-another", resigned(offer, OTHER_AGENCY.sign), wrong)
    yield _envelope_case("signed-by-node-key", resigned(offer, NODE.sign), wrong)
    yield _envelope_case("signed-without-tag", replace(offer, signature=AGENCY.sign(offer.header)), wrong)
    recall = sample_envelope(Kind.RECALL)
    yield _envelope_case("stop-filler-changed", replace(recall, ciphertext=flipped(recall.ciphertext)), wrong)


def _malicious_senders(offer: Envelope) -> Iterator[Case]:
    elsewhere = wrap_deterministically(DEK, OTHER_EPOCH.public)
    yield _envelope_case("sealed-to-another-key", resigned(offer, wrapped_key=elsewhere), "cannot-unwrap")
    yield _envelope_case("wrapped-key-noise", resigned(offer, wrapped_key=fixed_bytes("noise", 80)), "cannot-unwrap")
    other = Dek(fixed_bytes("another data key"))
    rewrapped = wrap_deterministically(other, EPOCH.public)
    yield _envelope_case("another-data-key", resigned(offer, wrapped_key=rewrapped), "commitment-mismatch")
    header = replace(sample_header(Kind.OFFER, seen=9), dek_commitment=DEK.commitment())
    yield _envelope_case("other-associated-data", resigned(offer, header=encode_header(header)), "cannot-decrypt")
    yield _envelope_case("ciphertext-resigned", resigned(offer, ciphertext=flipped(offer.ciphertext)), "cannot-decrypt")
    for name, padded in (
        ("padding-without-mark", bytes(4096)),
        ("padding-not-zero", flipped(pad(CONTENT))),
        ("padding-larger-than-needed", pad(CONTENT).ljust(16384, b"\x00")),
        ("padding-other-mark", pad(CONTENT).replace(b"\x80", b"\x81")),
    ):
        ciphertext = bytes(Aead(DEK.secret_bytes()).encrypt(padded, offer.header, NONCE))
        yield _envelope_case(name, resigned(offer, ciphertext=ciphertext), "bad-padding")


def _malformed_envelopes(offer: Envelope) -> Iterator[Case]:
    wrong = "malformed"
    release = sample_release(offer.digest())
    yield _envelope_case("offer-with-release", replace(offer, release=release), wrong)
    yield _envelope_case("disclosure-without-release", replace(sample_envelope(Kind.DISCLOSURE), release=None), wrong)
    yield _envelope_case("ciphertext-of-no-size", resigned(offer, ciphertext=offer.ciphertext[:-1]), wrong)
    yield _envelope_case("wrapped-key-short", resigned(offer, wrapped_key=offer.wrapped_key[:-1]), wrong)
    yield _envelope_case("signature-short", replace(offer, signature=offer.signature[:-1]), wrong)
    long_stop = resigned(sample_envelope(Kind.RECALL), NODE.sign, ciphertext=fixed_bytes("long", 16384 + 40))
    yield _envelope_case("stop-of-another-size", long_stop, wrong)
    yield _envelope_case("signature-too-long", replace(offer, signature=offer.signature * 2), "too-large")
    for name, member, text in (
        ("base64-padded", "header", to_base64url(offer.header) + "="),
        ("base64-second-spelling", "signature", to_base64url(offer.signature)[:-1] + "_"),
        ("base64-other-alphabet", "wrapped_key", to_base64url(offer.wrapped_key)[:-1] + "+"),
        ("base64-newline", "wrapped_key", to_base64url(offer.wrapped_key)[:-1] + "\n"),
        ("unknown-member", "note", "AAAA"),
        ("member-null", "release", None),
    ):
        case = _envelope_case(name, offer, wrong)
        case["envelope"][member] = text
        yield case
    case = _envelope_case("member-missing", offer, wrong)
    del case["envelope"]["wrapped_key"]
    yield case


def paddings() -> Iterator[Case]:
    for length in (0, 1, 4095, 4096, 16383, 16384, 65535):
        size = next(size for size in (4096, 16384, 65536) if size > length)
        yield {"name": f"content-of-{length}", "content_length": length, "padded_length": size, "expect": OK}
    yield {"name": "content-of-65536", "content_length": 65536, "expect": "content-too-large"}
    yield {"name": "content-ends-like-padding", "content": "80000080", "padded_length": 4096, "expect": OK}
    for name, head, length in (
        ("no-mark", "", 4096),
        ("mark-missing-behind-content", "616263", 4096),
        ("not-the-smallest", "61626380", 16384),
        ("of-no-size", "61626380", 4097),
        ("empty", "", 0),
    ):
        yield {"name": name, "padded_head": head, "padded_length": length, "expect": "bad-padding"}
