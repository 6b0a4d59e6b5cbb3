"""The analysis agrees with the decision everywhere, and finds planted holes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.contract_files import NOW, load, shipped, small, unchecked

from contracts.analysis import Claim, prove, sees, sightings, who_sees
from contracts.decision import Permit, Question, decide
from contracts.loader import shipped_contract
from contracts.model import Contract
from contracts.vocabulary import AgencyKind, Basis, Field, ServiceType, Stage

IMMIGRATION_RULE = b"""\
  - id: hole
    from: [shelter]
    to: [immigration]
    service_types: [other-support]
    offer: [needs]
    disclosure: [preferred_name]
    named: []
    bases: [consent]
    release: automatic
    max_unserved_accepts: 1
    feedback: decision
    onward: none
    cross_border: forbidden
    respond_within: {emergency: 1h, urgent: 24h, routine: 72h}
    retention: {declined: 24h, expired: 24h, closed: 7d}
never:
"""
BY_POINT = {
    (sighting.sender, sighting.receiver, sighting.service, sighting.field): sighting
    for sighting in sightings(shipped())
}


def broken(contract: Contract) -> dict[str, str]:
    return {claim.code: claim.counterexample for claim in prove(contract) if claim.counterexample is not None}


def test_every_promise_of_the_shipped_contract_holds() -> None:
    assert broken(shipped()) == {}
    assert all(claim.holds and claim.sentence for claim in prove(shipped()))


def test_proving_takes_about_a_second() -> None:
    begin = time.process_time()
    prove(shipped())
    assert time.process_time() - begin < 3


def test_a_hole_for_immigration_loads_and_is_found() -> None:
    contract = load(shipped_contract().replace(b"never:\n", IMMIGRATION_RULE, 1))
    found = broken(contract)
    assert found["immigration-sees-nothing"].startswith("A shelter agency may refer to an immigration agency")
    assert "(rule `hole`)" in found["immigration-sees-nothing"]
    assert "`hole` lists `needs` for an immigration agency" in found["rules-respect-nevers"]


def test_immigration_as_a_sender_is_found_as_well() -> None:
    found = broken(load(small("from: [helpline, police]", "from: [helpline, immigration]")))
    assert found["immigration-sees-nothing"].startswith("An immigration agency may refer to a shelter agency")


@pytest.mark.parametrize("field", ["safety_flags", "safe_contact"], ids=["offer", "disclosure"])
def test_a_prohibition_of_what_a_rule_lists_is_found_at_every_stage(field: str) -> None:
    found = broken(load(small("[immigration_status], to: [police,", f"[{field}], to: [shelter, police,")))
    assert f"`shelter` lists `{field}`" in found["rules-respect-nevers"]


def test_a_rule_against_a_prohibition_loads_is_refused_and_is_found() -> None:
    contract = load(small("to: [police, labour-office]", "to: [police, legal-aid]"))
    found = broken(contract)
    assert set(found) == {"rules-respect-nevers"}
    assert "`lawyer` lists `immigration_status`" in found["rules-respect-nevers"]


@pytest.mark.parametrize(
    ("change", "code", "piece"),
    [
        pytest.param({"offer": frozenset({Field.LEGAL_NAME})}, "offers-name-nobody", "legal_name", id="name in offer"),
        pytest.param(
            {"offer": frozenset({Field.SAFE_CONTACT})}, "within-field-table", "safe_contact", id="contact early"
        ),
        pytest.param(
            {"named": frozenset({Field.HEALTH_FACTS})}, "within-field-table", "health_facts", id="not a clinic"
        ),
        pytest.param(
            {"disclosure": frozenset({Field.AVOID_OWN_AUTHORITIES})}, "within-field-table", "never", id="never"
        ),
    ],
)
def test_the_analysis_does_not_rely_on_the_loader(change: dict[str, object], code: str, piece: str) -> None:
    rule = load(small()).rules[0].model_copy(update=change)
    found = broken(unchecked(rules=(rule,)))
    assert piece in found[code]
    assert "(rule `shelter`)" in found[code]


def test_an_index_that_forgets_a_prohibition_is_found() -> None:
    rule = load(small()).rules[1].model_copy(update={"disclosure": frozenset({Field.NARRATIVE})})
    contract = unchecked(rules=(rule,))
    contract.prohibitions.update({kind: {} for kind in AgencyKind})
    assert "`never[" in broken(contract)["nevers-hold"]


def test_two_rules_for_one_question_cannot_be_built() -> None:
    rule = load(small()).rules[0]
    with pytest.raises(ValueError, match="two rules"):
        unchecked(rules=(rule, rule.model_copy(update={"id": "twin"})))


@given(
    st.sampled_from(sorted(BY_POINT)),
    st.sampled_from(AgencyKind),
    st.sampled_from(ServiceType),
    st.sampled_from(Basis),
    st.sampled_from(Field),
)
@settings(max_examples=400, deadline=None)
def test_sightings_are_exactly_what_decide_allows(
    near: tuple[AgencyKind, AgencyKind, ServiceType, Field],
    other_kind: AgencyKind,
    service: ServiceType,
    basis: Basis,
    field: Field,
) -> None:
    sender, receiver, seen_service, seen_field = near
    points = (
        (sender, receiver, seen_service, seen_field),
        (sender, receiver, seen_service, field),
        (sender, other_kind, service, seen_field),
        (other_kind, receiver, service, field),
    )
    for one, other, for_service, about in points:
        decision = decide(shipped(), Question(one, other, for_service, basis, frozenset({about})), NOW)
        stages = {
            stage
            for stage in (Stage.OFFER, Stage.DISCLOSURE, Stage.NAMED)
            if isinstance(decision, Permit) and about in getattr(decision, stage.value)
        }
        sighting = BY_POINT.get((one, other, for_service, about))
        expected = {sighting.stage} if sighting and basis in sighting.bases else set()
        assert stages == expected


def test_who_sees_immigration_status() -> None:
    found = who_sees(shipped(), Field.IMMIGRATION_STATUS)
    assert {(sighting.receiver, sighting.stage) for sighting in found} == {(AgencyKind.LEGAL_AID, Stage.NAMED)}
    assert "stage `named`" in found[0].sentence


@pytest.mark.parametrize("field", [Field.NARRATIVE, Field.AVOID_OWN_AUTHORITIES])
def test_nobody_sees(field: Field) -> None:
    assert who_sees(shipped(), field) == ()


def test_immigration_sees_nothing() -> None:
    assert sees(shipped(), AgencyKind.IMMIGRATION) == ()


def test_a_claim_holds_without_counterexample() -> None:
    assert Claim("x", "y", None).holds
    assert not Claim("x", "y", "z").holds
