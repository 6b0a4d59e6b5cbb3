"""The node card, peers' keys, the contracts in force."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from contracts.vocabulary import AgencyKind
from exchange.schemas.shapes import AgencyId, Digest, Strict, Timestamp

MOST_STATEMENTS: Final = 32
"""On one card. Six weeks are published at a time, and more than one statement for a week where a key was changed."""
MOST_REVOCATIONS: Final = 64
"""On one card, the newest: of nine times at which an agency revoked its seven keys within nine weeks."""


class EpochKeyView(Strict):
    """A pre-published epoch key, as its signed statement."""

    key_id: str
    """The first 32 hexadecimal characters of the SHA-256 of the key."""
    key: str
    """The public key, base64url."""
    seq: int
    """Counts the statements of an agency; it never goes back."""
    not_before: Timestamp
    not_after: Timestamp
    statement: str
    """The signed statement, base64url: what a sender verifies before it seals."""


class NodeCard(Strict):
    """Who this node speaks for and with which keys. Trust comes from the roster, never from this card."""

    agency: AgencyId
    kind: AgencyKind
    software: str
    """Name and version of the software."""
    suites: tuple[str, ...]
    """The cryptographic suites that this node speaks."""
    vocabularies: tuple[int, ...]
    """The versions of the vocabulary that this node speaks."""
    agency_key: str
    """The public key that speaks for the agency, base64url."""
    node_key: str
    """The public key that speaks for the node, base64url."""
    epochs: tuple[EpochKeyView, ...]
    """The keys of this week and the weeks ahead, and the one with the highest `seq` though its week is over."""
    contracts: tuple[Digest, ...]
    """The contracts that this node has read, by digest."""
    roster_version: int
    """The version of the federation's roster that this node goes by."""
    roster_digest: Digest
    synthetic: bool
    """A sandbox or a demo: every person is invented."""
    revocations: tuple[str, ...] | None = None
    """Signed revocations of weekly keys, base64url, the lowest `seq` first. Absent where they were not asked for."""


class PeerKeys(Strict):
    """A peer's epoch keys as this node knows and has verified them."""

    agency: AgencyId
    agency_key: str
    """The public key that speaks for the agency, base64url, from the roster."""
    node_key: str
    """The public key that speaks for its node, base64url, from the roster."""
    epochs: tuple[EpochKeyView, ...]
    """The verified keys of this week and the weeks ahead, but the revoked, and the one with the highest `seq` though
    its week is over: each statement is its own proof, under the agency key."""
    roster_version: int
    """The version of the roster in which these keys stand."""
    roster_digest: Digest
    """Its digest: compare it with the roster that your agency has from the federation itself."""
    contract: Digest | None = None
    """The contract in force between you now, if there is one."""


class ContractSummary(Strict):
    """One contract that this node has read, and with whom it is in force."""

    name: str
    """The contract's machine name."""
    version: str
    """Its version."""
    digest: Digest
    title: str
    """Its title."""
    status: str
    """Whether it was reviewed locally, in its own words."""
    valid_until: str
    """The last day on which it is in force."""
    review_on: str
    """The day on which its members look at it again."""
    in_force_with: tuple[AgencyId, ...]
    """The agencies with which it is in force now."""


class ContractList(Strict):
    """Every contract that this node has read."""

    items: tuple[ContractSummary, ...]
    """The contracts."""


class ContractView(Strict):
    """A contract, as data and readable."""

    summary: ContractSummary
    contract: dict[str, Any]
    """The file, as data."""
    readable: str
    """Prose and matrix together, as Markdown."""


class Health(Strict):
    """Whether the node lives, and whether it can do its work."""

    status: str
    """`live` or `ready`; any other word says that it is not."""
    checks: dict[str, str] = Field(default_factory=dict)
    """Each part by name, with `ok` or what it lacks."""
