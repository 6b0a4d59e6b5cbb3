"""Canonical JSON: the only bytes that stand for a value. What is signed, digested and sealed is written here.

Rules:

* It is what `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)` writes.
* `NaN` and infinities are not JSON, and are refused.
"""

from __future__ import annotations

from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]
from typing import NoReturn


def _no_other_type(_value: object) -> NoReturn:
    raise TypeError("not a JSON value")


# `json.JSONEncoder.encode` makes one of these at each call, which takes as long again as writing a header does.
_write = c_make_encoder(None, _no_other_type, encode_basestring_ascii, None, ":", ",", True, False, False)


def canonical(value: object) -> bytes:
    """The canonical JSON of a value.

    Raises:
        TypeError: it holds something that JSON does not have.
        ValueError: it holds a number that JSON does not have.
    """
    return "".join(_write(value, 0)).encode("ascii")
