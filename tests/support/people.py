"""Invented people and their consents, as an agency's own system would hand them in. Nobody here is real."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from exchange.schemas.consents import ConsentRequest
from exchange.schemas.referrals import ReferralRequest

CANARY_NAME = "Bunga Canary-Sundari"
CANARY_WORDS = "paper lantern"
CANARY_PLACE = "Canary Market, north gate"
CANARIES = (CANARY_NAME, CANARY_WORDS, CANARY_PLACE)
"""Values that no file, log, span, metric or problem may ever show."""


def consent_request(*agencies: str, now: datetime | None = None, **changes: Any) -> ConsentRequest:
    """An adult's consent to these agencies, for a place to sleep."""
    now = now or datetime.now(UTC)
    draft: dict[str, Any] = {
        "basis": "consent",
        "age_band": "25-49",
        "provisions": [
            {
                "groups": ["need", "safety", "health", "name", "contact", "place"],
                "agencies": sorted(agencies),
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
    return ConsentRequest.model_validate(draft | changes)


def referral_request(to: str, consent: str, *, now: datetime | None = None, **changes: Any) -> ReferralRequest:
    """A woman who needs a bed tonight."""
    now = now or datetime.now(UTC)
    request: dict[str, Any] = {
        "to": to,
        "consent": consent,
        "service_type": "safe-accommodation",
        "priority": "urgent",
        "content": {
            "needs": ["tonight", "women-only"],
            "age_band": "25-49",
            "language": "id",
            "preferred_name": CANARY_NAME,
            "arrival_words": CANARY_WORDS,
            "meeting_point": CANARY_PLACE,
            "safe_contact": {"who_initiates": "survivor"},
        },
    }
    return ReferralRequest.model_validate(request | changes)
