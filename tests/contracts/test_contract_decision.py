"""What the contract answers to one question, with a reason for every field."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.contract_files import NOW, load, shipped, small

from contracts.decision import Deny, Permit, Question, decide, permitted_groups
from contracts.verdict import FIELD_CODES
from contracts.vocabulary import (
    FIELD_SPECS,
    ROUTING_FIELDS,
    AgencyKind,
    Basis,
    BasisClass,
    Field,
    Group,
    ServiceType,
    Stage,
    basis_class,
)

K, S, F = AgencyKind, ServiceType, Field


def ask(
    sender: AgencyKind = K.HELPLINE,
    receiver: AgencyKind = K.SHELTER,
    service: ServiceType = S.SAFE_ACCOMMODATION,
    basis: Basis | BasisClass = Basis.CONSENT,
    fields: frozenset[Field] = frozenset({F.NEEDS}),
) -> Question:
    return Question(sender, receiver, service, basis, fields)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        pytest.param(ask(receiver=K.IMMIGRATION), "no-rule", id="immigration has no rule"),
        pytest.param(ask(receiver=K.HEALTH), "no-rule", id="receiver not covered"),
        pytest.param(ask(sender=K.EMBASSY), "no-rule", id="sender not covered"),
        pytest.param(ask(service=S.LEGAL_AID), "no-rule", id="service not covered"),
        pytest.param(ask(service=S.PEER_SUPPORT), "no-rule", id="peer support is nobody's"),
        pytest.param(ask(basis=Basis.COURT_ORDER), "basis-not-allowed", id="court order"),
        pytest.param(ask(basis=Basis.SUPPORTED_DECISION), "basis-not-allowed", id="same class, other basis"),
        pytest.param(ask(basis=BasisClass.EXCEPTION), "basis-not-allowed", id="class without a listed basis"),
        pytest.param(ask(fields=frozenset({F.NARRATIVE})), "never", id="narrative alone"),
        pytest.param(ask(fields=frozenset({F.NEEDS, F.NARRATIVE})), "never", id="narrative among others"),
        pytest.param(
            ask(receiver=K.POLICE, fields=frozenset({F.IMMIGRATION_STATUS})), "never", id="never before no-rule"
        ),
        pytest.param(ask(basis=Basis.STATUTE, fields=frozenset({F.NARRATIVE})), "never", id="never before basis"),
    ],
)
def test_denied(question: Question, code: str) -> None:
    decision = decide(load(small()), question, NOW)
    assert isinstance(decision, Deny)
    assert decision.code == code
    assert {verdict.field for verdict in decision.verdicts} == question.fields
    assert all(verdict.outcome != "allowed" for verdict in decision.verdicts)


def test_a_permit_sorts_fields_by_stage_and_names_what_it_withholds() -> None:
    fields = frozenset(
        {F.CLIENT_CODE, F.NEEDS, F.PREFERRED_NAME, F.MEDICATION_OR_MENTAL_HEALTH_SUPPORT, F.LEGAL_NAME, F.AREA}
    )
    decision = decide(load(small()), ask(fields=fields), NOW)
    assert isinstance(decision, Permit)
    assert decision.offer == {F.CLIENT_CODE, F.NEEDS}
    assert decision.disclosure == {F.PREFERRED_NAME}
    assert decision.named == {F.MEDICATION_OR_MENTAL_HEALTH_SUPPORT}
    told = {
        verdict.field: (verdict.outcome, verdict.stage, verdict.rule, verdict.code) for verdict in decision.verdicts
    }
    assert told == {
        F.CLIENT_CODE: ("allowed", Stage.OFFER, "shelter", "always-flows"),
        F.NEEDS: ("allowed", Stage.OFFER, "shelter", "in-offer"),
        F.PREFERRED_NAME: ("allowed", Stage.DISCLOSURE, "shelter", "in-disclosure"),
        F.MEDICATION_OR_MENTAL_HEALTH_SUPPORT: ("allowed", Stage.NAMED, "shelter", "in-named"),
        F.LEGAL_NAME: ("withheld", None, "shelter", "not-listed"),
        F.AREA: ("withheld", None, "shelter", "not-listed"),
    }
    assert decision.contract_digest == load(small()).digest
    assert decision.obligations.breach_notice_s == 72 * 3600


def test_never_beats_a_rule_that_lists_the_field() -> None:
    contract = load(small("to: [police, labour-office]", "to: [police, legal-aid]"))
    question = ask(receiver=K.LEGAL_AID, service=S.LEGAL_AID, fields=frozenset({F.IMMIGRATION_STATUS, F.NEEDS}))
    decision = decide(contract, question, NOW)
    assert isinstance(decision, Deny)
    assert decision.code == "never"
    told = {verdict.field: (verdict.outcome, verdict.code, verdict.rule) for verdict in decision.verdicts}
    assert told == {
        F.IMMIGRATION_STATUS: ("forbidden", "never", "never[1]"),
        F.NEEDS: ("withheld", "refused-with-request", None),
    }
    assert "immigration_status" in decision.sentence
    assert Group.STATUS not in permitted_groups(
        contract, K.HELPLINE, K.LEGAL_AID, S.LEGAL_AID, BasisClass.CONSENT, Stage.DISCLOSURE
    )


@pytest.mark.parametrize(
    ("field", "group", "stage"),
    [
        pytest.param("safety_flags", Group.SAFETY, Stage.OFFER, id="offer"),
        pytest.param("safe_contact", Group.CONTACT, Stage.DISCLOSURE, id="disclosure"),
    ],
)
def test_nor_is_its_group_permitted_where_nothing_else_of_it_is_listed(field: str, group: Group, stage: Stage) -> None:
    """What an envelope may hold is judged by its groups, and then nobody asks about the field."""
    contract = load(small("[immigration_status], to: [police,", f"[{field}], to: [shelter, police,"))
    groups = permitted_groups(contract, K.HELPLINE, K.SHELTER, S.SAFE_ACCOMMODATION, BasisClass.CONSENT, stage)
    assert groups
    assert group not in groups


def test_only_an_adults_own_yes_and_that_of_a_young_person_travel_as_consent() -> None:
    classes = {basis: basis_class(basis) for basis in Basis}
    assert {basis for basis, of in classes.items() if of is BasisClass.CONSENT} == {
        "consent",
        "supported-decision",
        "own-consent-minor",
    }
    assert {basis for basis, of in classes.items() if of is BasisClass.GUARDIAN} == {
        "caregiver",
        "caregiver-and-assent",
        "trusted-adult-best-interest",
        "caseworker-best-interest",
    }


def test_a_basis_is_not_its_class_though_both_may_be_called_consent() -> None:
    contract = load(small("bases: [consent, caregiver]", "bases: [own-consent-minor]"))
    assert isinstance(decide(contract, ask(basis=BasisClass.CONSENT), NOW), Permit)
    assert isinstance(decide(contract, ask(basis=Basis.OWN_CONSENT_MINOR), NOW), Permit)
    denied = decide(contract, ask(basis=Basis.CONSENT), NOW)
    assert isinstance(denied, Deny)
    assert denied.code == "basis-not-allowed"


@pytest.mark.parametrize(
    ("at", "permitted"),
    [
        pytest.param(datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC), True, id="last second"),
        pytest.param(datetime(2028, 1, 1, tzinfo=UTC), False, id="first second after"),
        pytest.param(
            datetime(2028, 1, 1, 6, tzinfo=timezone(timedelta(hours=7))), True, id="still the last day in UTC"
        ),
    ],
)
def test_the_contract_ends(at: datetime, *, permitted: bool) -> None:
    decision = decide(load(small()), ask(), at)
    assert isinstance(decision, Permit) is permitted
    if isinstance(decision, Deny):
        assert decision.code == "contract-expired"


def test_a_time_without_zone_is_a_programming_error() -> None:
    with pytest.raises(TypeError):
        decide(load(small()), ask(), datetime(2026, 11, 23))  # noqa: DTZ001


def test_groups_per_stage() -> None:
    def groups(stage: Stage, basis: BasisClass = BasisClass.CONSENT) -> frozenset[Group]:
        return permitted_groups(load(small()), K.HELPLINE, K.SHELTER, S.SAFE_ACCOMMODATION, basis, stage)

    assert groups(Stage.OFFER) == {Group.ROUTING, Group.NEED, Group.SAFETY}
    assert groups(Stage.DISCLOSURE) == {Group.ROUTING, Group.NAME, Group.CONTACT, Group.HEALTH}
    assert groups(Stage.NAMED) == groups(Stage.DISCLOSURE)
    assert groups(Stage.NEVER) == frozenset()
    assert groups(Stage.OFFER, BasisClass.GUARDIAN) == groups(Stage.OFFER)
    assert groups(Stage.OFFER, BasisClass.EXCEPTION) == frozenset()
    assert (
        permitted_groups(load(small()), K.HELPLINE, K.POLICE, S.POLICE_PROTECTION, BasisClass.CONSENT, Stage.OFFER)
        == frozenset()
    )


def test_every_verdict_has_a_known_code_and_a_sentence() -> None:
    contract = shipped()
    for sender in (K.HELPLINE, K.POLICE):
        for receiver in AgencyKind:
            for service in ServiceType:
                for fields in (frozenset(Field), frozenset(Field) - frozenset(contract.prohibited(receiver))):
                    decision = decide(contract, ask(sender, receiver, service, fields=fields), NOW)
                    assert len(decision.verdicts) == len(fields)
                    assert {verdict.code for verdict in decision.verdicts} <= FIELD_CODES
                    assert all(
                        verdict.field.value in verdict.sentence and "None" not in verdict.sentence
                        for verdict in decision.verdicts
                    )


def test_routing_flows_wherever_a_rule_exists() -> None:
    decision = decide(load(small()), ask(fields=ROUTING_FIELDS), NOW)
    assert isinstance(decision, Permit)
    assert decision.offer == ROUTING_FIELDS
    assert all(FIELD_SPECS[field].group is Group.ROUTING for field in decision.offer)
