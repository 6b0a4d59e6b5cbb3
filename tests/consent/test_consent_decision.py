"""Who gets what, and with which words the rest is refused."""

from datetime import timedelta
from typing import Any

import pytest
from support.consents import NOW, PLACEMENT, POLICE_TOLD, SHELTER_LINE, question, recorded

from consent.decision import ConsentDeny, ConsentPermit, decide
from consent.lifecycle import invalidate, narrow, revoke, withdraw
from consent.record import ConsentRecord, Provision
from consent.terms import ConsentState
from contracts.vocabulary import (
    FIELD_SPECS,
    ROUTING_FIELDS,
    AgeBand,
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    Purpose,
    Stage,
    WithdrawalForm,
)

POLICE = {"agency": "kl-police", "kind": AgencyKind.POLICE, "purpose": Purpose.PROVIDE_POLICE_PROTECTION}


def line(**changes: Any) -> Provision:
    return Provision.model_validate(SHELTER_LINE.model_dump() | changes)


def permit(record: ConsentRecord, **changes: Any) -> ConsentPermit:
    answer = decide(record, question(**changes), NOW)
    assert isinstance(answer, ConsentPermit), answer
    return answer


def deny(record: ConsentRecord | None, **changes: Any) -> ConsentDeny:
    answer = decide(record, question(**changes), NOW)
    assert isinstance(answer, ConsentDeny), answer
    assert {verdict.field for verdict in answer.verdicts} == question(**changes).fields
    assert not any(verdict.allowed or verdict.named for verdict in answer.verdicts)
    return answer


@pytest.mark.parametrize(
    ("record", "code"),
    [
        pytest.param(None, "no-consent", id="no-record"),
        pytest.param(withdraw(recorded(), at=NOW), "consent-withdrawn", id="withdrawn"),
        pytest.param(
            withdraw(recorded(), at=NOW, form=WithdrawalForm.ERASE), "consent-withdrawn", id="withdrawn-with-erase"
        ),
        pytest.param(revoke(recorded(), at=NOW), "consent-revoked", id="revoked"),
        pytest.param(invalidate(recorded(), at=NOW), "consent-invalidated", id="invalidated"),
        pytest.param(
            recorded(expires_at=NOW + timedelta(days=1)).model_copy(update={"expires_at": NOW}),
            "consent-expired",
            id="ends-at-this-very-moment",
        ),
        pytest.param(
            recorded().model_copy(update={"state": ConsentState.REQUESTED}), "consent-not-given", id="only-asked"
        ),
        pytest.param(recorded().model_copy(update={"state": ConsentState.REFUSED}), "consent-refused", id="refused"),
        pytest.param(recorded().model_copy(update={"given_at": None}), "consent-not-given", id="no-moment-of-a-yes"),
        pytest.param(
            recorded().model_copy(update={"given_at": NOW + timedelta(seconds=1)}), "consent-not-given", id="not-yet"
        ),
        pytest.param(recorded().model_copy(update={"provisions": ()}), "recipient-not-covered", id="empty-list"),
        pytest.param(
            recorded().model_copy(update={"provisions": (line(agencies=[]),)}),
            "recipient-not-covered",
            id="to-nobody-made-elsewhere",
        ),
        pytest.param(
            recorded().model_copy(update={"basis": Basis.CAREGIVER}),
            "nobody-consents-for-an-adult",
            id="guardian-of-an-adult-made-elsewhere",
        ),
        pytest.param(
            recorded().model_copy(update={"basis": Basis.STATUTE}),
            "exceptions-not-available",
            id="exception-made-elsewhere",
        ),
        pytest.param(
            recorded().model_copy(update={"age_band": AgeBand.FROM_6_11}),
            "basis-not-for-this-age",
            id="child-made-elsewhere",
        ),
        pytest.param(
            recorded().model_copy(update={"limits_explained_at": None}),
            "limits-not-explained",
            id="limits-missing-made-elsewhere",
        ),
        pytest.param(
            recorded().model_copy(update={"limits_explained_at": NOW + timedelta(seconds=1)}),
            "limits-not-explained",
            id="limits-after-her-yes-made-elsewhere",
        ),
    ],
)
def test_nothing_is_allowed(record: ConsentRecord | None, code: str) -> None:
    answer = deny(record)
    assert answer.code == code
    assert {verdict.code for verdict in answer.verdicts} == {code}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"agency": "other-shelter"}, "recipient-not-covered", id="another-agency"),
        pytest.param({"purpose": Purpose.STATISTICS}, "purpose-not-covered", id="another-purpose"),
        pytest.param({"purpose": Purpose.PROVIDE_HEALTH_CARE}, "purpose-not-covered", id="another-service"),
        pytest.param({"country": "XX"}, "country-unknown", id="unknown-country"),
        pytest.param({"represents": "ZZ"}, "country-unknown", id="unknown-country-represented"),
        pytest.param(
            {"country": "XX", "represents": "MY"}, "country-unknown", id="from-an-unknown-country-for-a-known-one"
        ),
        pytest.param({"sender_country": "XX"}, "country-unknown", id="unknown-country-of-the-sender"),
        pytest.param({"kind": AgencyKind.POLICE}, "not-told-first", id="turns-out-to-be-the-police"),
        pytest.param({"fields": frozenset({Field.LEGAL_NAME})}, "no-field-allowed", id="only-what-is-not-covered"),
        pytest.param(
            {"fields": frozenset({Field.NARRATIVE, Field.PRIORITY})}, "no-field-allowed", id="never-beside-routing"
        ),
    ],
)
def test_not_to_them_not_for_this(changes: dict[str, Any], code: str) -> None:
    assert deny(recorded(), **changes).code == code


