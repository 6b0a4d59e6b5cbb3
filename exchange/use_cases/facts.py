"""What a node remembers about a referral, sealed: enough to run the gate again, and nothing that the gate withheld.

Field names, never values. The contents of a held disclosure are sealed to the receiver; this node cannot read them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.model import Retention
from contracts.vocabulary import AgencyKind, Feedback, Field, Group, Priority, Purpose, ReleaseMode, ServiceType
from exchange.envelope.errors import SealedRowError
from exchange.use_cases.node import Node


class Party(BaseModel):
    """What a member was when something was sealed, as far as it decides what may be inside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: AgencyKind
    country: str
    represents: str | None = None


class Facts(BaseModel):
    """One referral's facts. On the receiving side without subject, consent and held fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: ServiceType
    purpose: Purpose
    priority: Priority
    feedback: Feedback
    feedback_at_most: Feedback | None = None
    """Where the agency's own software has still to say how much the offer lets be told back: what the contract's rule
    allowed when the offer arrived. Rows of before it was remembered have none."""
    offer: str
    """Id of the offer's envelope."""
    release: ReleaseMode = ReleaseMode.CONFIRM
    retention_declined_s: int
    retention_expired_s: int
    retention_closed_s: int
    subject: str | None = None
    held_fields: tuple[Field, ...] = ()
    held_groups: tuple[Group, ...] = ()
    """Where the agency's own software sealed the disclosure: what its header says. `held_fields` are then all that may
    be inside."""
    told_first: str | None = None
    """What she was told of the receiver before the disclosure was sealed (`gate_again.told_of`). Rows of before it was
    remembered have none."""
    told_anew: str | None = None
    """What the roster said of the receiver when this agency heard last that it is not what she was told
    (`use_cases.not_told`)."""
    untold_keys: tuple[str, ...] = ()
    """Digests of the keys of requests that were refused for it: they were made before."""
    between: tuple[tuple[Party, Party], ...] = ()
    """What sender and receiver were whenever something was sealed that waits or waited (`gate_again.sealed_between`),
    first when the referral was made. Rows of before it was remembered have none."""
    accepting: str | None = None
    """Digest of the answer that accepted."""
    own_word: str | None = None
    """The reason, outcome, service or question as this agency gave it last: its own record, in which what travelled may
    have said less, and by which it knows the same word again."""

    @property
    def retention(self) -> Retention:
        """How long sealed content is kept after each end, as the contract said when the referral was made."""
        return Retention.model_construct(
            declined_s=self.retention_declined_s,
            expired_s=self.retention_expired_s,
            closed_s=self.retention_closed_s,
        )


def seal_facts(node: Node, referral: str, facts: Facts) -> bytes:
    """The facts for the row."""
    value = facts.model_dump_json(exclude_defaults=True).encode()
    return node.seal_row(value, "referral", "sealed_facts", referral)


def open_facts(node: Node, referral: str, sealed: bytes) -> Facts:
    """The facts of a row.

    Raises:
        SealedRowError: they belong to another row, were changed, or are of a later version.
    """
    opened = node.open_row(sealed, "referral", "sealed_facts", referral)
    try:
        return Facts.model_validate_json(opened)
    except ValidationError:
        # Not as its cause either: it holds what was read.
        raise SealedRowError from None
