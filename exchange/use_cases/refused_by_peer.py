"""What is kept of a peer's refusal: one of the codes of docs/protocol.md, section 15, and no word of its own.

A peer may write what it likes there, spelled like a code: her name would lie in this database in the clear.
"""

from __future__ import annotations

from typing import Final

REFUSED: Final = "refused"
"""It gave no code that this version knows."""
CODES: Final = frozenset(
    "too-large malformed unknown-suite unknown-vocabulary bad-signature receipt-mismatch receipt-expired "
    "receipt-signature cannot-unwrap commitment-mismatch cannot-decrypt bad-padding wrong-recipient from-the-future "
    "expired release-too-late unknown-sender unknown-key synthetic-mixed not-in-good-standing id-conflict "
    "unknown-referral kind-not-supported not-legal reply-unknown withdrawn not-accepted not-released release-invalid "
    "unknown-contract contract-not-in-force contract-differs respond-by-too-late no-rule over-shared basis-differs "
    "content-invalid groups-differ contract-expired never basis-not-allowed".split()
)


def kept_code(code: str | None) -> str:
    """The code as it is kept."""
    return code if code in CODES else REFUSED
