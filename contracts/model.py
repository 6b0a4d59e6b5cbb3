"""A contract: the information-sharing protocol between agencies, as data that both nodes evaluate.

Rules:

* Deny by default. A field flows only where one rule covers sender kind, receiver kind and service, and lists it.
* A `never` beats every rule and every consent.
* The digest is SHA-256 over the exact bytes of the file, because those bytes are what agencies sign.
* A contract is made by `contracts.loader.load_contract`, which also checks it against the field table.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import pydantic

from contracts.clearance import Clearance, clear
from contracts.prose import CountryAnnex, Obligations, Prose, Text
from contracts.rule import CrossBorder, Frozen, Never, Onward, Retention, Rule
from contracts.vocabulary import COUNTRIES, AgencyKind, Field, ServiceType
from contracts.vocabulary.term import Term

__all__ = [
    "Contract",
    "ContractFile",
    "ContractStatus",
    "CountryAnnex",
    "CrossBorder",
    "Never",
    "Obligations",
    "Onward",
    "Prose",
    "Retention",
    "Rule",
]

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class ContractStatus(Term):
    """How far the text is. A node refuses a draft outside sandbox and demo."""

    DRAFT = "draft-needs-local-legal-review"
    REVIEWED = "reviewed"


def _plain_date(value: Any) -> date:
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        raise ValueError("a date is written like 2027-06-30")
    day = date.fromisoformat(value)
    if day == date.max:
        # A contract holds to the end of its last day, which is the first moment of the next.
        raise ValueError("the calendar has no day after this one")
    return day


def _country(value: str) -> str:
    if value not in COUNTRIES:
        raise ValueError("a country is written as its two ISO 3166-1 letters")
    return value


Day = Annotated[
    date,
    pydantic.BeforeValidator(_plain_date),
    pydantic.WithJsonSchema({"type": "string", "format": "date", "pattern": f"^{_DATE.pattern}$"}),
]
Country = Annotated[str, pydantic.AfterValidator(_country), pydantic.StringConstraints(pattern=r"^[A-Z]{2}$")]


class ContractFile(Frozen):
    """The keys of a contract file. Every one is required."""

    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,62}$")] = pydantic.Field(
        alias="contract"
    )
    version: Annotated[str, pydantic.StringConstraints(pattern=r"^(0|[1-9][0-9]*)([.](0|[1-9][0-9]*)){2}$")]
    language_version: Literal[1]
    vocabulary: Literal[1]
    status: ContractStatus
    title: Text
    prose: Prose
    countries: dict[Country, CountryAnnex]
    review_on: Day
    valid_until: Day
    rules: Annotated[tuple[Rule, ...], pydantic.Field(min_length=1)]
    never: Annotated[tuple[Never, ...], pydantic.Field(min_length=1)]
    obligations: Obligations


class Contract(ContractFile):
    """A contract file together with its digest and the index that decisions use."""

    digest: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    def model_post_init(self, _context: Any, /) -> None:
        """Builds the index.

        Raises:
            ValueError: if two rules match the same sender kind, receiver kind and service.
        """
        _ = self.clearances

    # Cached properties, not private attributes: to read one of those takes longer than to look something up in it.

    @cached_property
    def ends_at(self) -> datetime:
        """The first moment at which the contract no longer holds: the end of its last day, in UTC."""
        return datetime.combine(self.valid_until + timedelta(days=1), datetime.min.time(), UTC)

    @cached_property
    def prohibitions(self) -> dict[AgencyKind, dict[Field, str]]:
        """Every field that may never go to a kind, with the label of the `never` that says so first."""
        found: dict[AgencyKind, dict[Field, str]] = {kind: {} for kind in AgencyKind}
        for number, never in enumerate(self.never, start=1):
            for kind in never.to:
                for field in never.fields:
                    found[kind].setdefault(field, f"never[{number}]")
        return found

    @cached_property
    def clearances(self) -> dict[tuple[AgencyKind, AgencyKind, ServiceType], Clearance]:
        """The one rule that covers sender kind, receiver kind and service, prepared for this receiver."""
        found: dict[tuple[AgencyKind, AgencyKind, ServiceType], Clearance] = {}
        for rule in self.rules:
            for receiver in rule.to:
                clearance = clear(rule, receiver, self.prohibitions[receiver])
                for triple in ((sender, receiver, service) for sender in rule.from_ for service in rule.service_types):
                    if found.setdefault(triple, clearance) is not clearance:
                        raise ValueError("two rules match the same sender, receiver and service")
        return found

    def clearance(self, sender: AgencyKind, receiver: AgencyKind, service: ServiceType) -> Clearance | None:
        """The one rule that covers the three, prepared for this receiver; nothing if none does."""
        return self.clearances.get((sender, receiver, service))

    def rule_for(self, sender: AgencyKind, receiver: AgencyKind, service: ServiceType) -> Rule | None:
        """The one rule that covers the three; nothing if none does."""
        clearance = self.clearance(sender, receiver, service)
        return clearance.rule if clearance else None

    def prohibited(self, receiver: AgencyKind) -> dict[Field, str]:
        """Every field that may never go to this kind, with the label of the `never` that says so."""
        return self.prohibitions[receiver]
