"""The shipped contract keeps to the field and says what it must."""

import re
from datetime import date
from itertools import product

import pytest
from support.contract_files import shipped

from contracts.loader import shipped_contract
from contracts.model import ContractStatus, Rule
from contracts.prose import CountryAnnex
from contracts.vocabulary import (
    EXCEPTION_BASES,
    ROUTING_FIELDS,
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    ReleaseMode,
    ServiceType,
    Stage,
    ceiling,
    groups_of,
)

RULES = [pytest.param(rule, id=rule.id) for rule in shipped().rules]
AUTHORITIES = frozenset({AgencyKind.EMBASSY, AgencyKind.POLICE, AgencyKind.LABOUR_OFFICE})
STRICTNESS = list(Stage)


def test_it_is_a_draft_and_covers_the_nine_countries() -> None:
    assert shipped().status is ContractStatus.DRAFT
    assert set(shipped().countries) == {"ID", "KH", "LA", "MM", "MY", "PH", "SG", "TH", "VN"}
    assert shipped().review_on <= shipped().valid_until
    assert shipped().valid_until > date(2026, 11, 23)


def test_every_kind_but_immigration_receives_and_every_service_can_be_asked_for() -> None:
    receivers = frozenset().union(*(rule.to for rule in shipped().rules))
    services = frozenset().union(*(rule.service_types for rule in shipped().rules))
    assert receivers == frozenset(AgencyKind) - {AgencyKind.IMMIGRATION}
    assert services == frozenset(ServiceType) - {ServiceType.PEER_SUPPORT}


def test_a_helpline_can_ask_for_every_service() -> None:
    asked = {
        service
        for receiver, service in product(AgencyKind, ServiceType)
        if shipped().rule_for(AgencyKind.HELPLINE, receiver, service)
    }
    assert asked == frozenset(ServiceType) - {ServiceType.PEER_SUPPORT}


def test_immigration_stands_in_no_rule_and_every_field_is_forbidden_to_it() -> None:
    assert all(AgencyKind.IMMIGRATION not in rule.to | rule.from_ for rule in shipped().rules)
    assert frozenset(shipped().prohibited(AgencyKind.IMMIGRATION)) == frozenset(Field) - ROUTING_FIELDS


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_stays_below_the_field_table(rule: Rule) -> None:
    for stage in (Stage.OFFER, Stage.DISCLOSURE, Stage.NAMED):
        for field, receiver, service in product(getattr(rule, stage.value), rule.to, rule.service_types):
            earliest = ceiling(field, receiver, service)
            assert STRICTNESS.index(stage) >= STRICTNESS.index(earliest)


@pytest.mark.parametrize("rule", RULES)
def test_a_person_looks_first_exactly_where_an_official_procedure_may_start(rule: Rule) -> None:
    assert (rule.release is ReleaseMode.CONFIRM) == bool(rule.to & AUTHORITIES)


@pytest.mark.parametrize("rule", RULES)
def test_authorities_learn_a_decision_and_no_more(rule: Rule) -> None:
    assert rule.feedback is Feedback.DECISION or not rule.from_ & AUTHORITIES


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_rests_on_a_court_order_or_a_statute(rule: Rule) -> None:
    assert not rule.bases & {Basis.COURT_ORDER, Basis.STATUTE}
    assert rule.bases - EXCEPTION_BASES


@pytest.mark.parametrize("rule", RULES)
def test_nobody_sees_a_place_unless_somebody_goes_there(rule: Rule) -> None:
    if Field.CURRENT_LOCATION in rule.disclosure:
        assert rule.service_types <= {
            ServiceType.MENTAL_HEALTH_CRISIS,
            ServiceType.POLICE_PROTECTION,
            ServiceType.CHILD_PROTECTION,
        }


def test_interpreters_learn_neither_name_nor_place_nor_story() -> None:
    (rule,) = [rule for rule in shipped().rules if AgencyKind.INTERPRETER_SERVICE in rule.to]
    assert rule.disclosure == rule.named == frozenset()
    assert groups_of(rule.offer) == {Group.NEED}


def test_return_is_asked_as_a_choice() -> None:
    rules = [rule for rule in shipped().rules if ServiceType.REPATRIATION in rule.service_types]
    assert rules
    assert all({Field.RETURN_VOLUNTARY, Field.SAFE_RETURN_ASSESSED} <= rule.offer for rule in rules)


def test_open_legal_questions_are_marked_and_nothing_is_invented() -> None:
    for annex in shipped().countries.values():
        assert set(annex.unreviewed()) == set(CountryAnnex.model_fields) - {"name"}
    text = shipped_contract().decode()
    assert not re.search(r"\+\d|\b\d{4,}\b(?!-)", text.split("rules:")[0].replace("2027", ""))
    assert "cites no law" in text
    assert not re.search(r"(?i)\b(article|section) \d", text)
