"""The closed terms of consent and the exact types of its values.

Rules:

* A moment is an RFC 3339 string with an offset (or an aware `datetime` from code). A number or a time without an offset
  is refused, never guessed. Every moment is kept in UTC.
* A person is written down as a role or a pseudonymous id, never as a name: `Role` has no room for one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from contracts.vocabulary import COUNTRIES, AgeBand, AgencyKind, Basis, is_language
from contracts.vocabulary.term import Term

AUTHORITY_KINDS: Final = frozenset(
    {AgencyKind.EMBASSY, AgencyKind.POLICE, AgencyKind.LABOUR_OFFICE, AgencyKind.IMMIGRATION}
)
"""Kinds that act for a state. Consent has to name the agency itself, and she has to be told first what it does."""

MINOR_BANDS: Final = frozenset({AgeBand.FROM_0_5, AgeBand.FROM_6_11, AgeBand.FROM_12_14, AgeBand.FROM_15_17})
BEST_INTEREST_BASES: Final = frozenset({Basis.TRUSTED_ADULT_BEST_INTEREST, Basis.CASEWORKER_BEST_INTEREST})

_RFC3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})")


class ConsentState(Term):
    """Where a consent stands (W3C Data Privacy Vocabulary, consent status)."""

    REQUESTED = "requested"
    REFUSED = "refused"
    GIVEN = "given"
    RENEWED = "renewed"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    INVALIDATED = "invalidated"


class GivenHow(Term):
    """How the yes was given. `recorded` means that a recording exists, not that this record exists."""

    VERBAL = "verbal"
    WRITTEN = "written"
    RECORDED = "recorded"


class DeterminationReason(Term):
    """Why somebody other than the caregiver decided for a child."""

    CAREGIVER_UNSAFE = "caregiver-unsafe"
    NO_CAREGIVER = "no-caregiver"


def _written_moment(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise PydanticCustomError(
        "wrong_form", "must be an RFC 3339 date and time with an offset, such as 2026-11-23T02:10:00Z"
    )


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years that a calendar can hold in UTC") from None


def _country(value: str) -> str:
    if value not in COUNTRIES:
        raise PydanticCustomError(
            "unknown-country", "Must be an ISO 3166-1 country code of two capital letters, such as MY"
        )
    return value


def _language(value: str) -> str:
    if not is_language(value):
        raise PydanticCustomError("unknown-language", "Must be a BCP 47 language tag, such as en, fil or zh-Hant")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_moment), AfterValidator(_utc)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
AgencyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
Role = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
StatementId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
Country = Annotated[str, AfterValidator(_country), Field(json_schema_extra={"pattern": "^[A-Z]{2}$"})]
Language = Annotated[str, AfterValidator(_language)]
