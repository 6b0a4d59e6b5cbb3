"""Domain separation: what is signed or bound under one tag can never be read as something else.

Rules:

* Everything this project signs, commits to or binds as associated data is `framed(tag, part, part, ...)`: each of tag
  and parts preceded by its length as four big-endian bytes. The framing is injective, so no two lists share bytes.
* A tag is used for exactly one purpose and never again for another.
* The only other thing a node key signs is a compact JWS (an OAuth client assertion). It begins with a printable
  character, framed input with a zero byte: neither can stand for the other.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Tag(bytes, Enum):
    """Every tag of the protocol."""

    ENVELOPE = b"referral-exchange/v1/envelope"
    DEK_COMMITMENT = b"referral-exchange/v1/dek-commitment"
    EPOCH_KEY = b"referral-exchange/v1/epoch-key"
    EPOCH_REVOCATION = b"referral-exchange/v1/epoch-revocation"
    CONSENT_RECEIPT = b"referral-exchange/v1/consent-receipt"
    ADHERENCE = b"referral-exchange/v1/adherence"
    DELIVERY_RECEIPT = b"referral-exchange/v1/delivery-receipt"
    CONSENT_STATUS = b"referral-exchange/v1/consent-status"
    RELEASE = b"referral-exchange/v1/release"
    REFERRAL_WRAP = b"referral-exchange/v1/referral-wrap"
    SEALED_ROW = b"referral-exchange/v1/sealed-row"
    KEYED_DIGEST = b"referral-exchange/v1/keyed-digest"
    KEY_FILE = b"referral-exchange/v1/key-file"


PREFIX_BYTES: Final = 4
"""Length of a length prefix."""


_FRAMED_TAGS: Final = {tag: len(tag.value).to_bytes(PREFIX_BYTES, "big") + tag.value for tag in Tag}


def framed(tag: Tag, *parts: bytes) -> bytes:
    """Tag and parts, each preceded by its length as four big-endian bytes."""
    pieces = [_FRAMED_TAGS[tag]]
    for part in parts:
        pieces += (len(part).to_bytes(PREFIX_BYTES, "big"), part)
    return b"".join(pieces)


def one_more(part: bytes) -> bytes:
    """What one more part adds to the end of `framed`."""
    return len(part).to_bytes(PREFIX_BYTES, "big") + part
