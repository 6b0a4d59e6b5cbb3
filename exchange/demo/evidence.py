"""Facts read from a demo node's own databases, beside what its API says: counts of rows, never contents."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_HELD: Final = "SELECT count(*) FROM outbox WHERE referral = ? AND kind = 'disclosure' AND ciphertext IS NOT NULL"
_SEALED_IN_INBOX: Final = "SELECT count(*) FROM inbox WHERE referral = ? AND ciphertext IS NOT NULL"
_WRAPPED: Final = "SELECT count(*) FROM inbox WHERE referral = ? AND wrapped_key IS NOT NULL"
_KEYS: Final = "SELECT count(*) FROM referral_key WHERE referral = ?"
_ALL_KEYS: Final = "SELECT (SELECT count(*) FROM referral_key) + (SELECT count(*) FROM epoch_private)"
_REFERRALS: Final = "SELECT count(*) FROM referral"
_ENVELOPES: Final = "SELECT count(*) FROM outbox"


def held_rows(home: Path, referral: str) -> int:
    """Sealed disclosures of a referral that the sender's node still holds."""
    return _count(home / "node.db", _HELD, referral)


def sealed_rows(home: Path, referral: str) -> int:
    """Envelopes of a referral whose sealed content the receiver's node still holds."""
    return _count(home / "node.db", _SEALED_IN_INBOX, referral)


def wrapped_rows(home: Path, referral: str) -> int:
    """Envelopes of a referral whose key the agency's own software has not taken over yet."""
    return _count(home / "node.db", _WRAPPED, referral)


def keys_of(home: Path, referral: str | None = None) -> int:
    """Keys of a referral in the key store; without one, every key of any kind there."""
    if referral is None:
        return _count(home / "keys.db", _ALL_KEYS)
    return _count(home / "keys.db", _KEYS, referral)


def stored_referrals(home: Path) -> tuple[int, int]:
    """How many referrals and envelopes a node has on record."""
    return _count(home / "node.db", _REFERRALS), _count(home / "node.db", _ENVELOPES)


def _count(database: Path, query: str, *values: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found: int = connection.execute(query, values).fetchone()[0]
        return found
