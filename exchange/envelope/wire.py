"""One spelling for everything: canonical JSON, base64url without padding, ids, digests and times.

Rules:

* Canonical JSON is what `json.dumps(x, sort_keys=True, separators=(",", ":"), ensure_ascii=True)` writes. Numbers are
  integers from 0 to 2^53 - 1; there are no floats, no null, no duplicate keys.
* Reading accepts exactly the bytes that writing produces, so two spellings of one meaning do not exist, and a
  signature over bytes is a signature over their meaning.
* Every refusal is a `MalformedError` or `TooLargeError`; sizes are checked before anything is parsed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import pybase64

from contracts.canonical_json import canonical
from exchange.envelope.errors import MalformedError, TooLargeError

MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON implementation reads back exactly."""
SIGNATURE_BYTES: Final = 64
SIGNATURE_SPELLING: Final = "[A-Za-z0-9_-]{85}[AQgw]"
"""As base64url; the last character has four bits that belong to none."""
"""Length of an Ed25519 signature."""
ID_PATTERN: Final = re.compile(r"[0-9a-f]{32}")
DIGEST_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
AGENCY_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
CODE_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{1,62}")


def _no_float(_text: str) -> NoReturn:
    raise MalformedError("numbers are integers")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("a member stands twice")
    return members


_decode = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float).decode
_decode_strictly = json.JSONDecoder(
    parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_no_duplicates
).decode


def parse_canonical(data: bytes, *, longest: int) -> dict[str, Any]:
    """The object in these bytes, if they are its only spelling.

    A duplicate key, white space, another order or another escape does not survive being written again, so one
    comparison refuses them all.
    """
    members = _parse(data, longest, _decode)
    if canonical(members) != data:
        raise MalformedError("not canonical JSON")
    return members


def read_again(data: bytes) -> dict[str, Any]:
    """The object in bytes that `parse_canonical` accepted before; spelling is not judged again."""
    return _parse(data, len(data), _decode)


def parse_object(data: bytes, *, longest: int) -> dict[str, Any]:
    """The object in these bytes in any spelling, without duplicate keys: for request bodies around envelopes."""
    return _parse(data, longest, _decode_strictly)


def _parse(data: bytes, longest: int, decode: Any) -> dict[str, Any]:
    if len(data) > longest:
        raise TooLargeError
    try:
        members = decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedError("not JSON") from error
    if not isinstance(members, dict):
        raise MalformedError("not a JSON object")
    return members


def refuse_unless(condition: bool, member: str) -> None:
    """Refuse the member unless the condition holds."""
    if not condition:
        raise MalformedError(member)


# The last characters of which the bits that belong to no byte are zero, by how many stand behind the last whole four.
_LAST: Final = {2: "AQgw", 3: "AEIMQUYcgkosw048"}


def base64url(data: bytes) -> bytes:
    """Base64url without padding, as ASCII."""
    return pybase64.b64encode(data, altchars=b"-_").rstrip(b"=")


def to_base64url(data: bytes) -> str:
    """The same as text."""
    return base64url(data).decode("ascii")


def from_base64url(text: object, *, member: str, longest: int) -> bytes:
    """The bytes of this text, if it is their only spelling and they are at most `longest`."""
    if not isinstance(text, str):
        raise MalformedError(member)
    if len(text) > (longest * 4 + 2) // 3:
        raise TooLargeError
    if "+" in text or "/" in text or "=" in text:
        # The decoder takes these as well; here they stand for nothing.
        raise MalformedError(member)
    over = len(text) % 4
    try:
        data = pybase64.b64decode(text + "=" * (-over % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise MalformedError(member) from error
    # One freedom is left: bits of the last character that belong to no byte.
    if over and text[-1] not in _LAST[over]:
        raise MalformedError(member)
    return data


def is_positive(value: object) -> bool:
    """Whether this is an integer of the protocol above zero; a boolean is none."""
    return type(value) is int and 0 < value <= MAX_INTEGER


def is_id(value: object) -> bool:
    """Whether this is a random id or a key id: 32 lower-case hexadecimal characters."""
    return type(value) is str and ID_PATTERN.fullmatch(value) is not None


def is_digest(value: object) -> bool:
    """Whether this is a SHA-256 digest: 64 lower-case hexadecimal characters."""
    return type(value) is str and DIGEST_PATTERN.fullmatch(value) is not None


def is_agency(value: object) -> bool:
    """Whether this is an agency id."""
    return type(value) is str and AGENCY_PATTERN.fullmatch(value) is not None
