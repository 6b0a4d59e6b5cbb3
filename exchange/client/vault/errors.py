"""What can go wrong when the agency's own software seals and opens.

VaultError                a stable code and what to do; nothing was sent
├── GateRefusedError      contract or consent says no, with a reason for every field
├── RefusedItemError      an item failed its verification; the sender was told, and the node destroyed it
└── DoubtfulItemError     an item does not verify by what this software knows; nobody was told
"""

from __future__ import annotations

from exchange.client.errors import ClientError
from exchange.schemas.referrals import FieldDecision


class VaultError(ClientError):
    """Something keeps this software from sealing or opening. `sentence` says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} ({code})")
        self.code = code
        self.sentence = sentence


class GateRefusedError(VaultError):
    """Contract or consent says no; nothing was sealed. `fields` says why, field by field."""

    def __init__(self, code: str, sentence: str, fields: tuple[FieldDecision, ...]) -> None:
        super().__init__(code, sentence)
        self.fields = fields


class RefusedItemError(VaultError):
    """An item failed a step of its verification. It was refused, and nothing of it is kept."""

    def __init__(self, step: int, code: str) -> None:
        super().__init__(code, f"The item failed step {step} of its verification and was refused.")
        self.step = step


class DoubtfulItemError(VaultError):
    """An item does not verify by the roster, the contracts or the cases that this software knows.

    Not refused: the node, whose roster may be another one, let it pass. A newer roster, or opening the offer first, may
    settle it; otherwise telephone the sender, and refuse it with `client.inbox.refuse`.
    """

    def __init__(self, step: int, code: str) -> None:
        super().__init__(
            code, f"The item does not verify here (step {step}). Compare the roster; open the offer first."
        )
        self.step = step
