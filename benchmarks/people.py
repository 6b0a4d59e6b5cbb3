"""Invented people, as an agency's own system would hand them in. Nobody here is real."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from exchange.schemas.consents import ConsentRequest


def consent_request(agency: str) -> ConsentRequest:
    """An adult's consent to one agency, for a place to sleep."""
    now = datetime.now(UTC)
    draft: dict[str, Any] = {
        "basis": "consent",
        "age_band": "25-49",
        "provisions": [
            {
                "groups": ["need", "safety", "health", "name", "contact", "place"],
                "agencies": [agency],
                "purposes": ["provide-safe-accommodation"],
                "feedback": "outcome",
            }
        ],
        "given_how": "verbal",
        "language": "en",
        "statement_id": "adult-consent",
        "limits_explained_at": (now - timedelta(minutes=10)).isoformat(),
        "given_at": (now - timedelta(minutes=5)).isoformat(),
    }
    return ConsentRequest.model_validate(draft)


CONTENT: dict[str, Any] = {
    "needs": ["tonight", "women-only"],
    "age_band": "25-49",
    "gender": "woman",
    "language": "id",
    "interpreter": {"needed": True, "gender": "woman"},
    "party": {"adults": 1, "dependants": [{"age_band": "6-11", "sex": "male"}], "infant_or_pregnant": False},
    "accessibility": ["step-free"],
    "safety_flags": ["device-monitored", "documents-withheld"],
    "relationship": "employer-household",
    "preferred_name": "Synthetic Name",
    "arrival_words": "paper lantern",
    "meeting_point": "Synthetic Market, north gate",
    "safe_contact": {"who_initiates": "survivor"},
}
"""Thirteen fields; about half of them go with the offer, the others are held."""


def referral_body(to: str, consent: str) -> bytes:
    """A woman who needs a bed tonight."""
    request = {
        "to": to,
        "consent": consent,
        "service_type": "safe-accommodation",
        "priority": "urgent",
        "content": CONTENT,
    }
    return json.dumps(request, separators=(",", ":")).encode()
