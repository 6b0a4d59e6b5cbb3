"""The consent record: what she allowed, to whom, why, until when, and how she was asked.

Rules:

* These models say what a consent looks like. Whether one is valid is decided in `consent.validity`, and only
  `consent.lifecycle` makes or changes a record.
* Nothing unknown is accepted, nothing is guessed, and no error repeats what was handed in.
* Provisions add up: a provision never takes away what another one gives. An empty list gives nothing.
* Who is meant by a provision: every agency it names; and, where it lists kinds, agencies of those kinds (only in the
  listed countries, if there are any); a provision that lists nothing but countries means any agency there that is not
  an authority. What each of these is good for is decided in `consent.decision`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, StrictBool, StringConstraints, ValidationError, field_serializer
from pydantic import Field as Described

from consent.errors import ConsentUnreadableError
from consent.examples import DRAFT_EXAMPLE
from consent.terms import (
    AgencyId,
    ConsentState,
    Country,
    DeterminationReason,
    GivenHow,
    Id,
    Language,
    Moment,
    Role,
    Sha256,
    StatementId,
)
from contracts.canonical_json import canonical
from contracts.vocabulary import AgeBand, AgencyKind, Basis, Feedback, Field, Group, Purpose, WithdrawalForm

DEFAULT_LIFE: Final = timedelta(days=90)
LONGEST_LIFE: Final = timedelta(days=365)
WARNING_BEFORE: Final = timedelta(days=14)
MAX_PROVISIONS: Final = 50
LIVE_STATES: Final = frozenset({ConsentState.GIVEN, ConsentState.RENEWED})
_ENDING_STATES: Final = LIVE_STATES | {ConsentState.REQUESTED}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Provision(_Frozen):
    """One line of a consent: these fields, to these recipients, for these purposes."""

    # What has a default is written all the same, and the schema of what is written says so.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    fields: Annotated[frozenset[Field], Described(max_length=len(Field))] = Described(
        default=frozenset(), description="Fields she allowed one by one. The most protected fields flow only this way."
    )
    groups: Annotated[frozenset[Group], Described(max_length=len(Group))] = Described(
        default=frozenset(), description="Groups she allowed; a group never includes fields that have to be named."
    )
    agencies: Annotated[frozenset[AgencyId], Described(max_length=50)] = Described(
        default=frozenset(), description="Agencies she named, by their id in the federation."
    )
    kinds: Annotated[frozenset[AgencyKind], Described(max_length=len(AgencyKind))] = Described(
        default=frozenset(), description="Kinds of agency. Never enough for an authority or across a border."
    )
    countries: Annotated[frozenset[Country], Described(max_length=50)] = Described(
        default=frozenset(),
        description="Countries (ISO 3166-1) she named. Beside kinds they limit where; alone they mean any agency "
        "there that is not an authority.",
    )
    purposes: Annotated[frozenset[Purpose], Described(max_length=len(Purpose))] = Described(
        default=frozenset(), description="What the data may be used for."
    )
    feedback: Feedback = Described(
        default=Feedback.DECISION, description="How much the recipient may report back; feedback is disclosure too."
    )

    @field_serializer("fields", "groups", "agencies", "kinds", "countries", "purposes")
    def _in_order(self, terms: frozenset[str]) -> list[str]:
        """Sets have no order; written down they have one, so that equal records are equal bytes."""
        return sorted(str(term) for term in terms)


class ToldAbout(_Frozen):
    """What she was told about one recipient before she decided."""

    agency: AgencyId = Described(description="The recipient she was told about.")
    reports_to: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=120)], ...], Described(max_length=10)
    ] = Described(default=(), description="To whom it must report, in the words of the federation's roster.")
    freedom_of_movement: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Described(
        description="Whether she can leave, in the words of the federation's roster."
    )
    requires_documents: StrictBool = Described(description="Whether documents will be asked for.")


class Determination(_Frozen):
    """Why, by whom and when it was decided that somebody other than the caregiver decides for a child."""

    reason: DeterminationReason = Described(description="Why the caregiver does not decide.")
    decided_by: Role = Described(description="Role or pseudonymous id of the caseworker who made the determination.")
    decided_at: Moment = Described(description="When; not after the consent was given.")
    trusted_adult: Role | None = Described(
        default=None, description="Role of the trusted adult; required for `trusted-adult-best-interest` only."
    )


class ConsentTerms(_Frozen):
    """What a draft and a record have in common."""

    basis: Basis = Described(description="On what ground her data may move. Exceptions are not available here.")
    age_band: AgeBand = Described(description="Her age as a band: it decides which bases are possible.")
    provisions: Annotated[tuple[Provision, ...], Described(max_length=MAX_PROVISIONS)] = Described(
        description="What she allowed, to whom and why. What is not listed is not allowed."
    )
    given_how: GivenHow = Described(description="How the yes was given.")
    language: Language = Described(description="Language of the reviewed statement that was used.")
    statement_id: StatementId = Described(description="Which reviewed consent statement was used.")
    interpreted_into: Language | None = Described(
        default=None, description="Language a human interpreter spoke, if the statement's language is not hers."
    )
    interpreter_role: Role | None = Described(
        default=None, description="Role of the interpreter, if one took part; never a name."
    )
    witnessed_by: Role | None = Described(
        default=None, description="Role or pseudonymous id of a witness, if there was one; never a name."
    )
    limits_explained_at: Moment | None = Described(
        default=None,
        description="When the limits of confidentiality were explained. No yes is recorded without it, nor where it is "
        "later than her yes: `limits-not-explained`.",
    )
    told_first: Annotated[tuple[ToldAbout, ...], Described(max_length=MAX_PROVISIONS)] = Described(
        default=(),
        description="What she was told about recipients before she decided; required for every authority she names.",
    )
    supporter: Role | None = Described(
        default=None, description="Role of the supporter; required for `supported-decision` only."
    )
    child_assents: StrictBool | None = Described(
        default=None,
        description="Whether the child agrees; must be true for `caregiver-and-assent`, may be stated for a "
        "best-interest determination.",
    )
    determination: Determination | None = Described(
        default=None, description="Required for the two best-interest bases only."
    )


class ConsentDraft(ConsentTerms):
    """A consent as a caseworker's system hands it in."""

    model_config = ConfigDict(json_schema_extra={"examples": [DRAFT_EXAMPLE]})

    given_at: Moment | None = Described(
        default=None, description="When she said yes, if that was before this call. Absent: now."
    )
    expires_at: Moment | None = Described(
        default=None, description="When it ends, exclusive. Absent: 90 days after her yes. At most 365 days after it."
    )