def test_each_field_has_its_own_answer() -> None:
    record = recorded(provisions=[line(fields=["safety_flags", "legal_name"], groups=["need"])])
    asked = frozenset(
        {Field.NEEDS, Field.SAFETY_FLAGS, Field.LEGAL_NAME, Field.DATE_OF_BIRTH, Field.NARRATIVE, Field.PRIORITY}
    )
    answer = permit(record, fields=asked)
    assert {verdict.field: verdict.code for verdict in answer.verdicts} == {
        Field.NEEDS: "allowed-by-group",
        Field.SAFETY_FLAGS: "allowed-by-name",
        Field.LEGAL_NAME: "allowed-by-name",
        Field.DATE_OF_BIRTH: "not-covered",
        Field.NARRATIVE: "never",
        Field.PRIORITY: "routing",
    }
    assert answer.fields == {Field.NEEDS, Field.SAFETY_FLAGS, Field.LEGAL_NAME, Field.PRIORITY}
    assert answer.named == {Field.SAFETY_FLAGS, Field.LEGAL_NAME}
    assert all(verdict.sentence for verdict in answer.verdicts)


@pytest.mark.parametrize("field", [row.field for row in FIELD_SPECS.values() if row.stage is Stage.NAMED])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([{"groups": ["identity", "health", "employment", "police", "status", "perpetrator"]}], id="group"),
        pytest.param([{"fields": ["FIELD"], "agencies": [], "kinds": ["shelter"]}], id="kind-instead-of-agency"),
        pytest.param([{"fields": ["FIELD"], "agencies": [], "countries": ["MY"]}], id="country-instead-of-agency"),
        pytest.param(
            [{"fields": ["FIELD"], "agencies": ["other-shelter"]}, {"groups": ["need", "identity"]}],
            id="field-and-agency-in-two-provisions",
        ),
        pytest.param(
            [{"fields": ["FIELD"], "purposes": ["statistics"]}, {"groups": ["need"]}], id="named-for-another-purpose"
        ),
        pytest.param(
            [{"fields": ["FIELD"], "agencies": ["other-shelter"], "kinds": ["shelter"]}], id="another-agency-named"
        ),
    ],
)
def test_a_named_field_needs_field_and_agency_in_one_provision(field: Field, lines: list[dict[str, Any]]) -> None:
    provisions = [
        line(**{key: [field.value] if value == ["FIELD"] else value for key, value in one.items()}) for one in lines
    ]
    answer = decide(recorded(provisions=provisions), question(fields=frozenset({field, Field.PRIORITY})), NOW)
    assert isinstance(answer, ConsentDeny)
    allowed = permit(recorded(provisions=[line(fields=[field.value])]), fields=frozenset({field}))
    assert allowed.named == {field}


