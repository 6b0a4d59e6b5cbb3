"""The values of a referral that have more than one member, and the closed terms that only they use."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field as Described
from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from consent.terms import Country, Moment
from contracts.vocabulary import AgeBand, Sex
from contracts.vocabulary.term import Term
from exchange.referral.canonical import SealedModel
from exchange.referral.values import Name, Yes

MAX_PEOPLE: Final = 20
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Months = Annotated[int, Described(strict=True, ge=0, le=240)]
Amount = Annotated[int, Described(strict=True, ge=0, le=1_000_000_000)]


class InterpreterGender(Term):
    """Whom she is willing to speak through."""

    WOMAN = "woman"
    MAN = "man"
    NO_PREFERENCE = "no-preference"


class ExpectedStay(Term):
    """How long, as far as anyone can say."""

    TONIGHT = "tonight"
    DAYS = "days"
    WEEKS = "weeks"
    LONGER = "longer"
    NOT_KNOWN = "not-known"


class ConflictQuestion(Term):
    """What the receiver has to ask itself before it accepts. Coded: who is meant is never sent."""

    LINKED_TO_EMPLOYER = "linked-to-employer"
    LINKED_TO_RECRUITER = "linked-to-recruiter"
    LINKED_TO_FAMILY = "linked-to-family"
    LINKED_TO_AUTHORITY = "linked-to-authority"
    SERVES_PERPETRATOR = "serves-perpetrator"


class ImmigrationStatus(Term):
    """Her status, as a class."""

    DOCUMENTED = "documented"
    TIED_TO_EMPLOYER = "tied-to-employer"
    EXPIRED = "expired"
    UNDOCUMENTED = "undocumented"
    ASYLUM_OR_REFUGEE = "asylum-or-refugee"
    NOT_KNOWN = "not-known"


class CaregiverRelationship(Term):
    """Who the caregiver is to the child."""

    MOTHER = "mother"
    FATHER = "father"
    GRANDPARENT = "grandparent"
    SIBLING = "sibling"
    OTHER_RELATIVE = "other-relative"
    GUARDIAN = "guardian"
    OTHER = "other"


class ExcludedBecause(Term):
    """Why the caregiver must not be told."""

    IS_PERPETRATOR = "is-perpetrator"
    SIDES_WITH_PERPETRATOR = "sides-with-perpetrator"
    CHILD_REFUSES = "child-refuses"
    CANNOT_BE_REACHED = "cannot-be-reached"
    OTHER = "other"


class Dependant(SealedModel):
    """Somebody who comes with her, by age band; many shelters limit boys by age."""

    age_band: AgeBand
    sex: Sex


class Party(SealedModel):
    """Who comes: she herself and her dependants. Nobody is named."""

    adults: Annotated[int, Described(strict=True, ge=0, le=MAX_PEOPLE, description="Adults, she included.")]
    dependants: Annotated[tuple[Dependant, ...], Described(max_length=MAX_PEOPLE)] = ()
    infant_or_pregnant: Yes = False

    @model_validator(mode="after")
    def _somebody_comes(self) -> Self:
        if not self.adults and not self.dependants:
            raise PydanticCustomError("nobody_comes", "a party must have at least one person")
        return self


class Interpreter(SealedModel):
    """Whether an interpreter is needed. Always a trained person, never a machine."""

    needed: Yes
    gender: InterpreterGender = InterpreterGender.NO_PREFERENCE


class ArrivalWindow(SealedModel):
    """When she can come."""

    earliest: Moment
    latest: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.latest <= self.earliest:
            raise PydanticCustomError("window_backwards", "the latest arrival must be after the earliest")
        return self


class Caregiver(SealedModel):
    """A child's caregiver, and whether that person may know."""

    name: Name | None = Described(default=None, examples=["Example Aunt"])
    relationship: CaregiverRelationship
    informed: Yes = Described(description="Whether the caregiver knows of this referral.")
    excluded_because: ExcludedBecause | None = Described(
        default=None, description="Why the caregiver must not be told; only where `informed` is false."
    )

    @model_validator(mode="after")
    def _informed_or_excluded(self) -> Self:
        if self.informed and self.excluded_because is not None:
            raise PydanticCustomError("informed_and_excluded", "a caregiver who was informed is not excluded")
        return self


class WageDetails(SealedModel):
    """What she is owed, for a claim."""

    currency: Currency = Described(description="ISO 4217.", examples=["MYR"])
    monthly_wage: Amount | None = Described(default=None, description="Agreed wage a month, in whole units.")
    unpaid_months: Months | None = None
    deducted: Amount | None = Described(default=None, description="Deducted in all, in whole units.")


class AvoidOwnAuthorities(SealedModel):
    """Her own country's embassy or consulate must not learn of her. Evaluated by the sender, never transmitted."""

    country: Country
