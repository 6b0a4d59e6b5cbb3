"""What the length of an envelope tells: which of three sizes its content has, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vectors.samples import sample_envelope, sample_receipt

from contracts.vocabulary import Basis, Feedback, Group
from exchange.envelope.errors import TooLargeError
from exchange.envelope.format import CIPHERTEXT_BYTES, WIRE_BYTES
from exchange.envelope.kinds import SHAPES, Kind, KindClass
from exchange.envelope.wire import parse_canonical, parse_object
from exchange.limits import LIMITS
from exchange.messages import ForwardBody
from exchange.referral.content import ReferralContent

SEALED = [kind for kind in Kind if SHAPES[kind].kind_class is not KindClass.STOP]
STOPS = [kind for kind in Kind if SHAPES[kind].kind_class is KindClass.STOP]
short_words = st.text("abcdefghijklmnop", min_size=2, max_size=16)
words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60)


def on_the_wire(kind: Kind, content: bytes) -> int:
    """How many bytes of JSON travel."""
    return len(json.dumps(sample_envelope(kind, content).to_json()))


def bucket(content: bytes) -> int:
    return next(size for size in LIMITS.padding_bytes if len(content) < size)


@pytest.mark.parametrize("kind", SEALED)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 65535), st.integers(0, 65535))
@example(0, 4095)
@example(4096, 16383)
@example(16384, 65535)
def test_two_contents_of_one_size_travel_in_as_many_bytes(kind: Kind, one: int, other: int) -> None:
    first, second = bytes(one), b"\xff" * other
    lengths = {len(sample_envelope(kind, content).ciphertext) for content in (first, second)}
    assert lengths <= set(CIPHERTEXT_BYTES) == {4136, 16424, 65576}
    assert (on_the_wire(kind, first) == on_the_wire(kind, second)) is (bucket(first) == bucket(second))


def test_a_stop_is_as_long_as_the_shortest_content_and_as_any_other_of_its_kind() -> None:
    assert {len(sample_envelope(kind).ciphertext) for kind in STOPS} == {CIPHERTEXT_BYTES[0]}


@pytest.mark.parametrize(
    ("kind", "size"), [(kind, size) for kind in SEALED for size in LIMITS.padding_bytes] + [(kind, 1) for kind in STOPS]
)
def test_the_longest_header_that_can_be_said_has_room_in_what_an_envelope_takes(kind: Kind, size: int) -> None:
    shape, sender, recipient = SHAPES[kind], "a" * 63, "b" * 63
    changes: dict[str, Any] = {"sender": sender, "recipient": recipient, "seen": LIMITS.skew_ms * 10**8}
    changes |= {"in_reply_to": "f" * 32} if "in_reply_to" in shape.required | shape.optional else {}
    if "groups" in shape.required:
        groups = tuple(sorted(group.value for group in Group))
        receipt = sample_receipt()._replace(issuer=sender, recipient=recipient, groups=groups)
        changes |= {"groups": groups, "receipt": receipt}
    envelope = sample_envelope(kind, bytes(size - 1), **changes)
    written = json.dumps(envelope.to_json(), separators=(",", ":"))
    assert len(written) <= WIRE_BYTES[len(envelope.ciphertext)]


@settings(max_examples=60, deadline=None)
@given(words, short_words, short_words, words)
def test_the_length_of_her_name_and_of_her_words_is_not_told(name: str, one: str, two: str, place: str) -> None:
    members = {"preferred_name": name, "arrival_words": f"{one} {two}", "meeting_point": place}
    content = ReferralContent.model_validate(members)
    body = ForwardBody(Basis.CONSENT, Feedback.OUTCOME, content).to_bytes()
    assert on_the_wire(Kind.DISCLOSURE, body) == on_the_wire(Kind.DISCLOSURE, b"")


@pytest.mark.parametrize("parse", [parse_canonical, parse_object])
def test_what_is_longer_than_may_be_is_not_read(parse: Callable[..., dict[str, Any]]) -> None:
    data = b'{"a":"b"}'
    assert parse(data, longest=len(data)) == {"a": "b"}
    with pytest.raises(TooLargeError):
        parse(data, longest=len(data) - 1)
