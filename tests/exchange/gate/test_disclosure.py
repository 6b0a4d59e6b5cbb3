"""What the gate lets through, at which stage, and that nothing else can make a Forward."""

import dataclasses
from typing import Any

import pytest
from support.contract_files import load, shipped, small, unchecked
from support.referrals import (
    AT,
    EMBASSY,
    HELPLINE,
    LAWYER,
    POLICE,
    SHELTER,
    consent,
    content,
    line,
    member,
    request,
)

from contracts.vocabulary import (
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    Priority,
    Purpose,
    ServiceType,
    Stage,
)
from exchange.disclosure import (
    Allowed,
    Cleared,
    ClearedLater,
    FieldReason,
    Forward,
    Refused,
    clear,
    clear_later,
    lesser,
    still_allowed,
)
from exchange.envelope.kinds import Kind
from exchange.referral.content import Routing
from exchange.referral.errors import ContentInvalidError


def cleared(**changes: Any) -> Cleared:
    result = clear(request(**changes))
    assert isinstance(result, Cleared), result
    return result


def why(result: Allowed | Refused) -> dict[Field, FieldReason]:
    return {reason.field: reason for reason in result.reasons}


def test_the_offer_says_what_and_the_disclosure_says_who() -> None:
    result = cleared()
    assert result.offer.content.fields_present() == {Field.NEEDS, Field.AGE_BAND}
    assert result.disclosure is not None
    assert result.disclosure.content.fields_present() == {Field.PREFERRED_NAME, Field.SAFE_CONTACT}


def test_a_forward_says_what_the_header_needs() -> None:
    offer = cleared().offer
    assert (offer.kind, offer.stage, offer.receiver) == (Kind.OFFER, Stage.OFFER, SHELTER)
    assert offer.purpose is Purpose.PROVIDE_SAFE_ACCOMMODATION
    assert offer.groups == {Group.NEED}
    assert offer.contract_digest == shipped().digest
    assert (offer.consent_id, offer.consent_version, offer.basis) == ("c0" * 16, 1, Basis.CONSENT)


