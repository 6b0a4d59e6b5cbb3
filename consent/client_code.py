"""Client codes: the handle two agencies use on the telephone for one person.

A code is random and made anew for every receiver, and the sender stores it. It is computed from nothing, so two
receivers who compare their codes learn nothing: neither that they serve the same person nor when she came.
"""

from __future__ import annotations

from typing import Final

ENTROPY_BYTES: Final = 5
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that is mistaken for a digit, and no U, so that fewer words appear."""


def new_client_code(entropy: bytes) -> str:
    """A code such as `K7QF-3M2P` from the first 40 bits of fresh random bytes.

    Raises:
        ValueError: fewer than 5 bytes were given.
    """
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError("A client code needs at least 5 random bytes.")
    number = int.from_bytes(entropy[:ENTROPY_BYTES], "big")
    letters = "".join(_ALPHABET[number >> shift & 31] for shift in range(35, -1, -5))
    return f"{letters[:4]}-{letters[4:]}"
