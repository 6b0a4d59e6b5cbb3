"""Referrals, as the referring side sees them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples import ids
from exchange.schemas.referrals import (
    SMALLEST_REFERRAL,
    DisclosureRequest,
    ForwardAnswer,
    InformationRequest,
    OpenReferrals,
    ReferralChanges,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    ReferralView,
    ReleaseAnswer,
    SafeContactRequest,
)

_FLAGS: Final[dict[str, Any]] = {
    "queued": False,
    "delivered": True,
    "overdue": False,
    "undeliverable": False,
    "disclosed": False,
    "sharing_stopped": False,
    "awaiting_disclosure": False,
    "awaiting_confirmation": False,
    "destroyed": False,
    "receiver_unserved": False,
    "resend": False,
}
REFERRAL_VIEW: Final[dict[str, Any]] = {
    "id": ids.REFERRAL,
    "side": "referring",
    "peer": ids.SHELTER,
    "sector": "accommodation",
    "state": "accepted",
    "flags": {**_FLAGS, "disclosed": True},
    "created_at": ids.SENT_AT,
    "updated_at": ids.ANSWERED_AT,
    "respond_by": ids.RESPOND_BY,
    "contract": ids.CONTRACT,
    "number": ids.ANSWER_NUMBER,
    "seen": ids.ANSWER_NUMBER,
    "attestations": [],
}
REFERRAL_RECEIVED: Final[dict[str, Any]] = {
    **REFERRAL_VIEW,
    "side": "receiving",
    "peer": ids.HELPLINE,
    "flags": _FLAGS,
    "created_at": ids.RECEIVED_AT,
    "seen": ids.SENT_NUMBER,
}
REFERRAL_SENT: Final[dict[str, Any]] = {
    **REFERRAL_VIEW,
    "state": "sent",
    "flags": {**_FLAGS, "queued": True, "delivered": False},
    "updated_at": ids.SENT_AT,
    "number": ids.SENT_NUMBER,
    "seen": 0,
}
REFERRAL_WITHDRAWN: Final[dict[str, Any]] = {
    **REFERRAL_VIEW,
    "state": "withdrawn",
    "stops": [{"kind": "withdrawal", "made_at": ids.ANSWERED_AT}],
    "attestations": [
        {"party": party, "owed_since": ids.ANSWERED_AT} for party in ("own-node", "peer-agency", "peer-node")
    ],
}


def _allowed(field: str, stage: str, line: int, when: str) -> dict[str, Any]:
    return {
        "field": field,
        "outcome": "allowed",
        "stage": stage,
        "rule": "shelter-placement",
        "consent_line": line,
        "code": f"in-{stage}",
        "sentence": f"Rule `shelter-placement` lets a shelter agency see `{field}` {when}.",
    }


_IN_OFFER: Final = [
    _allowed(field, "offer", 0, "with the request, before it has agreed") for field in ("needs", "age_band", "language")
]
_IN_DISCLOSURE: Final = [
    _allowed(field, "disclosure", 1, "only after it accepted") for field in ("arrival_words", "safe_contact")
]
_WITHHELD: Final[dict[str, Any]] = {
    "field": "nationality",
    "outcome": "withheld",
    "rule": "shelter-placement",
    "code": "not-listed",
    "sentence": "Rule `shelter-placement` does not list `nationality` for a shelter agency: it stays with you.",
}
_TOLD_FIRST: Final[dict[str, Any]] = {
    "reports_to": [],
    "freedom_of_movement": "She can come and go, and leave for good.",
    "requires_documents": False,
}
_SAFE_CONTACT: Final[dict[str, Any]] = {
    "who_initiates": "agency",
    "channels": [
        {
            "channel": "signal",
            "address": "+00 000 0000",
            "safe": True,
            "network": "own",
            "disappearing": True,
        }
    ],
    "safe_times": [{"weekday": "sunday", "from": "14:00", "to": "16:30", "time_zone": "Asia/Kuala_Lumpur"}],
    "say_if_other_answers": "Wrong number, sorry.",
    "last_confirmed_at": "2026-11-23T02:06:00Z",
}

REFERRALS: Final[dict[type[BaseModel], dict[str, Any]]] = {
    ReferralRequest: SMALLEST_REFERRAL,
    ReferralPreview: {
        "allowed": True,
        "code": "allowed",
        "sentence": "This referral may be sent as shown.",
        "fields": [*_IN_OFFER, *_IN_DISCLOSURE, _WITHHELD],
        "priority": "urgent",
        "respond_within_seconds": 86400,
        "release": "automatic",
        "told_first": _TOLD_FIRST,
    },
    ReferralCreated: {
        "id": ids.REFERRAL,
        "client_code": "K7QF-3M2P",
        "state": "sent",
        "to": ids.SHELTER,
        "priority": "urgent",
        "respond_by": ids.RESPOND_BY,
        "expires_at": ids.EXPIRES_AT,
        "disclosure_held": True,
        "release": "automatic",
        "withheld": [_WITHHELD],
        "call_now": False,
        "duty_contact": "+00 000 0000 (synthetic)",
        "told_first": _TOLD_FIRST,
    },
    ReferralView: {**REFERRAL_VIEW, "stops": []},
    OpenReferrals: {"items": [REFERRAL_VIEW]},
    ReferralChanges: {
        "items": [{"cursor": "184", "what": "accepted", "at": ids.ANSWERED_AT, "referral": REFERRAL_VIEW}],
        "next_cursor": "184",
    },
    ReleaseAnswer: {
        "released": True,
        "code": "released",
        "sentence": "Name and contact are on their way.",
        "referral": REFERRAL_VIEW,
    },
    DisclosureRequest: {
        "content": {"preferred_name": "Bunga", "arrival_words": "paper lantern", "safe_contact": _SAFE_CONTACT}
    },
    InformationRequest: {"content": {"expected_stay": "weeks", "interpreter": {"needed": True, "gender": "woman"}}},
    SafeContactRequest: {"safe_contact": _SAFE_CONTACT},
    ForwardAnswer: {
        "referral": REFERRAL_VIEW,
        "fields": [_allowed("preferred_name", "disclosure", 1, "only after it accepted"), *_IN_DISCLOSURE],
    },
}
