"""Base64url has one spelling: everything else is refused, by the compiled decoder and by the one in Python alike."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.envelope.errors import MalformedError, TooLargeError
from exchange.envelope.wire import from_base64url, to_base64url

REFUSED = {
    "padded": "AA==",
    "padding-alone": "=",
    "padding-within": "AA==AA",
    "plus": "A+AA",
    "slash": "A/AA",
    "a-newline-behind": "AAAA\n",
    "a-newline-within": "AA\nAA",
    "a-space": "AA AA",
    "a-space-before": " AAAA",
    "a-zero-byte": "AA\0A",
    "one-character-too-many": "AAAAA",
    "one-character": "A",
    "bits-of-no-byte-in-two": "AB",
    "bits-of-no-byte-in-three": "AAB",
    "not-ascii": "AAA\u00e9",
    "digits-of-another-script": "AAA\uff11",
    "half-a-surrogate-pair": "AA\ud800A",
    "another-sign": "AA.A",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="member"):
        from_base64url(text, member="member", longest=100)


@pytest.mark.parametrize("value", [None, 1, b"AAAA", ["AAAA"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(MalformedError):
        from_base64url(value, member="member", longest=100)


@pytest.mark.parametrize("longest", [0, 1, 2, 3, 64])
def test_the_length_is_known_before_anything_is_read(longest: int) -> None:
    assert from_base64url(to_base64url(bytes(longest)), member="member", longest=longest) == bytes(longest)
    with pytest.raises(TooLargeError):
        from_base64url("!" * len(to_base64url(bytes(longest + 1))), member="member", longest=longest)


@given(st.binary(max_size=200))
def test_what_is_written_is_read_and_is_what_the_standard_library_writes(data: bytes) -> None:
    text = to_base64url(data)
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert from_base64url(text, member="member", longest=200) == data


@given(st.text(max_size=12))
def test_any_other_text_is_refused_or_is_the_one_spelling(text: str) -> None:
    try:
        data = from_base64url(text, member="member", longest=12)
    except MalformedError:
        return
    assert to_base64url(data) == text


def test_without_the_compiled_decoder_the_same_is_refused() -> None:
    """As on a machine for which there is no wheel: the module is kept from loading its compiled half."""
    program = """
import sys
sys.modules["pybase64._pybase64"] = None
import pybase64
assert "C extension inactive" in pybase64.get_version(), pybase64.get_version()
from exchange.envelope.errors import MalformedError
from exchange.envelope.wire import from_base64url, to_base64url
for text in eval(sys.argv[1]):
    try:
        from_base64url(text, member="member", longest=100)
    except MalformedError:
        continue
    raise SystemExit(ascii(text))
for length in range(70):
    data = bytes(range(256))[:length]
    assert from_base64url(to_base64url(data), member="member", longest=100) == data
"""
    done = subprocess.run(
        [sys.executable, "-c", program, ascii(list(REFUSED.values()))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
