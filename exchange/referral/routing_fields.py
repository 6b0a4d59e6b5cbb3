"""The routing fields (`C1`) of a referral: they say nothing about a person, and the sending node writes them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field as Described
from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from consent.terms import AgencyId, Moment
from contracts.vocabulary import Priority, ServiceType
from exchange.referral.canonical import SealedContent
from exchange.referral.values import LongName, Yes

ClientCode = Annotated[str, StringConstraints(pattern=r"^[0-9A-Z]{4}-[0-9A-Z]{4}$")]
Version = Annotated[int, Described(strict=True, ge=1, le=1000)]


class RoutingFields(SealedContent):
    """Set by the sending node; a request that sets one is refused."""

    client_code: ClientCode | None = Described(
        default=None,
        description="Set by the sending node: the random code under which one receiver knows her.",
        examples=["K7QF-3M2P"],
    )
    priority: Priority | None = Described(default=None, description="Set by the sending node.")
    service_type: ServiceType | None = Described(default=None, description="Set by the sending node.")
    referred_at: Moment | None = Described(default=None, description="Set by the sending node.")
    respond_by: Moment | None = Described(default=None, description="Set by the sending node.")
    vocabulary_version: Version | None = Described(default=None, description="Set by the sending node.")
    exercise: Yes | None = Described(default=None, description="Set by the sending node: a drill, never a real person.")
    referring_agency: AgencyId | None = Described(default=None, description="Set by the sending node.")
    duty_contact: LongName | None = Described(
        default=None, description="Set by the sending node: the referring agency's line, never a worker's own."
    )

    @model_validator(mode="after")
    def _clock_runs_forward(self) -> Self:
        if self.referred_at is not None and self.respond_by is not None and self.respond_by <= self.referred_at:
            raise PydanticCustomError("clock_backwards", "the answer must be due after the referral was made")
        return self
