"""The node card, peers' keys, the contracts in force."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from contracts.vocabulary import AgencyKind
from exchange.schemas.shapes import AgencyId, Digest, Strict, Timestamp


class EpochKeyView(Strict):
    """A pre-published epoch key, as its signed statement."""

    key_id: str
    key: str
    seq: int
    not_before: Timestamp
    not_after: Timestamp
    statement: str
    """The signed statement, base64url: what a sender verifies before it seals."""


class NodeCard(Strict):
    """Who this node speaks for and with which keys. Trust comes from the roster, never from this card."""

    agency: AgencyId
    kind: AgencyKind
    software: str
    suites: tuple[str, ...]
    vocabularies: tuple[int, ...]
    agency_key: str
    node_key: str
    epochs: tuple[EpochKeyView, ...]
    contracts: tuple[Digest, ...]
    roster_version: int
    roster_digest: Digest
    synthetic: bool


class PeerKeys(Strict):
    """A peer's epoch keys as this node knows and has verified them."""

    agency: AgencyId
    agency_key: str
    node_key: str
    epochs: tuple[EpochKeyView, ...]


class ContractSummary(Strict):
    """One contract that this node has read, and with whom it is in force."""

    name: str
    version: str
    digest: Digest
    title: str
    status: str
    valid_until: str
    review_on: str
    in_force_with: tuple[AgencyId, ...]


class ContractList(Strict):
    """Every contract that this node has read."""

    items: tuple[ContractSummary, ...]


class ContractView(Strict):
    """A contract, as data and readable."""

    summary: ContractSummary
    contract: dict[str, Any]
    readable: str
    """Prose and matrix together, as Markdown."""


class Health(Strict):
    """Whether the node lives, and whether it can do its work."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)
