"""The shape of each kind: nothing required may be missing, nothing else may be there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.replacing import replace
from vectors.samples import CREATED, DEK, sample_header, sample_receipt

from contracts.canonical_json import canonical
from contracts.vocabulary import Group, Purpose
from exchange.envelope.errors import EnvelopeError, MalformedError
from exchange.envelope.header import encode_header, parse_header
from exchange.envelope.kinds import SHAPES, Kind, KindClass, SignedBy
from exchange.envelope.wire import parse_canonical
from exchange.limits import LIMITS

KINDS = [pytest.param(kind, id=kind.value) for kind in Kind]
STOPS = {kind for kind, shape in SHAPES.items() if shape.kind_class is KindClass.STOP}
EVERY_MEMBER: dict[str, Any] = {
    "epoch_key": "0" * 32,
    "contract": "0" * 64,
    "purpose": "provide-legal-aid",
    "stage": "offer",
    "groups": ["need"],
    "event": "accepted",
    "number": 1,
    "priority": "urgent",
    "respond_by": CREATED + 1,
    "receipt": {},
    "dek_commitment": "0" * 64,
    "in_reply_to": "0" * 32,
}


def members_of(kind: Kind) -> dict[str, Any]:
    header = sample_header(kind)
    return (header if kind in STOPS else replace(header, dek_commitment=DEK.commitment())).members()


def test_every_kind_has_a_shape() -> None:
    assert set(Kind) == SHAPES.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_parse_is_the_inverse_of_encode(kind: Kind) -> None:
    data = canonical(members_of(kind))
    assert encode_header(parse_header(data)) == data


@pytest.mark.parametrize("kind", KINDS)
def test_each_required_member_is_required(kind: Kind) -> None:
    for member in SHAPES[kind].required:
        members = members_of(kind)
        del members[member]
        with pytest.raises(MalformedError) as refused:
            parse_header(canonical(members))
        assert refused.value.member == member


@pytest.mark.parametrize("kind", KINDS)
def test_each_other_member_is_refused(kind: Kind) -> None:
    shape = SHAPES[kind]
    for member in EVERY_MEMBER.keys() - shape.required - shape.optional:
        with pytest.raises(MalformedError, match="does not have"):
            parse_header(canonical(members_of(kind) | {member: EVERY_MEMBER[member]}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [None, "", "x", -1, 0.5, True, [], {}, ["a", 1], {"a": 1}], ids=repr)
def test_a_wrong_value_anywhere_is_one_refusal(kind: Kind, wrong: object) -> None:
    """Whatever type a member has, a value of another kind is refused by the family and by nothing else."""
    for member in SHAPES[kind].required:
        with pytest.raises(EnvelopeError):
            parse_header(canonical(members_of(kind) | {member: wrong}))


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.value) for kind in sorted(STOPS)])
def test_a_stop_says_nothing_about_her(kind: Kind) -> None:
    assert not SHAPES[kind].required & {"receipt", "groups", "purpose", "stage", "contract", "epoch_key", "priority"}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.value) for kind in Kind if kind not in STOPS])
def test_only_a_stop_may_be_signed_by_a_node(kind: Kind) -> None:
    with pytest.raises(MalformedError, match="signed_by"):
        encode_header(replace(sample_header(kind), signed_by=SignedBy.NODE, dek_commitment=DEK.commitment()))


def test_a_header_that_would_be_refused_is_not_written() -> None:
    with pytest.raises(MalformedError, match="dek_commitment"):
        encode_header(sample_header(Kind.OFFER))


@pytest.mark.parametrize(
    ("changed", "member"),
    [
        pytest.param({"recipient": sample_header(Kind.OFFER).sender}, "to", id="to-itself"),
        pytest.param({"expires": CREATED}, "expires", id="ends-as-it-begins"),
        pytest.param({"receipt": replace(sample_receipt(), purpose="no-purpose")}, "receipt.purpose", id="receipt"),
        pytest.param({"receipt": replace(sample_receipt(), groups=())}, "receipt.groups", id="receipt-of-nothing"),
        pytest.param(
            {"receipt": replace(sample_receipt(), expires=sample_receipt().issued)},
            "receipt.expires",
            id="ended-receipt",
        ),
    ],
)
def test_what_its_receiver_would_refuse_is_not_written(changed: dict[str, Any], member: str) -> None:
    header = replace(sample_header(Kind.OFFER), dek_commitment=DEK.commitment(), **changed)
    with pytest.raises(MalformedError, match=member):
        encode_header(header)


def test_the_largest_header_fits() -> None:
    groups = tuple(sorted(group.value for group in Group))
    receipt = replace(sample_receipt(), groups=groups, issuer="a" * 63, recipient="b" * 63)
    purpose = max((purpose.value for purpose in Purpose), key=len)
    header = sample_header(Kind.INFORMATION, groups=groups, receipt=replace(receipt, purpose=purpose), purpose=purpose)
    header = replace(header, sender="a" * 63, recipient="b" * 63, dek_commitment=DEK.commitment())
    assert len(encode_header(header)) < LIMITS.header_bytes / 2


def test_a_refusal_repeats_nothing_that_was_sent() -> None:
    members = members_of(Kind.OFFER) | {"canary-name": "canary-value"}
    with pytest.raises(MalformedError) as refused:
        parse_header(canonical(members))
    assert "canary" not in str(refused.value) + repr(refused.value)


json_values = st.recursive(
    st.integers(0, 2**53 - 1) | st.text(max_size=8) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), json_values, max_size=5))
def test_the_canonical_form_is_unique(value: dict[str, Any]) -> None:
    """Reading what was written gives it back, and no other bytes give the same."""
    data = canonical(value)
    assert parse_canonical(data, longest=10_000) == value
    for other in (data + b" ", b" " + data, data.replace(b":", b": "), data.replace(b",", b" ,")):
        if other != data:
            try:
                read = parse_canonical(other, longest=10_000)
            except MalformedError:
                continue
            assert read != value


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(Kind)), st.data())
def test_no_two_byte_strings_are_one_header(kind: Kind, data: st.DataObject) -> None:
    """A changed byte is refused or is another header; it never goes unnoticed."""
    right = canonical(members_of(kind))
    at = data.draw(st.integers(0, len(right) - 1))
    changed = right[:at] + bytes([right[at] ^ (1 << data.draw(st.integers(0, 7)))]) + right[at + 1 :]
    try:
        read = parse_header(changed)
    except EnvelopeError:
        return
    assert read != parse_header(right)
    assert encode_header(read) == changed
