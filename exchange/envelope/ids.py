"""Ids of what two nodes keep: referrals, envelopes, consent receipts.

Rules:

* Such an id is a UUID of version 7 without hyphens (RFC 9562, section 5.7): the millisecond of its making, then 74
  random bits. What is made together lies together in every index of both databases, whatever else has happened there.
* It tells nothing but that moment, which header and receipt say beside it, and it is no permission to anything.
* What must not tell when it was made, or whoever knows it may do something, is random throughout: the id of a survivor
  and of her consent, a lease.
"""

from __future__ import annotations

from typing import Final

TAIL_BYTES: Final = 10
"""How much randomness an id needs."""
_RANDOM: Final = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION_AND_VARIANT: Final = 0x7000_8000_0000_0000_0000


def timed_id(at: int, random: bytes) -> str:
    """The id of something made at this moment (Unix milliseconds), from `TAIL_BYTES` fresh random bytes."""
    tail = int.from_bytes(random, "big") & _RANDOM | _VERSION_AND_VARIANT
    return f"{at << (8 * TAIL_BYTES) | tail:032x}"


def made_at(name: str) -> int | None:
    """The moment of which such an id tells; nothing of one that is random throughout."""
    number = int(name, 16)
    is_timed = number & ~_RANDOM & (1 << 8 * TAIL_BYTES) - 1 == _VERSION_AND_VARIANT
    return number >> (8 * TAIL_BYTES) if is_timed else None
