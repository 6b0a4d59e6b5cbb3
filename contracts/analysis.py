"""Exact answers about a whole contract: who sees a field, what a kind sees, and whether its promises hold.

The space is finite (sender kind x receiver kind x service x basis x field), so it is enumerated, not sampled. A basis
only decides whether a rule applies at all, never which fields it lists; so a sighting carries the set of bases on which
it happens instead of being repeated for each. A test compares these sightings with `decide`, point by point.

`prove` checks what every contract of this federation has to promise. A claim that does not hold comes with one concrete
counterexample: who would learn what from whom, for which service, on which basis, by which rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from contracts.decision import Permit, Question, decide
from contracts.model import Contract
from contracts.verdict import an_agency
from contracts.vocabulary import (
    FIELD_SPECS,
    AgencyKind,
    Basis,
    Field,
    Sensitivity,
    ServiceType,
    Stage,
    ceiling,
)

_STRICTNESS: Final = {stage: rank for rank, stage in enumerate(Stage)}
_IDENTIFYING: Final = frozenset({Sensitivity.C3, Sensitivity.C5})


@dataclass(frozen=True, slots=True)
class Sighting:
    """One way in which a kind of agency gets to see a field."""

    sender: AgencyKind
    receiver: AgencyKind
    service: ServiceType
    field: Field
    stage: Stage
    rule: str
    bases: frozenset[Basis]

    @property
    def sentence(self) -> str:
        """The sighting as a person would say it, with one basis on which it happens."""
        basis = next(basis for basis in Basis if basis in self.bases)
        return (
            f"{an_agency(self.receiver).capitalize()} sees `{self.field.value}` at stage `{self.stage.value}` when "
            f"{an_agency(self.sender)} refers for {self.service.value} on the basis `{basis.value}` "
            f"(rule `{self.rule}`)."
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the contract promises. It holds when no counterexample was found in the whole space."""

    code: str
    sentence: str
    counterexample: str | None

    @property
    def holds(self) -> bool:
        """Whether the promise is kept everywhere."""
        return self.counterexample is None


def sightings(contract: Contract) -> Iterator[Sighting]:
    """Every sighting that the contract allows, in vocabulary order."""
    for receiver in AgencyKind:
        for sender in AgencyKind:
            for service in ServiceType:
                clearance = contract.clearance(sender, receiver, service)
                if clearance is None:
                    continue
                rule = clearance.rule
                for field, verdict in clearance.verdicts:
                    if verdict.stage is not None:
                        yield Sighting(sender, receiver, service, field, verdict.stage, rule.id, rule.bases)


def who_sees(contract: Contract, field: Field) -> tuple[Sighting, ...]:
    """Every way in which anybody gets to see the field; empty when nobody does."""
    return tuple(sighting for sighting in sightings(contract) if sighting.field is field)


def sees(contract: Contract, kind: AgencyKind) -> tuple[Sighting, ...]:
    """Everything that agencies of this kind get to see as receivers."""
    return tuple(sighting for sighting in sightings(contract) if sighting.receiver is kind)


def prove(contract: Contract) -> tuple[Claim, ...]:
    """Every promise, checked over the whole space."""
    seen = tuple(sightings(contract))
    return (
        Claim("nevers-hold", "What a `never` forbids is refused to everyone it names.", _broken_never(contract)),
        Claim(
            "rules-respect-nevers", "No rule lists what a `never` forbids to the same kind.", _contradiction(contract)
        ),
        Claim(
            "within-field-table", "Nothing flows earlier or wider than the field table allows.", _above_ceiling(seen)
        ),
        Claim("offers-name-nobody", "No identifying or special field stands in an offer.", _identifying_offer(seen)),
        Claim("immigration-sees-nothing", "No rule names immigration, as sender or receiver.", _immigration(contract)),
    )


def _broken_never(contract: Contract) -> str | None:
    """Asks `decide` itself about every forbidden field, alone, in every direction."""
    at = contract.ends_at - timedelta(seconds=1)
    for number, never in enumerate(contract.never, start=1):
        for receiver in (kind for kind in AgencyKind if kind in never.to):
            ways = tuple(_ways_to(contract, receiver))
            for field in never.fields:
                fields = frozenset({field})
                for sender, service, basis in ways:
                    if isinstance(decide(contract, Question(sender, receiver, service, basis, fields), at), Permit):
                        return (
                            f"`never[{number}]` forbids `{field.value}` to {an_agency(receiver)}, but "
                            f"{an_agency(sender)} may send a request with it for {service.value}."
                        )
    return None


def _ways_to(contract: Contract, receiver: AgencyKind) -> Iterator[tuple[AgencyKind, ServiceType, Basis]]:
    """Everything that can be asked of a receiver, on a basis that a rule accepts where there is one."""
    for sender in AgencyKind:
        for service in ServiceType:
            rule = contract.rule_for(sender, receiver, service)
            yield sender, service, next(iter(rule.bases)) if rule else Basis.CONSENT


def _contradiction(contract: Contract) -> str | None:
    for rule in contract.rules:
        listed = rule.offer | rule.disclosure | rule.named
        for receiver in AgencyKind:
            labels = contract.prohibited(receiver) if receiver in rule.to else {}
            for field in Field:
                if field in listed and field in labels:
                    return (
                        f"Rule `{rule.id}` lists `{field.value}` for {an_agency(receiver)} and `{labels[field]}` "
                        f"forbids it, so every request with it is refused."
                    )
    return None


def _above_ceiling(seen: Iterable[Sighting]) -> str | None:
    for sighting in seen:
        earliest = ceiling(sighting.field, sighting.receiver, sighting.service)
        if _STRICTNESS[sighting.stage] < _STRICTNESS[earliest]:
            return f"{sighting.sentence} The field table allows it at stage `{earliest.value}`."
    return None


def _identifying_offer(seen: Iterable[Sighting]) -> str | None:
    for sighting in seen:
        if sighting.stage is Stage.OFFER and FIELD_SPECS[sighting.field].sensitivity in _IDENTIFYING:
            return sighting.sentence
    return None


def _immigration(contract: Contract) -> str | None:
    """A sender learns from the answers, so immigration must not stand on either side."""
    for sender in AgencyKind:
        for receiver in AgencyKind:
            for service in ServiceType:
                rule = contract.rule_for(sender, receiver, service)
                if rule is not None and AgencyKind.IMMIGRATION in {sender, receiver}:
                    return (
                        f"{an_agency(sender).capitalize()} may refer to {an_agency(receiver)} for {service.value} "
                        f"(rule `{rule.id}`); the receiver sees the request, the sender the answers."
                    )
    return None
