"""Synthetic agencies, contents and requests for tests of the gate."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from support.contract_files import shipped

from consent.lifecycle import record_consent
from consent.record import ConsentDraft, ConsentRecord
from consent.statements import StatementLibrary
from contracts.vocabulary import FIELD_SPECS, AgencyKind, Field, Group, Purpose, ServiceType, Stage
from exchange.disclosure import DisclosureRequest
from exchange.referral.content import ReferralContent
from exchange.roster import Member

AT: Final = datetime(2026, 11, 23, 2, 11, tzinfo=UTC)
STATEMENTS: Final = StatementLibrary.load()
_TOLD: Final = {"reports_to": [], "freedom_of_movement": "She may leave at any time.", "requires_documents": False}

VALUES: Final[dict[Field, Any]] = {
    Field.NEEDS: ["tonight"],
    Field.SERVICES_PROVIDED: ["psychosocial-support"],
    Field.EXPECTED_STAY: "days",
    Field.ARRIVAL_WINDOW: {"earliest": "2026-11-23T12:00:00Z", "latest": "2026-11-23T15:00:00Z"},
    Field.TRANSPORT_NEEDED: True,
    Field.AGE_BAND: "25-49",
    Field.IS_MINOR: False,
    Field.GENDER: "woman",
    Field.ACCESSIBILITY: ["step-free"],
    Field.PARTY: {"adults": 1},
    Field.LANGUAGE: "id",
    Field.INTERPRETER: {"needed": True},
    Field.CONFLICT_CHECK: ["linked-to-employer"],
    Field.AREA: "MY-14",
    Field.COUNTRY_OF_WORK: "MY",
    Field.CARE_WINDOW: "under-72h",
    Field.IMMEDIATE_MEDICAL: True,
    Field.MEDICATION_OR_MENTAL_HEALTH_SUPPORT: True,
    Field.SAFETY_FLAGS: ["perpetrator-nearby"],
    Field.RELATIONSHIP: "employer",
    Field.PREFERRED_NAME: "Bunga",
    Field.ARRIVAL_WORDS: "paper lantern",
    Field.LEGAL_NAME: "Example Person",
    Field.DATE_OF_BIRTH: "1990-01-31",
    Field.SAFE_CONTACT: {"who_initiates": "survivor"},
    Field.CURRENT_LOCATION: "Example Hospital",
    Field.MEETING_POINT: "Example Station",
    Field.NATIONALITY: "ID",
    Field.PASSPORT_NUMBER: "X0000000",
    Field.PERMIT_NUMBER: "PLKS-000000",
    Field.EMPLOYER_NAME: "Example Household",
    Field.WAGE_DETAILS: {"currency": "MYR", "unpaid_months": 4},
    Field.HEALTH_FACTS: "asthma",
    Field.POLICE_STATEMENT: "Example statement.",
    Field.RETURN_VOLUNTARY: True,
    Field.SAFE_RETURN_ASSESSED: True,
}
"""One value for every field about an adult that some contract could let flow to somebody."""
IDENTIFYING: Final = frozenset(
    field for field, spec in FIELD_SPECS.items() if spec.sensitivity in {"C3", "C5"} or spec.stage is not Stage.OFFER
)


def member(agency: str = "harbour-shelter", **changes: Any) -> Member:
    """A synthetic member; its keys follow from its id."""
    kind = changes.get("kind", AgencyKind.SHELTER)
    members: dict[str, Any] = {
        "agency": agency,
        "name": agency.replace("-", " ").title(),
        "kind": kind,
        "country": "MY",
        "represents": "ID" if kind == AgencyKind.EMBASSY else None,
        "service_types": [ServiceType.SAFE_ACCOMMODATION],
        "node_url": f"https://{agency}.example",
        "agency_key": sha256(f"{agency} agency".encode()).digest(),
        "node_key": sha256(f"{agency} node".encode()).digest(),
        "duty_contact": "+60 3 0000 0000",
        "breach_contact": "breach@example.org",
        "told_first": _TOLD,
        "synthetic": True,
    }
    return Member.model_validate(members | changes)


HELPLINE: Final = member("orchid-helpline", kind=AgencyKind.HELPLINE)
SHELTER: Final = member()
EMBASSY: Final = member(
    "id-embassy", kind=AgencyKind.EMBASSY, service_types=[ServiceType.REPATRIATION, ServiceType.TRAVEL_DOCUMENTS]
)
POLICE: Final = member("kl-police", kind=AgencyKind.POLICE, service_types=[ServiceType.POLICE_PROTECTION])
LABOUR: Final = member("kl-labour", kind=AgencyKind.LABOUR_OFFICE, service_types=[ServiceType.WAGE_CLAIM])
LAWYER: Final = member("free-lawyers", kind=AgencyKind.LEGAL_AID, service_types=[ServiceType.LEGAL_AID])


def content(*fields: Field, **members: Any) -> ReferralContent:
    """A content with these fields at their usual value, and these members as they are given."""
    return ReferralContent.model_validate({field.value: VALUES[field] for field in fields} | members)


def line(receiver: Member = SHELTER, **changes: Any) -> dict[str, Any]:
    """A provision by which everything but fields to be named goes to this agency for all it does."""
    usual = {
        "groups": sorted(Group),
        "agencies": [receiver.agency],
        "purposes": [purpose for purpose in Purpose if purpose is not Purpose.STATISTICS],
        "feedback": "outcome",
    }
    return usual | changes


def consent(*lines: dict[str, Any], at: datetime = AT, **changes: Any) -> ConsentRecord:
    """A recorded consent of an adult, told first about every agency she named."""
    lines = lines or (line(),)
    named = sorted({agency for one in lines for agency in one["agencies"]})
    members: dict[str, Any] = {
        "basis": "consent",
        "age_band": "25-49",
        "provisions": lines,
        "given_how": "verbal",
        "language": "en",
        "statement_id": "adult-consent",
        "limits_explained_at": at - timedelta(minutes=5),
        "told_first": [{"agency": agency} | _TOLD for agency in named],
    }
    draft = ConsentDraft.model_validate(members | changes)
    return record_consent(draft, consent_id="c0" * 16, subject="5b" * 16, at=at, statements=STATEMENTS)


def request(**changes: Any) -> DisclosureRequest:
    """The helpline asks the shelter; everything in order."""
    members: dict[str, Any] = {
        "sender": HELPLINE,
        "receiver": SHELTER,
        "service": ServiceType.SAFE_ACCOMMODATION,
        "content": content(Field.NEEDS, Field.AGE_BAND, Field.PREFERRED_NAME, Field.SAFE_CONTACT),
        "contract": shipped(),
        "consent": consent(),
        "at": AT,
    }
    return DisclosureRequest(**(members | changes))