@pytest.mark.parametrize("field", [Field.SAFETY_FLAGS, Field.SAFE_CONTACT])
def test_some_fields_have_to_be_named_for_the_police_only(field: Field) -> None:
    by_group = line(groups=["safety", "contact"], agencies=["kl-police"], purposes=[POLICE["purpose"]])
    record = recorded(provisions=[by_group], told_first=[POLICE_TOLD])
    refused = deny(record, **POLICE, fields=frozenset({field}))
    assert [verdict.code for verdict in refused.verdicts] == ["not-named"]
    by_name = by_group.model_copy(update={"fields": frozenset({field})})
    assert permit(
        recorded(provisions=[by_name], told_first=[POLICE_TOLD]), **POLICE, fields=frozenset({field})
    ).named == {field}


AUTHORITIES = [AgencyKind.EMBASSY, AgencyKind.POLICE, AgencyKind.LABOUR_OFFICE, AgencyKind.IMMIGRATION]


@pytest.mark.parametrize("kind", AUTHORITIES)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"agencies": [], "kinds": list(AgencyKind)}, id="kind"),
        pytest.param({"agencies": [], "countries": ["MY"]}, id="country"),
        pytest.param({"agencies": [], "kinds": list(AgencyKind), "countries": ["MY"]}, id="kind-and-country"),
        pytest.param({"agencies": ["other-office"]}, id="another-office"),
    ],
)
def test_an_authority_has_to_be_named(kind: AgencyKind, changes: dict[str, Any]) -> None:
    # Recording refuses such a kind already; a record made elsewhere must not get further.
    record = recorded().model_copy(update={"provisions": (line(**changes),)})
    assert deny(record, kind=kind).code == "authority-not-named"


@pytest.mark.parametrize("kind", AUTHORITIES)
def test_an_authority_needs_that_she_was_told_first(kind: AgencyKind) -> None:
    told = POLICE_TOLD.model_copy(update={"agency": "harbour-shelter"})
    assert deny(recorded(), kind=kind).code == "not-told-first"
    assert deny(recorded(told_first=[POLICE_TOLD]), kind=kind).code == "not-told-first"
    assert permit(recorded(told_first=[told]), kind=kind).agency == "harbour-shelter"


@pytest.mark.parametrize(
    ("changes", "asked", "code"),
    [
        pytest.param({"agencies": [], "kinds": ["shelter"]}, {"country": "PH"}, "border-not-named", id="kind-abroad"),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"], "countries": ["TH"]},
            {"country": "PH"},
            "recipient-not-covered",
            id="another-country",
        ),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"], "countries": ["MY"]},
            {"represents": "PH"},
            "border-not-named",
            id="acts-for-another-country",
        ),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"]},
            {"country": "PH", "represents": "MY"},
            "border-not-named",
            id="sits-abroad-and-acts-for-this-country",
        ),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"], "countries": ["PH"]},
            {"country": "PH", "represents": "SG"},
            "border-not-named",
            id="one-of-two-foreign-countries",
        ),
        pytest.param(
            {"countries": ["PH"]},
            {"agency": "manila-shelter", "country": "PH"},
            "recipient-not-covered",
            id="country-beside-an-agency-does-not-widen",
        ),
        pytest.param(
            {"agencies": [], "kinds": ["health"], "countries": ["PH"]},
            {"country": "PH"},
            "recipient-not-covered",
            id="country-beside-a-kind-does-not-widen",
        ),
    ],
)
def test_a_border_is_not_crossed(changes: dict[str, Any], asked: dict[str, Any], code: str) -> None:
    assert deny(recorded(provisions=[line(**changes)]), **asked).code == code


