"""The laws of the envelope: what is sealed opens, and whatever is changed, anywhere, does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.replacing import replace
from vectors.samples import (
    AGENCY,
    CONTENT,
    DEK,
    EPOCH,
    LOW_ORDER,
    NODE,
    NONCE,
    OTHER_EPOCH,
    fixed_bytes,
    sample_envelope,
    sample_header,
)

from exchange.envelope.errors import (
    ContentTooLargeError,
    EnvelopeError,
    KeyUnusableError,
    MalformedError,
    PaddingError,
    TooLargeError,
    UnwrapError,
)
from exchange.envelope.format import CIPHERTEXT_BYTES, Envelope, check_on_the_wire, parse_envelope, parse_header
from exchange.envelope.keys import Dek, EpochKey, key_id
from exchange.envelope.kinds import Kind
from exchange.envelope.open import check_signature, decrypt, unpad, unwrap
from exchange.envelope.seal import STOP_FILLER_BYTES, pad, seal, seal_stop
from exchange.limits import LIMITS

keys = st.binary(min_size=32, max_size=32)


def opened(envelope: Envelope, epoch_key: EpochKey = EPOCH) -> bytes:
    parsed = parse_envelope(envelope.to_json())
    check_on_the_wire(parsed, parse_header(parsed.header))
    check_signature(parsed, AGENCY.public)
    return decrypt(parsed, unwrap(parsed, epoch_key))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=20_000), keys, keys, st.binary(min_size=24, max_size=24))
def test_what_is_sealed_opens(content: bytes, private: bytes, dek: bytes, nonce: bytes) -> None:
    epoch = EpochKey(private)
    header = sample_header(Kind.OFFER, epoch_key=epoch.key_id)
    envelope, digest = seal(header, content, epoch_public=epoch.public, sign=AGENCY.sign, dek=dek, nonce=nonce)
    assert opened(envelope, epoch) == content
    assert digest == envelope.digest()
    assert len(envelope.ciphertext) in CIPHERTEXT_BYTES


OFFER = sample_envelope(Kind.OFFER)
DISCLOSURE = sample_envelope(Kind.DISCLOSURE)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["header", "wrapped_key", "ciphertext", "signature"]), st.data())
def test_any_flipped_bit_refuses(member: str, data: st.DataObject) -> None:
    value: bytes = getattr(OFFER, member)
    at = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(EnvelopeError):
        opened(replace(OFFER, **{member: bytes(changed)}))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["wrapped_key", "ciphertext"]), st.data())
def test_any_flipped_bit_refuses_even_when_signed_again(member: str, data: st.DataObject) -> None:
    """Encryption does not lean on the signature: a malicious signer cannot make a second meaning either."""
    value: bytes = getattr(OFFER, member)
    at = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[at // 8] ^= 1 << at % 8
    forged = replace(OFFER, **{member: bytes(changed)})
    with pytest.raises(EnvelopeError):
        opened(replace(forged, signature=AGENCY.sign(forged.signed_input())))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_character_of_the_json_refuses(data: st.DataObject) -> None:
    members = OFFER.to_json()
    name = data.draw(st.sampled_from(sorted(members)))
    text = members[name]
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda character: character != text[at]))
    changed = members | {name: text[:at] + other + text[at + 1 :]}
    with pytest.raises(EnvelopeError):
        check_signature(parse_envelope(changed), AGENCY.public)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 70_000))
def test_padding_has_one_length_for_each_content(length: int) -> None:
    if length >= LIMITS.padding_bytes[-1]:
        with pytest.raises(ContentTooLargeError):
            pad(bytes(length))
        return
    padded = pad(b"\x80" * length)
    assert len(padded) == min(size for size in LIMITS.padding_bytes if size > length)
    assert unpad(padded) == b"\x80" * length


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([4096, 16384, 100]))
def test_unpad_accepts_only_what_pad_writes(head: bytes, length: int) -> None:
    padded = head.ljust(length, b"\x00")
    try:
        content = unpad(padded)
    except PaddingError:
        return
    assert pad(content) == padded


def test_content_without_room_is_refused_before_sealing() -> None:
    with pytest.raises(ContentTooLargeError):
        sample_envelope(Kind.OFFER, bytes(65536))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_key_that_gives_everybody_the_same_secret_is_refused(point: str) -> None:
    public = bytes.fromhex(point)
    header = sample_header(Kind.OFFER, epoch_key=key_id(public))
    with pytest.raises(KeyUnusableError):
        seal(header, CONTENT, epoch_public=public, sign=AGENCY.sign, dek=bytes(32), nonce=NONCE)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        pytest.param({"epoch_public": OTHER_EPOCH.public}, KeyUnusableError, id="not-the-key-that-the-header-names"),
        pytest.param({"epoch_public": bytes(31)}, KeyUnusableError, id="key-of-31-bytes"),
        pytest.param({"dek": bytes(31)}, KeyUnusableError, id="data-key-of-31-bytes"),
        pytest.param({"nonce": bytes(23)}, MalformedError, id="nonce-of-23-bytes"),
        pytest.param({"header": sample_header(Kind.RECALL)}, KeyUnusableError, id="a-stop-has-no-key"),
        pytest.param(
            {"header": replace(sample_header(Kind.RECALL), epoch_key=EPOCH.key_id)}, MalformedError, id="a-stop"
        ),
        pytest.param({"header": sample_header(Kind.OFFER, seen=-1)}, MalformedError, id="a-bad-header"),
    ],
)
def test_what_cannot_be_sealed(changes: dict[str, object], refusal: type[EnvelopeError]) -> None:
    right = {"header": sample_header(Kind.OFFER), "content": CONTENT, "epoch_public": EPOCH.public}
    right |= {"sign": AGENCY.sign, "dek": DEK.secret_bytes(), "nonce": NONCE}
    with pytest.raises(refusal):
        seal(**(right | changes))


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        pytest.param(Kind.OFFER, STOP_FILLER_BYTES, id="an-offer"),
        pytest.param(Kind.RECALL, STOP_FILLER_BYTES - 1, id="filler-too-short"),
        pytest.param(Kind.RECALL, STOP_FILLER_BYTES + 1, id="filler-too-long"),
    ],
)
def test_what_is_no_stop(kind: Kind, length: int) -> None:
    with pytest.raises(MalformedError):
        seal_stop(sample_header(kind), sign=NODE.sign, filler=bytes(length))


@pytest.mark.parametrize("kind", [Kind.RECALL, Kind.WITHDRAWAL, Kind.REFUSAL, Kind.ENTERED_IN_ERROR])
def test_nobody_opens_a_stop(kind: Kind) -> None:
    stop = sample_envelope(kind)
    check_on_the_wire(stop, parse_header(stop.header))
    check_signature(stop, NODE.public)
    with pytest.raises(UnwrapError):
        unwrap(stop, EPOCH)
    with pytest.raises(EnvelopeError):
        decrypt(stop, DEK)


def test_a_stop_is_as_long_as_the_shortest_offer() -> None:
    stop = sample_envelope(Kind.RECALL)
    assert (len(stop.wrapped_key), len(stop.ciphertext)) == (len(OFFER.wrapped_key), len(OFFER.ciphertext))


def test_the_release_statement_is_not_part_of_the_signature() -> None:
    """It is made after the disclosure was sealed, by another key, and names the disclosure's digest."""
    assert replace(DISCLOSURE, release=None).digest() == DISCLOSURE.digest()


