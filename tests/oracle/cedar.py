"""A contract as policies of Cedar, another policy language with an engine of its own.

Rules of the translation, which knows nothing of how `contracts` decides:

* One `permit` for each rule and stage: sender, receiver, service, basis and field each stand in the rule's list.
* Routing fields stand in the offer of every rule.
* One `forbid` for each `never`. In Cedar a `forbid` beats every `permit`, and what nothing permits is denied.

A policy whose evaluation fails is skipped by Cedar, which could hide a `forbid`: an answer with any error is an error
here. Likewise an answer that is no decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import cedarpy

from contracts.model import Contract
from contracts.vocabulary import FIELD_SPECS, AgencyKind, Basis, Field, Sensitivity, ServiceType, Stage

STAGES: Final = (Stage.OFFER, Stage.DISCLOSURE, Stage.NAMED)
ROUTING: Final = frozenset(name for name, spec in FIELD_SPECS.items() if spec.sensitivity is Sensitivity.C1)


@dataclass(frozen=True, slots=True)
class Asked:
    """The smallest question there is."""

    sender: AgencyKind
    receiver: AgencyKind
    service: ServiceType
    basis: Basis
    stage: Stage
    field: Field

    def request(self) -> dict[str, object]:
        """The same, as Cedar takes it."""
        return {
            "principal": f"Kind::{json.dumps(self.sender.value)}",
            "action": f"Action::{json.dumps(self.stage.value)}",
            "resource": f"Field::{json.dumps(self.field.value)}",
            "context": {"to": self.receiver.value, "service": self.service.value, "basis": self.basis.value},
        }


def _texts(terms: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(str(term)) for term in sorted(terms)) + "]"


def _entities(kind: str, terms: Iterable[str]) -> str:
    return "[" + ", ".join(f"{kind}::{json.dumps(str(term))}" for term in sorted(terms)) + "]"


def policies(contract: Contract, sender: AgencyKind | None = None, receiver: AgencyKind | None = None) -> str:
    """The contract in Cedar; for one pair of kinds without the policies that name neither of the two.

    Cedar evaluates every policy for every request, so that a part of the contract is answered much faster. What is left
    out could not have matched; the tests ask the whole contract as well.
    """
    written = []
    for rule in contract.rules:
        if (sender is not None and sender not in rule.from_) or (receiver is not None and receiver not in rule.to):
            continue
        for stage, listed in zip(STAGES, (rule.offer | ROUTING, rule.disclosure, rule.named), strict=True):
            conditions = (
                f"{_entities('Kind', rule.from_)}.contains(principal)",
                f"{_texts(rule.to)}.contains(context.to)",
                f"{_texts(rule.service_types)}.contains(context.service)",
                f"{_texts(rule.bases)}.contains(context.basis)",
                f"{_entities('Field', listed)}.contains(resource)",
            )
            scope = f"principal, action == Action::{json.dumps(stage.value)}, resource"
            written.append(f"permit ({scope}) when {{ {' && '.join(conditions)} }};")
    for never in contract.never:
        if receiver is None or receiver in never.to:
            conditions = (
                f"{_texts(never.to)}.contains(context.to)",
                f"{_entities('Field', never.fields)}.contains(resource)",
            )
            written.append(f"forbid (principal, action, resource) when {{ {' && '.join(conditions)} }};")
    return "\n".join(written)


def cedar_allows(written: str, questions: Sequence[Asked]) -> list[bool]:
    """Cedar's answer to each question under these policies.

    Raises:
        ValueError: a policy failed, or Cedar did not decide.
    """
    answers = cedarpy.is_authorized_batch([question.request() for question in questions], written, [])
    decided = (cedarpy.Decision.Allow, cedarpy.Decision.Deny)
    if len(answers) != len(questions) or any(one.diagnostics.errors or one.decision not in decided for one in answers):
        raise ValueError("Cedar skipped a policy or did not decide")
    return [answer.decision is cedarpy.Decision.Allow for answer in answers]
