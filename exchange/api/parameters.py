"""Path and query parameters, each in one form."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from consent.terms import Moment
from contracts.vocabulary import Channel
from exchange.limits import LIMITS
from exchange.referral.contact_plan import may_be_asked

_ID = r"^[0-9a-f]{32}$"
_CURSOR = r"^[A-Za-z0-9._~-]{1,200}$"

ReferralId = Annotated[str, Path(pattern=_ID, description="The referral's id.")]
ItemId = Annotated[str, Path(pattern=_ID, description="The inbox item's id.")]
ConsentId = Annotated[str, Path(pattern=_ID, description="The consent's id.")]
ContractDigest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the contract file, in hex.")]
Agency = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$", description="The agency's id in the roster.")]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChangesQuery(_Query):
    """Where to go on, and how long to wait."""

    cursor: str | None = Field(default=None, pattern=_CURSOR, description="`next_cursor` of the answer before.")
    wait: float = Field(
        default=0,
        ge=0,
        le=LIMITS.wait_longest_s,
        description="Seconds to wait for something new when there is nothing yet.",
    )


class InboxQuery(ChangesQuery):
    """Which items, how many, in which order."""

    limit: int = Field(default=LIMITS.page_items, ge=1, le=LIMITS.page_items, description="The most items in a page.")
    state: Literal["new", "acknowledged", "destroyed"] | None = Field(
        default=None, description="Only items with this `status`."
    )
    referral: str | None = Field(default=None, pattern=_ID, description="Only what came for this referral.")
    order: Literal["arrival", "urgent"] = Field(
        default="arrival",
        description="`urgent`: new offers of referrals that have not ended, the first to be answered on top. "
        "`cursor` is one of this order then, `state` does not count, and nothing but offers is listed.",
    )


def _askable(at: datetime) -> datetime:
    if may_be_asked(at):
        return at
    raise PydanticCustomError("moment_too_far", "advice is given about the years 1970 to 9998")


class AdviceQuery(_Query):
    """For which moment and channel."""

    at: Annotated[Moment, AfterValidator(_askable)] | None = Field(
        default=None,
        description="The moment in question, RFC 3339 with an offset, in the years 1970 to 9998. Absent: now.",
    )
    channel: Channel | None = Field(
        default=None, description="The channel in question. Absent: the first of hers that may be used."
    )


Changes = Annotated[ChangesQuery, Query()]
Inbox = Annotated[InboxQuery, Query()]
Advice = Annotated[AdviceQuery, Query()]
__all__ = [
    "Advice",
    "Agency",
    "Changes",
    "ConsentId",
    "ContractDigest",
    "Inbox",
    "ItemId",
    "ReferralId",
]