def test_nobody_else_makes_a_forward() -> None:
    offer = cleared().offer
    members = {field.name: getattr(offer, field.name) for field in dataclasses.fields(offer)}
    with pytest.raises(TypeError):
        Forward(**members)
    with pytest.raises(TypeError):
        Forward(**members, made_by=object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(offer, content=content(Field.LEGAL_NAME))


def test_a_forward_cannot_be_changed_and_prints_nothing() -> None:
    disclosure = cleared().disclosure
    assert disclosure is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        disclosure.content = content()  # type: ignore[misc]
    assert "Bunga" not in f"{disclosure!r}{disclosure}"


ROUTING = Routing(
    client_code="K7QF-3M2P",
    priority=Priority.URGENT,
    service_type=ServiceType.SAFE_ACCOMMODATION,
    referred_at=AT,
    respond_by=AT.replace(day=24),
    referring_agency="orchid-helpline",
    duty_contact="+60 3 0000 0000",
)


def test_routing_fields_always_go_with_the_offer() -> None:
    result = cleared(content=content(Field.NEEDS).with_routing(ROUTING), consent=consent(line(groups=["need"])))
    assert result.offer.groups == {Group.ROUTING, Group.NEED}
    assert result.offer.content.client_code == "K7QF-3M2P"
    assert result.disclosure is None


def test_an_anonymous_referral_is_valid() -> None:
    result = cleared(content=content(Field.NEEDS, Field.LANGUAGE))
    assert result.disclosure is None


def test_what_the_rule_does_not_list_is_withheld_and_named() -> None:
    result = cleared(content=content(Field.NEEDS, Field.LEGAL_NAME))
    reason = why(result)[Field.LEGAL_NAME]
    assert (reason.outcome, reason.code, reason.rule) == ("withheld", "not-listed", "shelter-placement")
    assert result.disclosure is None


def test_what_she_did_not_allow_is_withheld_and_named() -> None:
    result = cleared(consent=consent(line(groups=["need", "name"])))
    reason = why(result)[Field.SAFE_CONTACT]
    assert (reason.outcome, reason.code, reason.consent) == ("withheld", "not-covered", None)
    assert result.disclosure is not None
    assert result.disclosure.content.fields_present() == {Field.PREFERRED_NAME}


def test_the_reason_names_the_provision() -> None:
    result = cleared(consent=consent(line(groups=["need"]), line(groups=["name", "contact"])))
    assert {field: reason.consent for field, reason in why(result).items()} == {
        Field.NEEDS: 0,
        Field.AGE_BAND: 0,
        Field.PREFERRED_NAME: 1,
        Field.SAFE_CONTACT: 1,
    }


SUPPORT = Field.MEDICATION_OR_MENTAL_HEALTH_SUPPORT
NAMING = [
    pytest.param(line(), "not-named", id="a-group-is-not-a-name"),
    pytest.param(line(agencies=[], kinds=["shelter"], fields=[SUPPORT]), "not-named", id="a-kind-is-not-an-agency"),
    pytest.param(line(fields=[SUPPORT]), "in-named", id="field-and-agency-named"),
]


@pytest.mark.parametrize(("provision", "code"), NAMING)
def test_a_named_field_needs_field_and_agency(provision: dict[str, Any], code: str) -> None:
    result = cleared(content=content(Field.NEEDS, SUPPORT), consent=consent(provision))
    assert why(result)[SUPPORT].code == code
    went = result.disclosure is not None and SUPPORT in result.disclosure.content.fields_present()
    assert went is (code == "in-named")


def test_a_rule_may_ask_for_naming_where_the_vocabulary_does_not() -> None:
    contract = load(
        small("disclosure: [preferred_name, safe_contact]", "disclosure: [safe_contact]").replace(
            b"named: [medication", b"named: [preferred_name, medication"
        )
    )
    asked = content(Field.NEEDS, Field.PREFERRED_NAME)
    unnamed = cleared(contract=contract, content=asked)
    assert why(unnamed)[Field.PREFERRED_NAME].code == "not-named"
    assert unnamed.disclosure is None
    named = cleared(contract=contract, content=asked, consent=consent(line(fields=["preferred_name"])))
    assert named.disclosure is not None


def test_an_identifying_field_never_stands_in_an_offer_whatever_the_contract_says() -> None:
    rule = load(small()).rules[0]
    hole = rule.model_copy(update={"offer": rule.offer | {Field.PREFERRED_NAME}, "disclosure": frozenset()})
    result = cleared(contract=unchecked(rules=(hole,)), content=content(Field.NEEDS, Field.PREFERRED_NAME))
    assert result.offer.content.fields_present() == {Field.NEEDS}
    assert result.disclosure is None
    assert why(result)[Field.PREFERRED_NAME].code == "above-ceiling"


def test_her_wish_to_avoid_her_own_authorities_is_never_sent() -> None:
    result = cleared(content=content(Field.NEEDS, avoid_own_authorities={"country": "ID"}))
    assert why(result)[Field.AVOID_OWN_AUTHORITIES].code == "evaluated-here"
    assert result.offer.content.fields_present() == {Field.NEEDS}
    assert result.disclosure is None


def test_another_countrys_embassy_may_be_asked() -> None:
    result = cleared(
        receiver=EMBASSY,
        service=ServiceType.TRAVEL_DOCUMENTS,
        consent=consent(line(EMBASSY)),
        content=content(Field.LANGUAGE, avoid_own_authorities={"country": "PH"}),
    )
    assert result.offer.content.fields_present() == {Field.LANGUAGE}


def test_a_shelter_of_the_country_whose_authorities_she_avoids_is_none_of_them() -> None:
    result = cleared(content=content(Field.NEEDS, avoid_own_authorities={"country": SHELTER.country}))
    assert result.offer.content.fields_present() == {Field.NEEDS}


def test_safety_flags_reach_the_police_only_by_name() -> None:
    asked = {
        "receiver": POLICE,
        "service": ServiceType.POLICE_PROTECTION,
        "content": content(Field.LANGUAGE, Field.SAFETY_FLAGS),
    }
    unnamed = cleared(**asked, consent=consent(line(POLICE)))
    assert unnamed.disclosure is None
    named = cleared(**asked, consent=consent(line(POLICE, fields=["safety_flags"])))
    assert named.disclosure is not None
    assert named.disclosure.content.fields_present() == {Field.SAFETY_FLAGS}


def test_status_reaches_a_lawyer_whom_she_named_for_it() -> None:
    result = cleared(
        receiver=LAWYER,
        service=ServiceType.LEGAL_AID,
        content=content(Field.LANGUAGE, immigration_status="expired"),
        consent=consent(line(LAWYER, fields=["immigration_status"])),
    )
    assert result.disclosure is not None
    assert result.disclosure.groups == {Group.STATUS}


def test_across_a_border_to_a_named_agency() -> None:
    abroad = member("bangkok-shelter", country="TH")
    assert cleared(receiver=abroad, consent=consent(line(abroad))).disclosure is not None


def test_a_childs_caregiver_may_be_told_of() -> None:
    child = consent(basis="own-consent-minor", age_band="15-17", statement_id="young-person-consent")
    asked = content(Field.NEEDS, is_minor=True, caregiver={"relationship": "mother", "informed": True})
    result = cleared(consent=child, content=asked)
    assert result.disclosure is not None
    assert result.disclosure.groups == {Group.CAREGIVER}


@pytest.mark.parametrize(("one", "other"), [(one, other) for one in Feedback for other in Feedback])
def test_the_lesser_feedback_counts(one: Feedback, other: Feedback) -> None:
    order = ["decision", "status", "outcome"]
    assert order.index(lesser(one, other)) == min(order.index(one), order.index(other))


@pytest.mark.parametrize(("hers", "expected"), [("decision", "decision"), ("status", "status"), ("outcome", "status")])
def test_feedback_is_no_more_than_rule_and_consent(hers: str, expected: str) -> None:
    assert cleared(consent=consent(line(feedback=hers))).feedback == expected


def later(kind: Kind = Kind.INFORMATION, *, accepted: bool, **changes: Any) -> ClearedLater:
    result = clear_later(request(**changes), kind, accepted=accepted)
    assert isinstance(result, ClearedLater), result
    return result


def test_before_acceptance_information_says_what_but_never_who() -> None:
    (forward,) = later(accepted=False).forwards
    assert (forward.stage, forward.content.fields_present()) == (Stage.OFFER, {Field.NEEDS, Field.AGE_BAND})


def test_after_acceptance_each_stage_is_a_forward_of_its_own() -> None:
    offer, disclosure = later(accepted=True).forwards
    assert (offer.kind, offer.stage) == (Kind.INFORMATION, Stage.OFFER)
    assert (disclosure.kind, disclosure.stage) == (Kind.INFORMATION, Stage.DISCLOSURE)
    assert disclosure.content.fields_present() == {Field.PREFERRED_NAME, Field.SAFE_CONTACT}


def test_a_fresh_disclosure_is_one_forward() -> None:
    (forward,) = later(Kind.DISCLOSURE, accepted=True).forwards
    assert (forward.kind, forward.stage) == (Kind.DISCLOSURE, Stage.DISCLOSURE)


@pytest.mark.parametrize(
    ("changes", "kind", "accepted"),
    [
        pytest.param({"content": content(Field.SAFE_CONTACT)}, Kind.UPDATE, False, id="contact-before-acceptance"),
        pytest.param({}, Kind.DISCLOSURE, False, id="disclosure-before-acceptance"),
        pytest.param({"content": content(Field.NEEDS)}, Kind.DISCLOSURE, True, id="nothing-to-disclose"),
        pytest.param({"content": content(Field.LEGAL_NAME)}, Kind.INFORMATION, True, id="not-listed"),
        pytest.param({"content": content()}, Kind.INFORMATION, True, id="empty"),
    ],
)
def test_nothing_left_to_tell_is_a_refusal(changes: dict[str, Any], kind: Kind, accepted: bool) -> None:
    result = clear_later(request(**changes), kind, accepted=accepted)
    assert isinstance(result, Refused)
    assert result.code == "nothing-allowed"


@pytest.mark.parametrize("fields", [(), (Field.NEEDS, Field.PREFERRED_NAME)], ids=["alone", "beside-others"])
@pytest.mark.parametrize("kind", [Kind.INFORMATION, Kind.UPDATE, Kind.DISCLOSURE])
def test_routing_fields_do_not_follow_an_offer(kind: Kind, fields: tuple[Field, ...]) -> None:
    """No rule and no consent speaks of them, and the sending node has written its own."""
    with pytest.raises(ContentInvalidError) as caught:
        clear_later(request(content=content(*fields, duty_contact="Example, room 4")), kind, accepted=True)
    assert [(one.path, one.code) for one in caught.value.problems] == [("$.duty_contact", "set-by-node")]


@pytest.mark.parametrize(
    ("kind", "accepted", "left_out"),
    [
        pytest.param(Kind.INFORMATION, False, {Field.PREFERRED_NAME, Field.SAFE_CONTACT}, id="before-the-release"),
        pytest.param(Kind.DISCLOSURE, True, {Field.NEEDS, Field.AGE_BAND}, id="with-a-disclosure"),
        pytest.param(Kind.INFORMATION, True, set(), id="after-the-release"),
    ],
)
def test_what_is_in_no_envelope_is_not_called_allowed(kind: Kind, accepted: bool, left_out: set[Field]) -> None:
    result = later(kind, accepted=accepted)
    told = frozenset().union(*(forward.fields for forward in result.forwards))
    reasons = {reason.field: reason for reason in result.reasons}
    assert {field for field, reason in reasons.items() if reason.outcome == "allowed"} == told
    assert {field for field, reason in reasons.items() if reason.code == "not-now"} == left_out
    assert all(reasons[field].outcome == "withheld" for field in left_out)


def test_a_later_word_on_a_repatriation_need_not_repeat_her_wish() -> None:
    result = later(
        accepted=True,
        receiver=EMBASSY,
        service=ServiceType.REPATRIATION,
        consent=consent(line(EMBASSY)),
        content=content(Field.LANGUAGE),
    )
    assert len(result.forwards) == 1


def test_what_is_held_may_still_go() -> None:
    result = still_allowed(
        HELPLINE,
        SHELTER,
        ServiceType.SAFE_ACCOMMODATION,
        [Field.PREFERRED_NAME],
        shipped(),
        consent(),
        AT,
    )
    assert isinstance(result, Allowed)
    assert result.consent.fields == {Field.PREFERRED_NAME}
    assert result.rule.id == "shelter-placement"


def test_a_police_officer_is_not_a_shelter() -> None:
    kinds = member("harbour-shelter", kind=AgencyKind.POLICE)
    result = clear(request(receiver=kinds))
    assert isinstance(result, Refused)
