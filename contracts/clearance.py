"""One rule seen by one kind of receiver, with every prohibition already applied: what a decision looks up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.rule import Rule
from contracts.verdict import FieldVerdict
from contracts.vocabulary import (
    ROUTING_FIELDS,
    AgencyKind,
    Basis,
    BasisClass,
    Field,
    Group,
    Stage,
    basis_class,
    groups_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Clearance:
    """Precomputed sets, so that a decision is a few set operations."""

    rule: Rule
    offer: frozenset[Field]
    disclosure: frozenset[Field]
    named: frozenset[Field]
    offer_groups: frozenset[Group]
    disclosure_groups: frozenset[Group]
    classes: frozenset[BasisClass]
    verdicts: tuple[tuple[Field, FieldVerdict], ...]

    def accepts(self, basis: Basis | BasisClass) -> bool:
        """Whether the rule accepts the exact basis, or any basis of the class.

        The two are told apart by type, because `consent` is a term of both vocabularies.
        """
        return basis in (self.classes if isinstance(basis, BasisClass) else self.rule.bases)


def clear(rule: Rule, receiver: AgencyKind, prohibited: Mapping[Field, str]) -> Clearance:
    """The rule as this receiver meets it; `prohibited` maps each field under a `never` to that `never`'s label."""
    never = frozenset(prohibited)
    offer = (rule.offer | ROUTING_FIELDS) - never
    disclosure, named = rule.disclosure - never, rule.named - never
    return Clearance(
        rule=rule,
        offer=offer,
        disclosure=disclosure,
        named=named,
        offer_groups=groups_of(offer),
        disclosure_groups=groups_of(disclosure | named | ROUTING_FIELDS),
        classes=frozenset(basis_class(basis) for basis in rule.bases),
        verdicts=tuple((field, _verdict(rule, receiver, field, prohibited.get(field))) for field in Field),
    )


def _verdict(rule: Rule, receiver: AgencyKind, field: Field, never: str | None) -> FieldVerdict:
    if never is not None:
        return FieldVerdict(field, "forbidden", None, never, "never", receiver)
    if field in ROUTING_FIELDS:
        return FieldVerdict(field, "allowed", Stage.OFFER, rule.id, "always-flows", receiver)
    stage = rule.stage_of(field)
    if stage is None:
        return FieldVerdict(field, "withheld", None, rule.id, "not-listed", receiver)
    return FieldVerdict(field, "allowed", stage, rule.id, f"in-{stage.value}", receiver)
