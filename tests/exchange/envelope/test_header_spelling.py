"""The pattern of a header accepts what the rules on its members accept, one by one, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.replacing import replace
from vectors.samples import CREATED, DEK, sample_header

from contracts.canonical_json import canonical
from contracts.vocabulary import BasisClass, Group, Priority, Purpose
from exchange.envelope.errors import EnvelopeError, MalformedError
from exchange.envelope.header import Header, encode_header, parse_header
from exchange.envelope.header_spelling import NUMBERS
from exchange.envelope.kinds import HIDDEN_REFUSALS, SHAPES, Kind, KindClass, Shape, SignedBy
from exchange.envelope.wire import (
    CODE_PATTERN,
    MAX_INTEGER,
    from_base64url,
    is_agency,
    is_digest,
    is_id,
    is_positive,
    parse_canonical,
)
from exchange.limits import LIMITS

IDS = {"id", "referral", "signing_key", "epoch_key", "in_reply_to", "receipt_id"}
DIGESTS = {"contract", "roster_digest", "dek_commitment"}
AGENCIES = {"from", "to", "issuer", "recipient"}
RECEIPT = {"receipt_id", "issuer", "recipient", "purpose", "groups", "basis", "issued", "expires", "signature"}
ODD_NUMBERS = st.sampled_from([0, -1, 1, 10**15 - 1, 10**15, 10**16, MAX_INTEGER - 1, MAX_INTEGER, MAX_INTEGER + 1])
ODD_TEXTS = st.sampled_from(
    ["", "0" * 31, "0" * 32, "0" * 33, "0" * 32 + "\n", "A" * 32, "0" * 64, "0" * 31 + "\u0663", "-a", "a-", "a" * 63]
    + ["a" * 64, "rx1", "rx2", "x", "\x7f", "A" * 86, "A" * 85 + "B", "A" * 87, "{", "}", "[", 'a","b":"c']
    + [str(term) for terms in (Kind, SignedBy, Priority, BasisClass, Group) for term in terms]
    + ["offer", "disclosure", "named", "accepted", "recalled", "erase", "erased-by-node", "erased-by-agency", "other"]
    + [*HIDDEN_REFUSALS, "duplicates", "provide-legal-aid", "statistics", "helpline-one", "shelter-two"]
)
ODD_LISTS = st.lists(st.sampled_from([*map(str, Group), "x"]), max_size=4)
ODD = st.one_of(ODD_NUMBERS, ODD_TEXTS, ODD_LISTS, ODD_LISTS.map(sorted), st.sampled_from([None, True, {}, {"a": 1}]))


def text_in(value: object, terms: Any) -> bool:
    return type(value) is str and value in set(terms)


def groups_right(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= LIMITS.groups
        and all(text_in(term, Group) for term in value)
        and value == sorted(set(value))
    )


def signature_right(value: object) -> bool:
    try:
        return len(from_base64url(value, member="signature", longest=64)) == 64
    except EnvelopeError:
        return False


def value_right(member: str, value: object, shape: Shape) -> bool:
    if member in NUMBERS:
        return is_positive(value) or (member == "seen" and type(value) is int and value == 0)
    for members, is_right in ((IDS, is_id), (DIGESTS, is_digest), (AGENCIES, is_agency)):
        if member in members:
            return is_right(value)
    if member == "event" and shape.events is None:
        return type(value) is str and CODE_PATTERN.fullmatch(value) is not None and value not in HIDDEN_REFUSALS
    stop = shape.kind_class is KindClass.STOP
    closed = {
        "suite": ["rx1"],
        "kind": Kind,
        "signed_by": SignedBy if stop else ["agency"],
        "purpose": Purpose,
        "priority": Priority,
        "basis": BasisClass,
        "stage": shape.stages,
        "event": shape.events,
    }
    return text_in(value, closed[member])


def is_right(members: dict[str, Any]) -> bool:
    """The rules on the members, asked one by one."""
    if not text_in(members.get("kind"), Kind) or members.get("vocabulary") != 1:
        return False
    kind = Kind(members["kind"])
    shape = SHAPES[kind]
    if not shape.required <= members.keys() <= shape.required | shape.optional:
        return False
    receipt = members.get("receipt")
    if "receipt" in members and (type(receipt) is not dict or receipt.keys() != RECEIPT):
        return False
    for member, value in [*members.items(), *(receipt or {}).items()]:
        special = {"groups": groups_right, "signature": signature_right, "receipt": lambda _: True}
        if not (special[member](value) if member in special else value_right(member, value, shape)):
            return False
    if receipt is not None and receipt["issued"] >= receipt["expires"]:
        return False
    return members["from"] != members["to"] and times_right(members, kind, shape) and attested_right(members, kind)


def times_right(members: dict[str, Any], kind: Kind, shape: Shape) -> bool:
    life = members["expires"] - members["created"]
    if shape.kind_class is KindClass.STOP:
        return bool(life == LIMITS.stop_expires_ms)
    due = members.get("respond_by", 0)
    in_time = due > members["created"] and members["expires"] == due + LIMITS.offer_after_respond_by_ms
    return 0 < life <= LIMITS.sealed_expires_ms and (kind is not Kind.OFFER or in_time)


def attested_right(members: dict[str, Any], kind: Kind) -> bool:
    by_node = (members.get("event") == "erased-by-node", members["signed_by"] == "node")
    return kind is not Kind.ERASURE_RECEIPT or by_node[0] == by_node[1]


def sample(kind: Kind) -> Header:
    header = sample_header(kind)
    return header if header.kind_class is KindClass.STOP else replace(header, dek_commitment=DEK.commitment())


def read(data: bytes) -> Header | None:
    try:
        return parse_header(data)
    except EnvelopeError:
        return None


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """The members of a right header, of which up to two were changed, added or left out."""
    members = sample(draw(st.sampled_from(sorted(Kind)))).members()
    for _ in range(draw(st.integers(0, 2))):
        place = members["receipt"] if type(members.get("receipt")) is dict and draw(st.booleans()) else members
        member = draw(st.sampled_from([*place, "in_reply_to", "event", "stage", "kind", "x"]))
        if draw(st.integers(0, 4)) == 0:
            place.pop(member, None)
        elif type(place.get(member)) is int and draw(st.booleans()):
            place[member] += draw(st.sampled_from([-1, 1, CREATED]))
        else:
            place[member] = draw(ODD)
    return members


@settings(max_examples=600, deadline=None)
@given(changed())
def test_the_pattern_accepts_what_the_rules_accept(members: dict[str, Any]) -> None:
    found = read(canonical(members))
    assert (found is not None) == is_right(members)
    if found is not None:
        assert found.members() == members
        assert encode_header(found) == canonical(members)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(Kind)), st.data())
def test_what_is_accepted_is_canonical(kind: Kind, data: st.DataObject) -> None:
    """Bytes put in, left out or changed: what is read anyway is the one spelling of right members."""
    right = canonical(sample(kind).members())
    at = data.draw(st.integers(0, len(right)))
    put = data.draw(st.sampled_from([b"", b" ", b",", b'"', b"\\", b"0", b"{", b"}", b"\n", b"\xc3\xa9", b"\xff"]))
    other = right[:at] + put + right[at + data.draw(st.integers(0, 2)) :]
    if read(other) is not None:
        members = parse_canonical(other, longest=LIMITS.header_bytes)
        assert canonical(members) == other
        assert is_right(members)


@given(st.sampled_from(sorted(Kind)), st.integers(1, MAX_INTEGER) | st.integers(MAX_INTEGER - 9, MAX_INTEGER + 9))
def test_a_number_is_one_of_the_protocol(kind: Kind, number: int) -> None:
    members = sample(kind).members() | {"seen": number, "roster_version": number}
    assert (read(canonical(members)) is not None) == is_positive(number)


def test_every_group_at_once_is_no_more_than_a_header_may_have() -> None:
    assert len(Group) <= LIMITS.groups


@pytest.mark.parametrize("kind", [kind for kind in Kind if "in_reply_to" in SHAPES[kind].optional])
def test_no_value_is_written_as_two_members(kind: Kind) -> None:
    """Nothing is escaped in writing, so a value with quotes in it could stand for a member that the header lacks."""
    header = replace(sample(kind), in_reply_to=None)
    put_in = replace(header, id=f'{header.id}","in_reply_to":"{header.id}')
    with pytest.raises(MalformedError, match="id"):
        encode_header(put_in)
    assert b"in_reply_to" not in encode_header(header)
