"""What the gate refuses as a whole: then nothing is made."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from support.contract_files import load, shipped, small, unchecked
from support.referrals import (
    AT,
    EMBASSY,
    HELPLINE,
    LABOUR,
    LAWYER,
    POLICE,
    SHELTER,
    consent,
    content,
    line,
    member,
    request,
)

from consent.lifecycle import withdraw
from contracts.rule import CrossBorder
from contracts.vocabulary import AgencyKind, Basis, Field, Group, ServiceType, Stage, WithdrawalForm, groups_of
from exchange.disclosure import (
    Allowed,
    Cleared,
    ClearedLater,
    DisclosureRequest,
    Refused,
    clear,
    clear_later,
    still_allowed,
)
from exchange.disclosure_conditions import border_refuses
from exchange.disclosure_groups import GroupsQuestion, groups_allowed
from exchange.envelope.kinds import Kind
from exchange.roster import Member, Status

HOME_READY = content(Field.NEEDS, Field.RETURN_VOLUNTARY, Field.SAFE_RETURN_ASSESSED, needs=["ticket"])
GO_HOME = {"receiver": EMBASSY, "service": ServiceType.REPATRIATION, "consent": consent(line(EMBASSY))}
ABROAD = member("bangkok-shelter", country="TH")
TO_EMBASSIES = load(
    small(
        "to: [shelter]\n    service_types: [safe-accommodation]", "to: [embassy]\n    service_types: [travel-documents]"
    ).replace(b"named: [medication_or_mental_health_support]", b"named: [nationality]")
)
EMBASSY_OF_ANOTHER = member("id-embassy", kind="embassy", service_types=["travel-documents"])
EMBASSY_ABROAD = member("my-embassy", kind="embassy", represents="MY", country="TH",
                        service_types=["travel-documents"])  # fmt: skip
CHILD_CONSENT = consent(basis="own-consent-minor", age_band="15-17", statement_id="young-person-consent")
NAMED_STATUS = consent(
    line(LABOUR), line(LABOUR, groups=[], fields=["immigration_status"]), line(LAWYER, fields=["immigration_status"])
)


def telling(**changes: Any) -> Member:
    """The shelter, of which the roster says something else than she was told."""
    return SHELTER.model_copy(update={"told_first": SHELTER.told_first.model_copy(update=changes)})


REFUSED = [
    pytest.param({"receiver": member(synthetic=False)}, "synthetic-mixed", id="synthetic-to-real"),
    pytest.param({"sender": member("orchid-helpline", kind=AgencyKind.HELPLINE, synthetic=False)}, "synthetic-mixed",
                 id="real-to-synthetic"),
    pytest.param({"sender": SHELTER}, "same-agency", id="to-itself"),
    pytest.param({"sender": member("orchid-helpline", kind="helpline", status="suspended")}, "sender-not-active",
                 id="suspended-sender"),
    pytest.param({"receiver": member(status="suspended")}, "receiver-not-active", id="suspended-receiver"),
    pytest.param({"receiver": member(status="left")}, "receiver-not-active", id="receiver-that-left"),
    pytest.param({"service": ServiceType.PEER_SUPPORT, "receiver": member(service_types=["peer-support"])},
                 "not-referable", id="peer-support"),
    pytest.param({"service": ServiceType.LEGAL_AID}, "service-not-offered", id="service-it-does-not-offer"),
    pytest.param({"content": content(needs=["ticket"])}, "need-of-another-service", id="need-of-another-service"),
    pytest.param({"content": content(service_type="legal-aid")}, "service-mismatch", id="two-services"),
    pytest.param(GO_HOME | {"content": content(avoid_own_authorities={"country": "ID"})}, "own-authorities",
                 id="her-own-embassy"),
    pytest.param({"receiver": POLICE, "service": ServiceType.POLICE_PROTECTION, "consent": consent(line(POLICE)),
                  "content": content(avoid_own_authorities={"country": "MY"})}, "own-authorities",
                 id="her-own-police"),
    pytest.param(GO_HOME | {"content": content(Field.SAFE_RETURN_ASSESSED)}, "return-not-voluntary",
                 id="wish-to-return-not-stated"),
    pytest.param(GO_HOME | {"content": content(Field.SAFE_RETURN_ASSESSED, return_voluntary=False)},
                 "return-not-voluntary", id="does-not-want-to-return"),
    pytest.param(GO_HOME | {"content": content(Field.RETURN_VOLUNTARY)}, "return-not-assessed",
                 id="return-not-assessed"),
    pytest.param(GO_HOME | {"content": content(Field.RETURN_VOLUNTARY, safe_return_assessed=False)},
                 "return-not-assessed", id="return-not-safe"),
    pytest.param({"content": content(Field.NEEDS, narrative="x")}, "never", id="narrative"),
    pytest.param({"content": content(Field.NEEDS, narrative="x"), "consent": None}, "never",
                 id="narrative-without-consent"),
    pytest.param({"content": content(immigration_status="expired")}, "never", id="status-to-a-shelter"),
    pytest.param({"receiver": LABOUR, "service": ServiceType.WAGE_CLAIM, "consent": NAMED_STATUS,
                  "content": content(needs=["unpaid-wages"], immigration_status="expired")}, "never",
                 id="status-to-the-labour-office-although-she-named-it"),
    pytest.param({"content": content(perpetrator_identity="x")}, "never", id="perpetrator-to-a-shelter"),
    pytest.param({"receiver": member("border-office", kind="immigration")}, "never", id="anything-to-immigration"),
    pytest.param({"receiver": member("border-office", kind="immigration"), "content": content()}, "no-rule",
                 id="nothing-to-immigration-is-still-no-rule"),
    pytest.param({"contract": load(small()), "sender": LAWYER, "content": content(Field.NEEDS)}, "no-rule",
                 id="no-rule"),
    pytest.param({"at": AT + timedelta(days=800)}, "contract-expired", id="contract-ended"),
    pytest.param({"contract": load(small()), "consent": CHILD_CONSENT, "content": content(Field.NEEDS)},
                 "basis-not-allowed", id="basis-the-rule-does-not-accept"),
    pytest.param({"consent": None}, "no-consent", id="no-consent"),
    pytest.param({"consent": withdraw(consent(), form=WithdrawalForm.STOP_SHARING, at=AT)}, "consent-withdrawn",
                 id="withdrawn"),
    pytest.param({"at": AT + timedelta(days=91)}, "consent-expired", id="consent-ended"),
    pytest.param({"at": AT - timedelta(days=1)}, "consent-not-given", id="before-she-said-yes"),
    pytest.param({"consent": consent(line(LAWYER))}, "recipient-not-covered", id="consent-for-another-agency"),
    pytest.param({"consent": consent(line(purposes=["provide-legal-aid"]))}, "purpose-not-covered",
                 id="consent-for-another-purpose"),
    pytest.param({"consent": consent(line(groups=["place"]))}, "no-field-allowed", id="none-of-the-fields"),
    pytest.param(GO_HOME | {"content": HOME_READY, "consent": consent(line(agencies=[], countries=["ID", "MY"]))},
                 "authority-not-named", id="embassy-by-country-only"),
    pytest.param(GO_HOME | {"content": HOME_READY, "consent": consent(line(EMBASSY), told_first=[])},
                 "not-told-first", id="embassy-without-telling-her-first"),
    pytest.param({"receiver": telling(reports_to=("the police",))}, "not-told-first", id="it-reports-to-others-now"),
    pytest.param({"receiver": telling(requires_documents=True)}, "not-told-first", id="it-asks-for-papers-now"),
    pytest.param({"receiver": POLICE, "service": ServiceType.POLICE_PROTECTION, "content": content(needs=["escort"]),
                  "consent": consent(line(POLICE, agencies=[], countries=["MY"]))}, "authority-not-named",
                 id="police-by-country-only"),
    pytest.param({"receiver": LABOUR, "service": ServiceType.WAGE_CLAIM, "content": content(needs=["unpaid-wages"]),
                  "consent": consent(line(LABOUR, agencies=[], countries=["MY"]))}, "authority-not-named",
                 id="labour-office-by-country-only"),
    pytest.param({"receiver": ABROAD, "consent": consent(line(agencies=[], kinds=["shelter"]))}, "border-not-named",
                 id="across-a-border-by-kind-only"),
    pytest.param({"receiver": member("thai-police", kind="police", country="TH", service_types=["police-protection"]),
                  "service": ServiceType.POLICE_PROTECTION, "content": content(needs=["escort"]),
                  "consent": consent(line(agencies=["thai-police"]))}, "border-forbidden",
                 id="police-of-another-country"),
    pytest.param({"contract": load(small()), "receiver": ABROAD, "consent": consent(line(ABROAD)),
                  "content": content(Field.NEEDS)}, "border-forbidden", id="a-rule-that-stays-at-home"),
    pytest.param({"contract": TO_EMBASSIES, "receiver": EMBASSY_OF_ANOTHER, "service": ServiceType.TRAVEL_DOCUMENTS,
                  "consent": consent(line(EMBASSY_OF_ANOTHER)), "content": content(Field.LANGUAGE)},
                 "border-forbidden", id="another-countrys-embassy-by-a-rule-that-stays-at-home"),
    pytest.param({"contract": TO_EMBASSIES, "receiver": EMBASSY_ABROAD, "service": ServiceType.TRAVEL_DOCUMENTS,
                  "consent": consent(line(EMBASSY_ABROAD)), "content": content(Field.LANGUAGE)},
                 "border-forbidden", id="an-embassy-of-this-country-abroad-by-a-rule-that-stays-at-home"),
    pytest.param({"contract": load(small("cross_border: forbidden", "cross_border: allowed")), "receiver": ABROAD,
                  "consent": consent(line(agencies=[], kinds=["shelter"])), "content": content(Field.NEEDS)},
                 "border-not-named", id="across-a-border-by-kind-only-where-the-rule-does-not-ask"),
    pytest.param({"content": content(Field.NEEDS, age_band="15-17")}, "age-mismatch", id="another-age-than-consent"),
    pytest.param({"content": content(Field.NEEDS, is_minor=True)}, "age-mismatch", id="a-minor-with-adult-consent"),
    pytest.param({"content": content(Field.NEEDS, age_band="25-49"), "consent": CHILD_CONSENT}, "age-mismatch",
                 id="an-adult-with-a-childs-consent"),
    pytest.param({"content": content(Field.NEEDS, caregiver={"relationship": "other", "informed": True})},
                 "caregiver-of-adult", id="a-caregiver-for-an-adult"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code"), REFUSED)
def test_refused(changes: dict[str, Any], code: str) -> None:
    result = clear(request(**changes))
    assert isinstance(result, Refused)
    assert result.code == code
    assert result.sentence
    assert all(reason.outcome != "allowed" for reason in result.reasons)


STATED_ONCE = {"wish-to-return-not-stated", "return-not-assessed"}


@pytest.mark.parametrize(("changes", "code"), [case for case in REFUSED if case.id not in STATED_ONCE])
def test_refused_later_too(changes: dict[str, Any], code: str) -> None:
    result = clear_later(request(**changes), Kind.UPDATE, accepted=True)
    assert isinstance(result, Refused)
    assert result.code == code


@pytest.mark.parametrize(("changes", "code"), REFUSED)
def test_a_refusal_repeats_no_value(changes: dict[str, Any], code: str) -> None:
    result = clear(request(**changes))
    assert isinstance(result, Refused)
    said = " ".join([result.code, result.sentence, repr(result), *(reason.sentence for reason in result.reasons)])
    assert code in said
    assert "Bunga" not in said
    assert "c0c0" not in said


def test_in_order_it_is_cleared() -> None:
    assert isinstance(clear(request()), Cleared)


def test_a_never_names_the_field_and_the_rule() -> None:
    result = clear(request(content=content(Field.NEEDS, immigration_status="expired")))
    assert isinstance(result, Refused)
    verdicts = {reason.field: reason for reason in result.reasons}
    forbidden, withheld = verdicts[Field.IMMIGRATION_STATUS], verdicts[Field.NEEDS]
    assert (forbidden.outcome, forbidden.code) == ("forbidden", "never")
    assert forbidden.rule is not None
    assert forbidden.rule.startswith("never")
    assert (withheld.outcome, withheld.code, withheld.rule) == ("withheld", "refused-with-request", None)


def test_a_field_that_is_never_sent_is_refused_even_where_the_contract_forgot_it() -> None:
    contract = unchecked(never=())
    result = clear(request(contract=contract, content=content(Field.NEEDS, narrative="x")))
    assert isinstance(result, Refused)
    verdicts = {reason.field: (reason.outcome, reason.code) for reason in result.reasons}
    assert verdicts == {Field.NARRATIVE: ("forbidden", "never"), Field.NEEDS: ("withheld", "refused-with-request")}


def test_a_kind_that_does_not_follow_an_offer_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        clear_later(request(), Kind.OFFER, accepted=True)


def test_an_exception_without_consent_is_refused() -> None:
    broken = consent().model_copy(update={"basis": Basis.IMMINENT_THREAT_TO_SELF})
    result = clear(request(consent=broken))
    assert isinstance(result, Refused)


def test_a_rule_that_asks_for_the_country_asks_itself() -> None:
    """Her consent is judged before, and does not let what names no place cross a border either."""
    result = clear(request(receiver=ABROAD, consent=consent(line(ABROAD))))
    assert isinstance(result, Cleared)
    assert result.rule.cross_border is CrossBorder.NAMED_COUNTRY_CONSENT
    assert border_refuses(HELPLINE, ABROAD, result.rule, result.consent) is None
    refusal = border_refuses(HELPLINE, ABROAD, result.rule, result.consent._replace(names_country=False))
    assert refusal is not None
    assert refusal.code == "border-not-named"


STILL = frozenset({Field.PREFERRED_NAME, Field.SAFE_CONTACT})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"receiver": member(status=Status.SUSPENDED)}, "receiver-not-active", id="receiver-suspended"),
        pytest.param({"receiver": member(service_types=["health-care"])}, "service-not-offered", id="service-gone"),
        pytest.param({"consent": None}, "no-consent", id="consent-gone"),
        pytest.param({"consent": withdraw(consent(), form=WithdrawalForm.STOP_SHARING, at=AT)}, "consent-withdrawn",
                     id="consent-withdrawn"),
        pytest.param({"consent": consent(line(groups=["name"]))}, "not-covered", id="partly-withdrawn"),
        pytest.param({"contract": load(small("safe_contact]", "arrival_words]"))}, "not-listed",
                     id="field-no-longer-listed"),
        pytest.param({"contract": load(small("helpline, police]", "police]"))}, "no-rule", id="rule-gone"),
        pytest.param({"fields": STILL | {Field.NARRATIVE}}, "never", id="never"),
        pytest.param({"at": AT + timedelta(days=91)}, "consent-expired", id="consent-ended"),
    ],
)  # fmt: skip
def test_what_is_held_is_not_released(changes: dict[str, Any], code: str) -> None:
    usual: dict[str, Any] = {
        "sender": HELPLINE,
        "receiver": SHELTER,
        "service": ServiceType.SAFE_ACCOMMODATION,
        "fields": STILL,
        "contract": shipped(),
        "consent": consent(),
        "at": AT,
    }
    assert not isinstance(still_allowed(**usual), Refused)
    result = still_allowed(**(usual | changes))
    assert isinstance(result, Refused)
    assert result.code == code


def test_what_she_was_told_beyond_what_the_roster_says_now_refuses_nothing() -> None:
    told = {"agency": SHELTER.agency, "freedom_of_movement": "Always.", "reports_to": ["x"], "requires_documents": True}
    assert isinstance(clear(request(consent=consent(told_first=[told]))), Cleared)


UNTOLD = pytest.mark.parametrize(
    "changed", [{"reports_to": ("the police",)}, {"requires_documents": True}], ids=["it-reports", "it-asks-for-papers"]
)


@UNTOLD
@pytest.mark.parametrize("kind", [Kind.UPDATE, Kind.INFORMATION])
def test_where_she_was_not_told_a_changed_plan_goes_all_the_same(kind: Kind, changed: dict[str, Any]) -> None:
    """It may say that nobody may call her any more."""
    asked = request(receiver=telling(**changed), content=content(Field.SAFE_CONTACT))
    result = clear_later(asked, kind, accepted=True)
    assert isinstance(result, ClearedLater)
    assert [forward.groups for forward in result.forwards] == [{Group.CONTACT}]
    assert isinstance(groups_allowed(_groups(asked, kind, {Group.CONTACT})), Allowed)


@UNTOLD
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.INFORMATION, {Field.SAFE_CONTACT, Field.PREFERRED_NAME}),
        (Kind.INFORMATION, {Field.PREFERRED_NAME}),
        (Kind.UPDATE, {Field.SAFE_CONTACT, Field.NEEDS}),
        (Kind.DISCLOSURE, {Field.SAFE_CONTACT}),
    ],
    ids=["beside-her-name", "her-name", "beside-her-needs", "a-disclosure"],
)
def test_where_she_was_not_told_nothing_but_a_plan_goes(
    kind: Kind, fields: set[Field], changed: dict[str, Any]
) -> None:
    asked = request(receiver=telling(**changed), content=content(*fields))
    for answer in (
        clear_later(asked, kind, accepted=True),
        groups_allowed(_groups(asked, kind, groups_of(frozenset(fields)))),
    ):
        assert isinstance(answer, Refused)
        assert answer.code == "not-told-first"


def _groups(asked: DisclosureRequest, kind: Kind, groups: Iterable[Group]) -> GroupsQuestion:
    return GroupsQuestion(
        asked.sender, asked.receiver, asked.service, Stage.DISCLOSURE, frozenset(groups),
        asked.contract, asked.consent, asked.at, kind,
    )  # fmt: skip
