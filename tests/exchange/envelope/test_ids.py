"""Ids that begin with the time of their making: UUIDs of version 7 without hyphens."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from exchange.envelope.ids import TAIL_BYTES, made_at, timed_id
from exchange.envelope.wire import is_id

TIMES = st.integers(1, 2**48 - 1)
TAILS = st.binary(min_size=TAIL_BYTES, max_size=TAIL_BYTES)
ONES = b"\xff" * TAIL_BYTES


def test_the_example_of_the_standard() -> None:
    """RFC 9562, appendix A.6."""
    tail = bytes.fromhex("0cc318c4dc0c0c07398f")
    assert timed_id(0x017F22E279B0, tail) == "017F22E2-79B0-7CC3-98C4-DC0C0C07398F".replace("-", "").lower()


@given(TIMES, TAILS)
def test_it_is_an_id_of_the_protocol_and_a_uuid_of_version_7(at: int, tail: bytes) -> None:
    made = timed_id(at, tail)
    assert is_id(made)
    assert (uuid.UUID(made).version, uuid.UUID(made).variant) == (7, uuid.RFC_4122)
    assert int(made[:12], 16) == made_at(made) == at


@given(st.uuids(version=4))
def test_one_that_is_random_throughout_tells_no_moment(random: uuid.UUID) -> None:
    assert made_at(random.hex) is None


@given(TIMES, TIMES, TAILS, TAILS)
def test_what_is_made_later_stands_behind(one: int, other: int, tail: bytes, another: bytes) -> None:
    if one < other:
        assert timed_id(one, tail) < timed_id(other, another)


def test_seventy_four_bits_are_random() -> None:
    changeable = int(timed_id(1, ONES), 16) ^ int(timed_id(1, bytes(TAIL_BYTES)), 16)
    assert changeable.bit_count() == 74