@pytest.mark.parametrize("value", [None, [], "x", 7, {}, {"header": "AA"}], ids=repr)
def test_what_is_no_envelope(value: object) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(value)


@pytest.mark.parametrize("member", ["header", "wrapped_key", "ciphertext", "signature", "release"])
def test_lengths_are_checked_before_anything_is_decoded(member: str) -> None:
    with pytest.raises(TooLargeError):
        parse_envelope(DISCLOSURE.to_json() | {member: "A" * 200_000})


@pytest.mark.parametrize("member", ["header", "wrapped_key", "ciphertext", "signature", "release"])
def test_an_empty_member_is_malformed(member: str) -> None:
    with pytest.raises(MalformedError):
        parse_envelope(DISCLOSURE.to_json() | {member: ""})


def test_the_largest_envelope_fits() -> None:
    largest = sample_envelope(Kind.DISCLOSURE, bytes(65535))
    written = sum(len(name) + len(value) + 6 for name, value in largest.to_json().items())
    assert written < LIMITS.envelope_bytes


def test_two_headers_cannot_share_one_ciphertext() -> None:
    other = sample_envelope(Kind.OFFER, seen=1)
    mixed = replace(OFFER, header=other.header)
    with pytest.raises(EnvelopeError) as refused:
        opened(replace(mixed, signature=AGENCY.sign(mixed.signed_input())))
    assert refused.value.code == "cannot-decrypt"


def test_another_data_key_does_not_pass_as_the_one_committed_to() -> None:
    with pytest.raises(EnvelopeError) as refused:
        decrypt(OFFER, Dek(fixed_bytes("another data key")))
    assert refused.value.code == "commitment-mismatch"
