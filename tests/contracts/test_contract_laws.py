"""Laws of the decision, over generated contracts and questions."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.contract_files import NOW, load, shipped, small

from contracts.decision import Deny, Permit, Question, decide
from contracts.model import Contract, Never, Rule
from contracts.vocabulary import ROUTING_FIELDS, AgencyKind, Basis, BasisClass, Field, ServiceType

KINDS = st.sampled_from(AgencyKind)
FIELDS = st.frozensets(st.sampled_from(Field))
LISTABLE = st.frozensets(st.sampled_from([field for field in Field if field not in ROUTING_FIELDS]), max_size=12)
QUESTIONS = st.builds(
    Question,
    sender=KINDS,
    receiver=KINDS,
    service=st.sampled_from(ServiceType),
    basis=st.one_of(st.sampled_from(Basis), st.sampled_from(BasisClass)),
    fields=FIELDS,
)
BASE = load(small())
TEMPLATE = BASE.rules[0]


@st.composite
def rules(draw: st.DrawFn, service: ServiceType) -> Rule:
    """A rule for one service, so that two generated rules never match the same question."""
    offer = draw(LISTABLE)
    disclosure = draw(LISTABLE) - offer
    return TEMPLATE.model_copy(
        update={
            "id": f"for-{service.value}",
            "from_": draw(st.frozensets(KINDS, min_size=1)),
            "to": draw(st.frozensets(KINDS, min_size=1)),
            "service_types": frozenset({service}),
            "offer": offer,
            "disclosure": disclosure,
            "named": draw(LISTABLE) - offer - disclosure,
            "bases": draw(st.frozensets(st.sampled_from(Basis), min_size=1)),
        }
    )


NEVERS = st.builds(
    lambda fields, to: Never.model_construct(fields=fields, to=to),
    LISTABLE.filter(bool),
    st.frozensets(KINDS, min_size=1),
)


def contract_of(rule_list: tuple[Rule, ...], nevers: tuple[Never, ...]) -> Contract:
    values: dict[str, Any] = {name: getattr(BASE, name) for name in type(BASE).model_fields}
    contract = Contract.model_construct(**(values | {"rules": rule_list, "never": nevers}))
    contract.model_post_init(None)
    return contract


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[Rule, ...], tuple[Never, ...], Question]:
    services = draw(st.lists(st.sampled_from(ServiceType), unique=True, min_size=1, max_size=3))
    rule_list = tuple(draw(rules(service)) for service in services)
    nevers = tuple(draw(st.lists(NEVERS, max_size=2)))
    question = draw(QUESTIONS)
    if draw(st.booleans()):
        # Half of the questions meet a rule; otherwise nearly all would be about nothing.
        rule = rule_list[0]
        question = Question(
            draw(st.sampled_from(sorted(rule.from_))),
            draw(st.sampled_from(sorted(rule.to))),
            services[0],
            draw(st.sampled_from(sorted(rule.bases))),
            question.fields,
        )
    return rule_list, nevers, question


def allowed(contract: Contract, question: Question) -> frozenset[Field]:
    decision = decide(contract, question, NOW)
    return decision.offer | decision.disclosure | decision.named if isinstance(decision, Permit) else frozenset()


def outcome(contract: Contract, question: Question) -> Any:
    """The decision without the labels of prohibitions, which say where in the file they stand."""
    decision = decide(contract, question, NOW)
    verdicts = [(verdict.field, verdict.outcome, verdict.stage, verdict.code) for verdict in decision.verdicts]
    if isinstance(decision, Deny):
        return "deny", decision.code, verdicts
    return "permit", decision.rule.id, decision.offer, decision.disclosure, decision.named, verdicts


@given(parts(), NEVERS)
@settings(max_examples=150, deadline=None)
def test_adding_a_prohibition_never_adds_a_field(
    drawn: tuple[tuple[Rule, ...], tuple[Never, ...], Question], extra: Never
) -> None:
    rule_list, nevers, question = drawn
    before = allowed(contract_of(rule_list, nevers), question)
    after = allowed(contract_of(rule_list, (*nevers, extra)), question)
    assert after <= before
    if question.receiver in extra.to:
        assert after.isdisjoint(extra.fields)


@given(parts(), st.data())
@settings(max_examples=150, deadline=None)
def test_removing_a_field_from_a_rule_never_adds_one(
    drawn: tuple[tuple[Rule, ...], tuple[Never, ...], Question], data: st.DataObject
) -> None:
    rule_list, nevers, question = drawn
    gone = data.draw(LISTABLE)
    first = rule_list[0]
    smaller = first.model_copy(
        update={stage: getattr(first, stage) - gone for stage in ("offer", "disclosure", "named")}
    )
    before = allowed(contract_of(rule_list, nevers), question)
    assert allowed(contract_of((smaller, *rule_list[1:]), nevers), question) <= before


@given(parts())
@settings(max_examples=100, deadline=None)
def test_the_order_of_rules_and_prohibitions_does_not_matter(
    drawn: tuple[tuple[Rule, ...], tuple[Never, ...], Question],
) -> None:
    rule_list, nevers, question = drawn
    turned = contract_of(tuple(reversed(rule_list)), tuple(reversed(nevers)))
    assert outcome(turned, question) == outcome(contract_of(rule_list, nevers), question)


@given(parts())
@settings(max_examples=150, deadline=None)
def test_unlisted_is_not_allowed_and_every_field_is_answered(
    drawn: tuple[tuple[Rule, ...], tuple[Never, ...], Question],
) -> None:
    rule_list, nevers, question = drawn
    contract = contract_of(rule_list, nevers)
    rule = contract.rule_for(question.sender, question.receiver, question.service)
    listed = rule.offer | rule.disclosure | rule.named | ROUTING_FIELDS if rule else frozenset()
    assert allowed(contract, question) <= listed & question.fields
    assert [verdict.field for verdict in decide(contract, question, NOW).verdicts] == [
        field for field in Field if field in question.fields
    ]


@given(QUESTIONS)
@settings(max_examples=300, deadline=None)
def test_the_shipped_contract_answers_every_question(question: Question) -> None:
    decision = decide(shipped(), question, NOW)
    assert {verdict.field for verdict in decision.verdicts} == question.fields


@given(st.permutations(["needs", "language", "safety_flags"]), st.permutations(["helpline", "police"]))
@settings(max_examples=12, deadline=None)
def test_the_order_of_terms_in_the_file_does_not_matter(offer: list[str], senders: list[str]) -> None:
    data = small("[needs, language, safety_flags]", f"[{', '.join(offer)}]").replace(
        b"from: [helpline, police]", f"from: [{', '.join(senders)}]".encode()
    )
    assert load(data).rules == BASE.rules
