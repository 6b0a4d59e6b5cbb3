"""What the agency says and hears about her consent."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from consent.examples import DRAFT_EXAMPLE
from consent.record import MAX_PROVISIONS, ConsentDraft, ConsentRecord, Provision
from consent.terms import Moment
from exchange.schemas.shapes import HexId, Strict, Timestamp


class ConsentRequest(ConsentDraft):
    """A consent as a caseworker's system hands it in; for someone known already, with her subject id."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [DRAFT_EXAMPLE]},
    )

    subject: HexId | None = None
    """The id that this node issued with her first consent. Absent: she is new, and gets one."""


class ConsentView(Strict):
    """The record as kept: sealed at rest, shown to this agency's own systems only."""

    id: HexId
    subject: HexId
    version: int
    """Every change makes a new one."""
    state: str
    """`requested`, `refused`, `given`, `renewed`, `expired`, `withdrawn`, `revoked` or `invalidated`."""
    expires_at: Timestamp
    warn: bool
    """Fewer than 14 days are left."""
    record: ConsentRecord


class ReceiptView(Strict):
    """A receipt for her, with the fields of ISO/IEC TS 27560. Optional, neutrally worded: her phone may be searched."""

    receipt: dict[str, Any]
    """The receipt."""


class RenewalRequest(Strict):
    """She agrees to more time; what she allowed stays as it is."""

    until: Moment
    """The new end, RFC 3339 with an offset."""


class ProvisionsRequest(Strict):
    """The narrower list that replaces the present one; it can take away and never add."""

    provisions: tuple[Provision, ...] = Field(max_length=MAX_PROVISIONS)
    """The narrower list."""