class ConsentRecord(ConsentTerms):
    """A consent that was recorded. Only `consent.lifecycle` makes one; every change is a new version."""

    # What has a default is written all the same, and the schema of what is written says so.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: Id
    subject: Id
    version: Annotated[int, Described(ge=1, strict=True)]
    state: ConsentState
    statement_version: Annotated[int, Described(ge=1, strict=True)]
    statement_digest: Sha256 = Described(description="SHA-256 of the words that were said to her.")
    requested_at: Moment
    given_at: Moment | None = Described(default=None, description="Absent while requested and after a refusal.")
    expires_at: Moment = Described(description="Exclusive: at this moment it has ended.")
    changed_at: Moment = Described(description="When this version was made.")
    withdrawal: WithdrawalForm | None = Described(default=None, description="Which form her no took.")

    def is_live(self, at: datetime) -> bool:
        """Whether this consent can allow anything at this moment."""
        return self.state in LIVE_STATES and self.given_at is not None and self.given_at <= at < self.expires_at

    def state_at(self, at: datetime) -> ConsentState:
        """The state at this moment: an end that has passed counts, whether or not somebody has written it down."""
        if self.state in _ENDING_STATES and at >= self.expires_at:
            return ConsentState.EXPIRED
        return self.state

    def to_json_bytes(self) -> bytes:
        """The record as canonical JSON, for sealed storage. Equal records give equal bytes."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        return canonical(dumped)

    @classmethod
    def from_sealed_bytes(cls, data: bytes) -> Self:
        """Read what `to_json_bytes` wrote, out of a seal that only its writer could make: that stands for the spelling.

        Raises:
            ConsentUnreadableError: these bytes are no record.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise ConsentUnreadableError from None


def warns(record: ConsentRecord, at: datetime) -> bool:
    """Whether the worker should be told now that this consent is about to end (from 14 days before)."""
    return record.is_live(at) and at >= record.expires_at - WARNING_BEFORE
