"""What comes back from the receiving agency: coded, never free text, and never a place.

Rules:

* A decline carries a reason and nothing else does. Reasons that would tell whether a person is known stay with the
  receiver and travel as `other`; on the wire they are refused.
* A redirection suggests a service and never sends her data on: the sender asks her again.
* An outcome stands only with `completed`, a reason only with `failed`.
* An information-request names fields of the vocabulary; there is no free text, and no field that is never sent.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator
from pydantic import Field as Described
from pydantic_core import PydanticCustomError

from contracts.vocabulary import (
    FIELD_SPECS,
    LOCAL_DECLINE_REASONS,
    ROUTING_FIELDS,
    DeclineReason,
    FailReason,
    Field,
    Outcome,
    ServiceType,
    Stage,
)
from contracts.vocabulary.term import Term
from exchange.referral.canonical import SealedContent
from exchange.referral.parts import ArrivalWindow
from exchange.referral.values import Yes, once_each


class Decision(Term):
    """The receiver's word on an offer."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    WAITLISTED = "waitlisted"
    REDIRECTED = "redirected"


class Progress(Term):
    """How an accepted service goes."""

    SCHEDULED = "scheduled"
    NOT_REACHED = "not-reached"
    NOT_ARRIVED = "not-arrived"
    IN_SERVICE = "in-service"
    COMPLETED = "completed"
    FAILED = "failed"


def travelling_reason(reason: DeclineReason) -> DeclineReason:
    """The reason as it may leave the receiver."""
    return DeclineReason.OTHER if reason in LOCAL_DECLINE_REASONS else reason


def _may_be_asked(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    if any(field in ROUTING_FIELDS or FIELD_SPECS[field].stage is Stage.NEVER for field in fields):
        raise PydanticCustomError("cannot_be_asked", "must name only fields that an agency can be asked for")
    return fields


class DecisionContent(SealedContent):
    """Accepted, declined, waitlisted or redirected."""

    decision: Decision
    # Reading maps local reasons to `other`; the bytes of a local reason are then not canonical, and are refused.
    reason: Annotated[DeclineReason, AfterValidator(travelling_reason)] | None = Described(
        default=None, description="With `declined`, required."
    )
    arrival: ArrivalWindow | None = Described(default=None, description="With `accepted`: when she can come.")
    suggested_service: ServiceType | None = Described(default=None, description="With `redirected`, required.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.reason is not None) is not (self.decision is Decision.DECLINED):
            raise PydanticCustomError("reason_misplaced", "a reason belongs to `declined`, and only there")
        if (self.suggested_service is not None) is not (self.decision is Decision.REDIRECTED):
            raise PydanticCustomError(
                "service_misplaced", "a suggested service belongs to `redirected`, and only there"
            )
        if self.arrival is not None and self.decision is not Decision.ACCEPTED:
            raise PydanticCustomError("arrival_misplaced", "an arrival time belongs to `accepted`")
        return self


class ProgressContent(SealedContent):
    """How the service goes."""

    state: Progress
    outcome: Outcome | None = Described(default=None, description="With `completed`.")
    fail_reason: FailReason | None = Described(default=None, description="With `failed`.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.outcome is not None and self.state is not Progress.COMPLETED:
            raise PydanticCustomError("outcome_misplaced", "an outcome belongs to `completed`")
        if self.fail_reason is not None and self.state is not Progress.FAILED:
            raise PydanticCustomError("reason_misplaced", "a reason belongs to `failed`")
        return self


class InformationRequestContent(SealedContent):
    """Which fields the receiver needs before it can decide."""

    fields: Annotated[
        tuple[Field, ...],
        Described(min_length=1, max_length=20, json_schema_extra={"uniqueItems": True}),
        AfterValidator(once_each),
        AfterValidator(_may_be_asked),
    ]


class RecallAnswerContent(SealedContent):
    """Whether a service that had already begun is stopped."""

    agreed: Yes


AnswerContent = DecisionContent | ProgressContent | InformationRequestContent | RecallAnswerContent
