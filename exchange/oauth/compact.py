"""Compact JSON Web Signatures, written and read strictly. Nothing is proven here: who reads must check the signature.

Rules for reading:

* Three segments of base64url without padding, each in its one spelling.
* Header and claims are JSON objects in which no member stands twice.
* A size limit is given by the caller and checked first.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts.canonical_json import canonical

Sign = Callable[[bytes], bytes]
SEGMENTS = 3


class NotCompactError(ValueError):
    """The text is not a compact JWS of JSON objects. The text itself is not repeated."""


@dataclass(frozen=True, slots=True)
class Compact:
    """What a compact JWS says, unproven."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def write_compact(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Sign) -> str:
    """Sign header and claims and join them."""
    signing_input = f"{_encode(canonical(header))}.{_encode(canonical(claims))}"
    return f"{signing_input}.{_encode(sign(signing_input.encode('ascii')))}"


def read_compact(text: str, *, at_most: int) -> Compact:
    """Take a compact JWS apart.

    Raises:
        NotCompactError: it is longer than `at_most` characters or breaks a rule of this module.
    """
    segments = text.split(".") if len(text) <= at_most and text.isascii() else []
    if len(segments) != SEGMENTS:
        raise NotCompactError("This is not a compact JSON Web Signature.")
    header, claims, signature = segments
    return Compact(
        header=_to_object(header),
        claims=_to_object(claims),
        signing_input=f"{header}.{claims}".encode("ascii"),
        signature=_decode(signature),
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(segment: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise NotCompactError("A segment is not base64url.") from None
    if _encode(data) != segment:
        raise NotCompactError("A segment is not base64url in its one spelling.")
    return data


def _to_object(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(segment), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        raise NotCompactError("A segment does not hold one JSON object.") from None
    if not isinstance(value, dict):
        raise NotCompactError("A segment does not hold one JSON object.")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotCompactError("A member stands twice.")
    return members
