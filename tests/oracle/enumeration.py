"""The whole space of questions to a contract, and whether the contract and Cedar answer each alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from random import Random
from typing import Final

from oracle.cedar import ROUTING, STAGES, Asked, cedar_allows, policies

from contracts.decision import Permit, Question, decide, permitted_groups
from contracts.model import Contract
from contracts.vocabulary import (
    AgencyKind,
    Basis,
    BasisClass,
    Field,
    ServiceType,
    Stage,
    basis_class,
    groups_of,
)

AT: Final = datetime(2026, 12, 1, tzinfo=UTC)
PAIRS: Final = tuple(product(AgencyKind, AgencyKind))
Allowed = dict[tuple[ServiceType, Basis, Stage], frozenset[Field]]


def permits(contract: Contract, asked: Asked) -> bool:
    """What the contract says to the smallest question."""
    question = Question(asked.sender, asked.receiver, asked.service, asked.basis, frozenset({asked.field}))
    decision = decide(contract, question, AT)
    return isinstance(decision, Permit) and asked.field in getattr(decision, asked.stage.value)


def sample(contract: Contract, random: Random, count: int) -> list[Asked]:
    """Questions of which about half are answered yes: the other half of a random space would hardly ever be."""
    found = []
    for _ in range(count):
        rule = random.choice(contract.rules)
        stage = random.choice(STAGES)
        right = {
            "sender": random.choice(sorted(rule.from_)),
            "receiver": random.choice(sorted(rule.to)),
            "service": random.choice(sorted(rule.service_types)),
            "basis": random.choice(sorted(rule.bases)),
            "stage": stage,
            "field": random.choice(sorted(getattr(rule, stage.value)) or list(ROUTING)),
        }
        any_at_all = {
            "sender": random.choice(list(AgencyKind)),
            "receiver": random.choice(list(AgencyKind)),
            "service": random.choice(list(ServiceType)),
            "basis": random.choice(list(Basis)),
            "stage": random.choice(STAGES),
            "field": random.choice(list(Field)),
        }
        changed = random.sample(list(right), random.choice((0, 0, 1, 1, 2, 6)))
        found.append(Asked(**(right | {name: any_at_all[name] for name in changed})))  # type: ignore[arg-type]
    return found


def cedar_for(contract: Contract, sender: AgencyKind, receiver: AgencyKind, services: Iterable[ServiceType]) -> Allowed:
    """Every field that Cedar lets this pair exchange, for each of the services, each basis and each stage."""
    keys = list(product(services, Basis, STAGES))
    questions = [Asked(sender, receiver, *key, field) for key in keys for field in Field]
    answers = iter(cedar_allows(policies(contract, sender, receiver), questions))
    return {key: frozenset(field for field in Field if next(answers)) for key in keys}


def differences(
    contract: Contract, sender: AgencyKind, receiver: AgencyKind, services: Sequence[ServiceType] = tuple(ServiceType)
) -> Iterator[str]:
    """Where contract and Cedar differ for this pair: every service, basis, stage and field, and the groups."""
    allowed = cedar_for(contract, sender, receiver, services)
    free = frozenset(Field) - contract.prohibited(receiver).keys()
    for service, basis in product(services, Basis):
        decision = decide(contract, Question(sender, receiver, service, basis, free), AT)
        for stage in STAGES:
            ours = getattr(decision, stage.value) if isinstance(decision, Permit) else frozenset()
            theirs = allowed[service, basis, stage]
            if ours != theirs:
                yield f"{sender} to {receiver} for {service} on {basis} at {stage}: {sorted(ours ^ theirs)}"
    for service, kind in product(services, BasisClass):
        yield from _differing_groups(contract, allowed, sender, receiver, service, kind)


def _differing_groups(
    contract: Contract,
    allowed: Allowed,
    sender: AgencyKind,
    receiver: AgencyKind,
    service: ServiceType,
    kind: BasisClass,
) -> Iterator[str]:
    bases = [basis for basis in Basis if basis_class(basis) is kind]
    by_stage = {stage: frozenset().union(*(allowed[service, basis, stage] for basis in bases)) for stage in STAGES}
    # Routing goes with every envelope of a referral that a rule covers.
    routing = ROUTING if by_stage[Stage.OFFER] & ROUTING else frozenset()
    later = groups_of(by_stage[Stage.DISCLOSURE] | by_stage[Stage.NAMED] | routing)
    expected = {Stage.OFFER: groups_of(by_stage[Stage.OFFER]), Stage.DISCLOSURE: later, Stage.NAMED: later}
    for stage, groups in expected.items():
        if permitted_groups(contract, sender, receiver, service, kind, stage) != groups:
            yield f"{sender} to {receiver} for {service} on {kind} at {stage}: groups"