@pytest.mark.parametrize(
    ("changes", "asked", "names_country"),
    [
        pytest.param({}, {"country": "PH"}, True, id="named-agency"),
        pytest.param({"countries": ["TH"]}, {"country": "PH"}, True, id="named-agency-whatever-the-countries"),
        pytest.param({"agencies": [], "countries": ["PH"]}, {"country": "PH"}, True, id="named-country"),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"], "countries": ["PH"]},
            {"country": "PH"},
            True,
            id="kind-in-a-named-country",
        ),
        pytest.param(
            {"agencies": [], "kinds": ["shelter"], "countries": ["MY", "PH"]},
            {"represents": "PH"},
            True,
            id="both-countries",
        ),
        pytest.param({"agencies": [], "kinds": ["shelter"]}, {}, False, id="kind-at-home"),
        pytest.param({"agencies": [], "kinds": ["shelter"], "countries": ["MY"]}, {}, True, id="kind-in-this-country"),
    ],
)
def test_a_recipient_is_covered(changes: dict[str, Any], asked: dict[str, Any], names_country: bool) -> None:
    answer = permit(recorded(provisions=[line(**changes)]), **asked)
    assert answer.names_country is names_country
    assert answer.fields == {Field.PREFERRED_NAME, Field.NEEDS, Field.PRIORITY}


@pytest.mark.parametrize(
    ("narrower", "asked", "told"),
    [
        pytest.param({"kinds": ["shelter"]}, {"country": "PH"}, [], id="a-kind-beside-a-named-agency-abroad"),
        pytest.param(
            {"countries": ["MY"]},
            {"kind": AgencyKind.POLICE},
            [POLICE_TOLD.model_copy(update={"agency": "harbour-shelter"})],
            id="a-country-beside-a-named-authority",
        ),
    ],
)
def test_a_line_that_reaches_the_recipient_lifts_no_other(
    narrower: dict[str, Any], asked: dict[str, Any], told: list[Any]
) -> None:
    lines = [line(groups=["need"]), line(groups=["name"], agencies=[], **narrower)]
    answer = permit(recorded(provisions=lines, told_first=told), **asked)
    assert answer.fields == {Field.NEEDS, Field.PRIORITY}


def test_a_field_on_a_line_for_a_kind_is_allowed_without_its_group_and_is_not_named() -> None:
    record = recorded(provisions=[line(agencies=[], kinds=["shelter"], groups=[], fields=["preferred_name"])])
    answer = permit(record)
    assert (answer.fields, answer.named) == ({Field.PREFERRED_NAME, Field.PRIORITY}, frozenset())


def test_one_line_that_names_no_place_is_enough_for_the_place_not_to_be_named() -> None:
    lines = [line(groups=["need"]), line(groups=["name"], agencies=[], kinds=["shelter"])]
    assert permit(recorded(provisions=lines)).names_country is False
    assert permit(recorded(provisions=lines), fields=frozenset({Field.NEEDS})).names_country is True


def test_the_limits_may_be_explained_in_the_moment_of_her_yes() -> None:
    assert permit(recorded(limits_explained_at=NOW)).agency == "harbour-shelter"


def test_the_permit_says_what_it_rests_on() -> None:
    record = recorded(provisions=[line(feedback="outcome", groups=["need"]), line(groups=["name"])])
    answer = permit(record)
    assert answer.consent_id == record.id
    assert answer.version == 1
    assert answer.basis is Basis.CONSENT
    assert answer.feedback is Feedback.OUTCOME
    assert answer.expires_at == record.expires_at
    assert answer.purpose is PLACEMENT
    places = {verdict.field: verdict.provision for verdict in answer.verdicts}
    assert places == {Field.NEEDS: 0, Field.PREFERRED_NAME: 1, Field.PRIORITY: None}


def test_feedback_is_the_decision_only_unless_she_said_more() -> None:
    assert permit(recorded()).feedback is Feedback.DECISION


@pytest.mark.parametrize("feedback", ["status", "outcome"])
def test_feedback_of_another_agency_does_not_count(feedback: str) -> None:
    other = line(agencies=["other-shelter"], feedback=feedback)
    assert permit(recorded(provisions=[line(), other])).feedback is Feedback.DECISION


def test_routing_fields_need_no_consent_of_their_own() -> None:
    answer = permit(recorded(), fields=ROUTING_FIELDS)
    assert answer.fields == ROUTING_FIELDS
    assert answer.named == frozenset()


def test_after_narrowing_the_rest_stays() -> None:
    narrowed = narrow(recorded(), [line(groups=[Group.NEED.value])], at=NOW)
    answer = permit(narrowed)
    assert answer.fields == {Field.NEEDS, Field.PRIORITY}
    assert answer.version == 2
