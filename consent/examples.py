"""A synthetic example of a consent, for the OpenAPI document. A test keeps it valid."""

from __future__ import annotations

from typing import Any, Final

DRAFT_EXAMPLE: Final[dict[str, Any]] = {
    "basis": "consent",
    "age_band": "25-49",
    "provisions": [
        {
            "groups": ["need", "safety"],
            "kinds": ["shelter"],
            "purposes": ["provide-safe-accommodation"],
        },
        {
            "fields": ["medication_or_mental_health_support"],
            "groups": ["name", "contact", "place"],
            "agencies": ["rose-house-shelter"],
            "purposes": ["provide-safe-accommodation"],
            "feedback": "status",
        },
    ],
    "given_how": "verbal",
    "language": "en",
    "statement_id": "adult-consent",
    "interpreted_into": "fil",
    "interpreter_role": "trained-interpreter",
    "limits_explained_at": "2026-11-23T02:05:00Z",
    "given_at": "2026-11-23T02:10:00Z",
}
