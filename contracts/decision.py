"""What a contract says to one question: may these fields go from this kind of agency to that one, for this service?

Rules:

* `decide` answers for every combination of terms of the vocabularies; it raises for none of them.
* A contract that has ended denies. Then a field under a `never` denies the whole question. Then, without a rule, or on
  a basis that the rule does not list, it is denied.
* What a rule does not list is withheld, by name. Routing fields (`C1`) flow wherever a rule covers the question.
* Every requested field gets a verdict: outcome, stage, rule, stable code, sentence. Verdicts are in vocabulary order.
* It does not look at consent, at the roster, or at values. `exchange.disclosure` joins the three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from contracts.clearance import Clearance
from contracts.model import Contract, Obligations, Rule
from contracts.verdict import FieldVerdict, Outcome, an_agency
from contracts.vocabulary import AgencyKind, Basis, BasisClass, Field, Group, ServiceType, Stage

__all__ = ["Deny", "FieldVerdict", "Outcome", "Permit", "Question", "clearance_for", "decide", "permitted_groups"]

_NO_GROUPS: Final[frozenset[Group]] = frozenset()
_RANK: Final = {field: rank for rank, field in enumerate(Field)}


class Question(NamedTuple):
    """Who asks to send what to whom, for which service and on which basis."""

    sender: AgencyKind
    receiver: AgencyKind
    service: ServiceType
    basis: Basis | BasisClass
    fields: frozenset[Field]


class Permit(NamedTuple):
    """A rule covers the question. The three sets hold only requested fields; the rest is withheld and named."""

    rule: Rule
    offer: frozenset[Field]
    disclosure: frozenset[Field]
    named: frozenset[Field]
    verdicts: tuple[FieldVerdict, ...]
    obligations: Obligations
    contract_digest: str


@dataclass(frozen=True, slots=True)
class Deny:
    """Nothing may be sent. `code`: contract-expired, never, no-rule or basis-not-allowed."""

    code: str
    sentence: str
    verdicts: tuple[FieldVerdict, ...]
    contract_digest: str


def decide(contract: Contract, question: Question, at: datetime) -> Permit | Deny:
    """The contract's answer at one moment.

    Raises:
        TypeError: if `at` has no time zone.
    """
    clearance = clearance_for(contract, question, at)
    if isinstance(clearance, Deny):
        return clearance
    fields = question.fields
    return Permit(
        rule=clearance.rule,
        offer=fields & clearance.offer,
        disclosure=fields & clearance.disclosure,
        named=fields & clearance.named,
        verdicts=tuple([verdict for field, verdict in clearance.verdicts if field in fields]),
        obligations=contract.obligations,
        contract_digest=contract.digest,
    )


def clearance_for(contract: Contract, question: Question, at: datetime) -> Clearance | Deny:
    """What `decide` decides by: all fields that a rule lets flow, before those that were asked for are picked.

    Raises:
        TypeError: if `at` has no time zone.
    """
    if at >= contract.ends_at:
        return _deny(contract, question, "contract-expired", "The contract has ended; a newer one has to be adopted.")
    prohibited = contract.prohibited(question.receiver)
    if not question.fields.isdisjoint(prohibited):
        return _deny_never(contract, question, prohibited)
    clearance = contract.clearance(question.sender, question.receiver, question.service)
    if clearance is None:
        sentence = (
            f"No rule lets {an_agency(question.sender)} refer to {an_agency(question.receiver)} "
            f"for {question.service.value}."
        )
        return _deny(contract, question, "no-rule", sentence)
    if not clearance.accepts(question.basis):
        sentence = f"Rule `{clearance.rule.id}` does not accept the basis `{question.basis.value}`."
        return _deny(contract, question, "basis-not-allowed", sentence, clearance.rule.id)
    return clearance


def permitted_groups(
    contract: Contract,
    sender: AgencyKind,
    receiver: AgencyKind,
    service: ServiceType,
    basis: BasisClass,
    stage: Stage,
) -> frozenset[Group]:
    """The groups of which at least one field may be inside an envelope of this stage.

    `named` fields travel in a disclosure, so both stages ask the same. Empty: no rule, or the class is not accepted.
    """
    clearance = contract.clearance(sender, receiver, service)
    if clearance is None or stage is Stage.NEVER or not clearance.accepts(basis):
        return _NO_GROUPS
    return clearance.offer_groups if stage is Stage.OFFER else clearance.disclosure_groups


def _deny(contract: Contract, question: Question, code: str, sentence: str, rule: str | None = None) -> Deny:
    verdicts = tuple(
        FieldVerdict(field, "withheld", None, rule, code, question.receiver)
        for field in sorted(question.fields, key=_RANK.__getitem__)
    )
    return Deny(code, sentence, verdicts, contract.digest)


def _deny_never(contract: Contract, question: Question, prohibited: Mapping[Field, str]) -> Deny:
    verdicts: list[FieldVerdict] = []
    named: list[str] = []
    for field in sorted(question.fields, key=_RANK.__getitem__):
        label = prohibited.get(field)
        if label is None:
            verdicts.append(FieldVerdict(field, "withheld", None, None, "refused-with-request", question.receiver))
        else:
            verdicts.append(FieldVerdict(field, "forbidden", None, label, "never", question.receiver))
            named.append(f"`{field.value}` (`{label}`)")
    sentence = f"The contract never lets {an_agency(question.receiver)} see {', '.join(named)}."
    return Deny("never", sentence, tuple(verdicts), contract.digest)
