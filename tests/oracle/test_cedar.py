"""Cedar, asked the same questions, gives the same answers: to the shipped contract, and to contracts made at random."""

from __future__ import annotations

from random import Random

import pytest
from oracle.cedar import STAGES, Asked, cedar_allows, policies
from oracle.enumeration import AT, PAIRS, differences, permits, sample
from support.contract_files import load, shipped, small, unchecked

from contracts.decision import Deny, Question, decide
from contracts.model import Contract, Never, Rule
from contracts.vocabulary import ROUTING_FIELDS, AgencyKind, Basis, Field, ServiceType

QUESTIONS = 2000
CONTRACTS = 15


def test_the_shipped_contract_and_cedar_agree_on_questions_drawn_at_random() -> None:
    contract = shipped()
    questions = sample(contract, Random(5), QUESTIONS)
    answers = cedar_allows(policies(contract), questions)
    differing = [asked for asked, answer in zip(questions, answers, strict=True) if permits(contract, asked) != answer]
    assert not differing
    assert QUESTIONS // 5 < sum(answers) < QUESTIONS * 4 // 5, "the sample holds both answers"


@pytest.mark.parametrize("seed", range(3))
def test_the_shipped_contract_and_cedar_agree_on_everything_for_two_services(seed: int) -> None:
    """`make oracle` asks about every pair of kinds and every service; here about one pair and two each time."""
    random = Random(seed)
    rule = random.choice(shipped().rules)
    sender, receiver = random.choice(sorted(rule.from_)), random.choice(sorted(rule.to))
    services = [random.choice(sorted(rule.service_types)), random.choice(list(ServiceType))]
    assert not list(differences(shipped(), sender, receiver, services))


def _some(random: Random, terms: list[object], most: int) -> frozenset[object]:
    return frozenset(random.sample(terms, random.randint(1, min(most, len(terms)))))


def contract_at_random(random: Random) -> Contract:
    """Any rules and prohibitions at all, past the checks of the loader: what decides must not rely on those."""
    base = load(small()).rules[0]
    free = [field for field in Field if field not in ROUTING_FIELDS]
    rules: list[Rule] = []
    services = list(ServiceType)
    random.shuffle(services)
    for number in range(random.randint(1, 6)):
        listed = random.sample(free, random.randint(0, len(free)))
        ends = sorted(random.randint(0, len(listed)) for _ in range(2))
        changes = {
            "id": f"rule-{number}",
            "from_": _some(random, list(AgencyKind), 6),
            "to": _some(random, list(AgencyKind), 6),
            # Each rule has services of its own, so that one question has one rule.
            "service_types": frozenset(services[number * 3 : number * 3 + 3]),
            "offer": frozenset(listed[: ends[0]]),
            "disclosure": frozenset(listed[ends[0] : ends[1]]),
            "named": frozenset(listed[ends[1] :]),
            "bases": _some(random, list(Basis), 8),
        }
        rules.append(base.model_copy(update=changes))
    nevers = tuple(
        Never.model_construct(fields=_some(random, free, 5), to=_some(random, list(AgencyKind), 12))
        for _ in range(random.randint(1, 4))
    )
    return unchecked(rules=tuple(rules), never=nevers)


def test_contracts_made_at_random_and_cedar_agree() -> None:
    random = Random(9)
    for _ in range(CONTRACTS):
        contract = contract_at_random(random)
        questions = sample(contract, random, 200)
        answers = cedar_allows(policies(contract), questions)
        assert answers == [permits(contract, asked) for asked in questions]


def test_one_forbidden_field_denies_the_question_as_a_whole() -> None:
    """The only thing that cannot be asked of Cedar field by field."""
    contract, random = shipped(), Random(2)
    for asked in sample(contract, random, 300):
        prohibited = sorted(contract.prohibited(asked.receiver))
        fields = frozenset({asked.field, random.choice(prohibited)})
        decision = decide(contract, Question(asked.sender, asked.receiver, asked.service, asked.basis, fields), AT)
        assert isinstance(decision, Deny)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param('permit (principal, action == Stage::"offer", resource);', id="does-not-parse"),
        pytest.param("forbid (principal, action, resource) when { context.nothing };", id="fails-and-is-skipped"),
    ],
)
def test_a_policy_that_fails_is_no_answer(broken: str) -> None:
    """Cedar skips a policy that fails, and answers from the others."""
    asked = Asked(PAIRS[0][0], PAIRS[0][1], ServiceType.LEGAL_AID, Basis.CONSENT, STAGES[0], Field.NEEDS)
    with pytest.raises(ValueError, match="skipped"):
        cedar_allows(f"permit (principal, action, resource);\n{broken}", [asked])
