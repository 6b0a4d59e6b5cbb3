"""Bodies around envelopes: any spelling, no member twice, integers only; the quick way reads what the slow one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.envelope.errors import MalformedError, TooLargeError
from exchange.envelope.wire import parse_object

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    TEXTS | st.integers(-5, 5) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(value=st.dictionaries(TEXTS, VALUES, max_size=4), ascii_only=st.booleans(), indent=st.none() | st.just(1))
def test_any_spelling_is_read(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse_object(data, longest=len(data)) == value
    with pytest.raises(TooLargeError):
        parse_object(data, longest=len(data) - 1)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"1","a":"2"}',
        b'{"a":"1","a":"1"}',
        b'{"a":"","b":"","a":""}',
        b'{"":"","":""}',
        b'{"a":[],"a":[]}',
        b'{"a":{},"a":"1"}',
        b'{"a":[{"b":"1","c":"2","b":"3"}]}',
        b'{"a":[{"b":["x","y"],"b":"3"},{}]}',
        b'{"a":"1","\\u0061":"2"}',
        b'{"a":"\\"","a":"\\""}',
        b'{"a":1,"a":2}',
        b'{"a":1.5}',
        b'{"a":[1e3]}',
        b'{"a":NaN}',
        b'{"a":[Infinity]}',
        b'{"a":"1"}x',
        b'{"a":"1"}{}',
        b'{"a":"1",}',
        b'{"a":"\x01"}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":"1"}',
        b'["a"]',
        b'"a"',
        b"",
        b'{"a":' * 5000 + b'"b"' + b"}" * 5000,
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_object(data, longest=len(data))
