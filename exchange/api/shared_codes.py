"""Codes that several routes may answer, by what such a route does: what the documents promise beside its own."""

from __future__ import annotations

from typing import Final

from exchange.api.gate_codes import OF_A_REFERRAL

A_WRITE: Final = ("changed-meanwhile",)
"""It reads, decides and writes, and somebody else may do so at the same moment."""
A_STEP: Final = ("state-forbids", "not-your-move", "too-many-events", "destroyed", *A_WRITE)
"""It is one step in the life of a referral."""
A_WORD: Final = (*A_STEP, "keys-elsewhere", "receiver-not-active", "peer-keys-unknown")
"""It is a step that is sealed to the other agency."""
THE_GATE: Final = tuple(entry.code for entry in OF_A_REFERRAL)
"""It asks contract, consent and roster."""
SEALING: Final = ("keys-elsewhere", "unknown-agency", "content-invalid", "content-too-large", "peer-keys-unknown")
"""It seals a content."""
TELLING: Final = (
    *THE_GATE, *SEALING, *A_STEP, "another-authority", "contract-not-in-force", "sharing-stopped", "plan-unconfirmed",
)  # fmt: skip
"""It tells more of a referral that exists."""
OPENING: Final = ("keys-elsewhere", "destroyed", "key-lost", "sealed-row", "consent-not-fresh", "consent-ended")
"""It shows what arrived."""
A_CONSENT: Final = ("consent-invalid", "not-live", "step-not-possible", *A_WRITE)
"""It is a step in the life of a consent."""
AN_ENVELOPE: Final = (
    "malformed",
    "too-large",
    "unknown-suite",
    "unknown-vocabulary",
    "bad-signature",
    "receipt-signature",
    "receipt-expired",
    "receipt-mismatch",
)
"""It takes an envelope that was sealed elsewhere."""
