"""Consents and her no."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from consent.examples import DRAFT_EXAMPLE
from exchange.api.examples import ids
from exchange.api.examples.referrals import REFERRAL_WITHDRAWN
from exchange.schemas.consents import ConsentRequest, ConsentView, ProvisionsRequest, ReceiptView, RenewalRequest
from exchange.schemas.referrals import WithdrawalAnswer, WithdrawalRequest

_PROVISIONS: Final[list[dict[str, Any]]] = [
    {
        "fields": [],
        "groups": ["need", "safety"],
        "agencies": [],
        "kinds": ["shelter"],
        "countries": [],
        "purposes": ["provide-safe-accommodation"],
        "feedback": "decision",
    }
]
_RECORD: Final[dict[str, Any]] = {
    "basis": "consent",
    "age_band": "25-49",
    "provisions": _PROVISIONS,
    "given_how": "verbal",
    "language": "en",
    "statement_id": "adult-consent",
    "interpreted_into": "fil",
    "interpreter_role": "trained-interpreter",
    "limits_explained_at": "2026-11-23T02:05:00Z",
    "told_first": [],
    "id": ids.CONSENT,
    "subject": ids.SUBJECT,
    "version": 1,
    "state": "given",
    "statement_version": 1,
    "statement_digest": ids.CONTRACT,
    "requested_at": "2026-11-23T02:10:00Z",
    "given_at": "2026-11-23T02:10:00Z",
    "expires_at": "2027-02-21T02:10:00Z",
    "changed_at": "2026-11-23T02:10:00Z",
}

CONSENTS: Final[dict[type[BaseModel], dict[str, Any]]] = {
    ConsentRequest: DRAFT_EXAMPLE,
    ConsentView: {
        "id": ids.CONSENT,
        "subject": ids.SUBJECT,
        "version": 1,
        "state": "given",
        "expires_at": ids.CONSENT_ENDS,
        "warn": False,
        "record": _RECORD,
    },
    ReceiptView: {
        "receipt": {
            "schema_version": "ISO/IEC TS 27560:2023",
            "record_id": ids.CONSENT,
            "language": "en",
            "event_state": "given",
            "event_time": "2026-11-23T02:10:00Z",
            "validity_end": "2027-02-21T02:10:00Z",
        }
    },
    RenewalRequest: {"until": "2027-05-20T00:00:00Z"},
    ProvisionsRequest: {
        "provisions": [
            {"groups": ["need"], "agencies": [ids.SHELTER], "purposes": ["provide-safe-accommodation"]},
        ]
    },
    WithdrawalRequest: {"referral": ids.REFERRAL, "form": "erase"},
    WithdrawalAnswer: {
        "form": "erase",
        "referrals": [REFERRAL_WITHDRAWN],
        "destroyed_at": ids.ANSWERED_AT,
    },
}
