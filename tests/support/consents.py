"""Synthetic consents for tests: one valid draft, and ways to change one thing about it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from consent.decision import ConsentQuestion
from consent.lifecycle import record_consent
from consent.record import ConsentDraft, ConsentRecord, Provision, ToldAbout
from consent.statements import StatementLibrary
from contracts.vocabulary import AgencyKind, Basis, Field, Group, Purpose

NOW = datetime(2026, 11, 23, 2, 11, tzinfo=UTC)
CONSENT_ID = "c0" * 16
SUBJECT = "5b" * 16
STATEMENTS = StatementLibrary.load()
PLACEMENT = Purpose.PROVIDE_SAFE_ACCOMMODATION

SHELTER_LINE = Provision(
    groups=frozenset({Group.NEED, Group.NAME, Group.CONTACT}),
    agencies=frozenset({"harbour-shelter"}),
    purposes=frozenset({PLACEMENT}),
)
POLICE_TOLD = ToldAbout(
    agency="kl-police",
    reports_to=("the public prosecutor",),
    freedom_of_movement="She may leave at any time.",
    requires_documents=True,
)

DETERMINATION = {
    "reason": "caregiver-unsafe",
    "decided_by": "duty-supervisor",
    "decided_at": NOW - timedelta(hours=1),
}
STATEMENT_FOR = {
    Basis.CONSENT: "adult-consent",
    Basis.SUPPORTED_DECISION: "adult-supported-decision",
    Basis.OWN_CONSENT_MINOR: "young-person-consent",
    Basis.CAREGIVER: "caregiver-consent",
    Basis.CAREGIVER_AND_ASSENT: "caregiver-and-child",
    Basis.TRUSTED_ADULT_BEST_INTEREST: "best-interest",
    Basis.CASEWORKER_BEST_INTEREST: "best-interest",
}
COMPANIONS: dict[Basis, dict[str, Any]] = {
    Basis.SUPPORTED_DECISION: {"supporter": "disability-advocate"},
    Basis.CAREGIVER_AND_ASSENT: {"child_assents": True},
    Basis.TRUSTED_ADULT_BEST_INTEREST: {"determination": DETERMINATION | {"trusted_adult": "aunt"}},
    Basis.CASEWORKER_BEST_INTEREST: {"determination": DETERMINATION},
}


def draft(**changes: Any) -> ConsentDraft:
    """A valid draft of an adult, with what the test changes."""
    members: dict[str, Any] = {
        "basis": "consent",
        "age_band": "25-49",
        "provisions": [SHELTER_LINE],
        "given_how": "verbal",
        "language": "en",
        "statement_id": "adult-consent",
        "limits_explained_at": NOW - timedelta(minutes=5),
    }
    return ConsentDraft.model_validate(members | changes)


def recorded(at: datetime = NOW, **changes: Any) -> ConsentRecord:
    """The record that the draft becomes."""
    return record_consent(draft(**changes), consent_id=CONSENT_ID, subject=SUBJECT, at=at, statements=STATEMENTS)


def for_basis(basis: Basis, **changes: Any) -> dict[str, Any]:
    """What a draft on this basis says, with all that has to stand beside it."""
    return {"basis": basis, "statement_id": STATEMENT_FOR[basis], **COMPANIONS.get(basis, {}), **changes}


def question(**changes: Any) -> ConsentQuestion:
    """May the shelter in the same country have her name and her needs?"""
    members: dict[str, Any] = {
        "agency": "harbour-shelter",
        "kind": AgencyKind.SHELTER,
        "country": "MY",
        "sender_country": "MY",
        "represents": None,
        "purpose": PLACEMENT,
        "fields": frozenset({Field.PREFERRED_NAME, Field.NEEDS, Field.PRIORITY}),
    }
    return ConsentQuestion(**(members | changes))
