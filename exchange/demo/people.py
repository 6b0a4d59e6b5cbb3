"""The five invented women of the demo, and what each of them allowed. Nobody here exists.

Names are Indonesian and Malay words for "example" and flowers; numbers begin with zeros; places do not exist.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER, AgencyPlan
from exchange.schemas.consents import ConsentRequest
from exchange.schemas.referrals import ReferralRequest

ZONE: Final = "Asia/Kuala_Lumpur"
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class Person:
    """One invented woman: where she is referred to, what she allowed, what the caseworker wrote."""

    receiver: AgencyPlan
    service_type: str
    provisions: tuple[dict[str, Any], ...]
    content: dict[str, Any]
    priority: str = "urgent"

    def consent(self, at: datetime) -> ConsentRequest:
        """Her consent, given now, after the limits were explained to her."""
        told = self.receiver.told_first
        request = {
            "basis": "consent",
            "age_band": self.content.get("age_band", "25-49"),
            "provisions": self.provisions,
            "given_how": "verbal",
            "language": "en",
            "statement_id": "adult-consent",
            "interpreted_into": "id",
            "interpreter_role": "trained-interpreter",
            "limits_explained_at": _moment(at - timedelta(minutes=5)),
            "told_first": [{"agency": self.receiver.agency, **told.model_dump(mode="json")}],
        }
        return ConsentRequest.model_validate_json(json.dumps(request))

    def referral(self, consent: str) -> ReferralRequest:
        """What the caseworker hands in: everything she would like to say. The gate decides what may go."""
        request = {
            "to": self.receiver.agency,
            "consent": consent,
            "service_type": self.service_type,
            "priority": self.priority,
            "content": self.content,
        }
        return ReferralRequest.model_validate_json(json.dumps(request))


def placement_provisions(feedback: str = "status") -> tuple[dict[str, Any], ...]:
    """She allows her needs to any shelter, her name and how to reach her to this one."""
    purposes = ["provide-safe-accommodation"]
    return (
        {"groups": ["need", "safety"], "kinds": ["shelter"], "purposes": purposes, "feedback": feedback},
        {
            "groups": ["name", "contact", "place"],
            "agencies": [SHELTER.agency],
            "purposes": purposes,
            "feedback": feedback,
        },
    )


def melati(at: datetime) -> Person:
    """Story 1: with a daughter, a telephone that is hers at some hours, and an employer nearby."""
    today = at.astimezone(UTC) + timedelta(hours=8)
    return Person(
        receiver=SHELTER,
        service_type="safe-accommodation",
        provisions=placement_provisions(),
        content={
            "needs": ["tonight", "women-only", "with-children"],
            "age_band": "25-49",
            "language": "id",
            "party": {
                "adults": 1,
                "dependants": [{"age_band": "6-11", "sex": "female"}],
                "infant_or_pregnant": False,
            },
            "area": "MY-14",
            "safety_flags": ["documents-withheld", "perpetrator-nearby"],
            "preferred_name": "Melati Contoh",
            "arrival_words": "paper lantern",
            "meeting_point": "Example Station, north entrance",
            "safe_contact": {
                "who_initiates": "agency",
                "channels": [{"channel": "phone-call", "address": "+00 12 000 0000", "safe": True}],
                "safe_times": [
                    {"weekday": _DAYS[today.weekday()], "from": "00:00", "to": "24:00", "time_zone": ZONE},
                    {"weekday": _DAYS[(today.weekday() + 1) % 7], "from": "00:00", "to": "24:00", "time_zone": ZONE},
                ],
                "say_if_other_answers": "Wrong number, sorry.",
                "last_confirmed_at": _moment(at - timedelta(minutes=10)),
            },
            "relationship": "employer-household",
            "nationality": "ID",
        },
    )


def seruni(_: datetime) -> Person:
    """Story 2: needs a passport, and agrees that this one embassy may know who she is, if it helps."""
    purposes = ["provide-travel-documents"]
    return Person(
        receiver=EMBASSY,
        service_type="travel-documents",
        provisions=(
            {"groups": ["need"], "agencies": [EMBASSY.agency], "purposes": purposes},
            {
                "groups": ["name", "contact"],
                "fields": ["legal_name", "passport_number"],
                "agencies": [EMBASSY.agency],
                "purposes": purposes,
            },
        ),
        content={
            "needs": ["lost"],
            "language": "id",
            "area": "MY-10",
            "preferred_name": "Seruni Contoh",
            "legal_name": "Seruni Contoh Binti Contoh",
            "passport_number": "X0000000",
            "safe_contact": {"who_initiates": "survivor"},
        },
        priority="routine",
    )


def anggrek(_: datetime) -> Person:
    """Story 3: wants her wages. The caseworker also typed in her immigration status, and she even agreed to that."""
    purposes = ["provide-wage-claim"]
    return Person(
        receiver=LABOUR_OFFICE,
        service_type="wage-claim",
        provisions=(
            {
                "groups": ["need", "name", "contact"],
                "fields": ["employer_name", "wage_details", "immigration_status"],
                "agencies": [LABOUR_OFFICE.agency],
                "purposes": purposes,
            },
        ),
        content={
            "needs": ["unpaid-wages"],
            "language": "id",
            "country_of_work": "MY",
            "preferred_name": "Anggrek Contoh",
            "employer_name": "Example Household",
            "wage_details": {"currency": "MYR", "monthly_wage": 1500, "unpaid_months": 4},
            "immigration_status": "expired",
            "safe_contact": {"who_initiates": "survivor"},
        },
        priority="routine",
    )


def kenanga(at: datetime) -> Person:
    """Story 4: goes to the shelter, and then wants that nobody holds anything about her."""
    return Person(
        receiver=SHELTER,
        service_type="safe-accommodation",
        provisions=placement_provisions(),
        content={
            "needs": ["days", "women-only"],
            "age_band": "18-24",
            "language": "jv",
            "preferred_name": "Kenanga Contoh",
            "arrival_words": "silver river",
            "meeting_point": "Example Clinic, side door",
            "safe_contact": {
                "who_initiates": "agency",
                "channels": [{"channel": "whatsapp", "address": "+00 13 111 2222", "safe": True}],
                "text_ok": True,
                "code_word_safe": "jasmine rice",
                "last_confirmed_at": _moment(at - timedelta(minutes=10)),
            },
        },
    )


def nobody_known(_: datetime) -> Person:
    """Story 5: a woman without a name or a phone."""
    return Person(
        receiver=SHELTER,
        service_type="safe-accommodation",
        provisions=placement_provisions("decision"),
        content={
            "needs": ["tonight", "women-only"],
            "age_band": "25-49",
            "language": "id",
            "arrival_words": "quiet harbour",
            "safe_contact": {"who_initiates": "survivor"},
        },
    )


SENDER: Final = HELPLINE


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
