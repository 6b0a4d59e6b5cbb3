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
    "awaiting_confirmation": True,
    "resend": False,
}
REFERRAL_VIEW: Final[dict[str, Any]] = {
    "id": ids.REFERRAL,
    "side": "referring",
    "peer": ids.SHELTER,
    "sector": "accommodation",
    "state": "accepted",
    "flags": _FLAGS,
    "created_at": ids.SENT_AT,
    "updated_at": ids.ANSWERED_AT,
    "respond_by": ids.RESPOND_BY,
    "contract": ids.CONTRACT,
    "attestations": [],
}
REFERRAL_DISCLOSED: Final[dict[str, Any]] = {
    **REFERRAL_VIEW,
    "flags": {**_FLAGS, "disclosed": True, "awaiting_confirmation": False},
}
REFERRAL_WITHDRAWN: Final[dict[str, Any]] = {
    **REFERRAL_VIEW,
    "state": "withdrawn",
    "flags": {**_FLAGS, "sharing_stopped": True, "awaiting_confirmation": False},
    "attestations": [
        {"party": "own-node", "owed_since": ids.ANSWERED_AT, "done_at": ids.ANSWERED_AT},
        {"party": "peer-node", "owed_since": ids.ANSWERED_AT},
    ],
}
_NEEDS: Final[dict[str, Any]] = {
    "field": "needs",
    "outcome": "allowed",
    "stage": "offer",
    "rule": "shelter-placement",
    "consent_line": 0,
    "code": "allowed",
    "sentence": "Goes with the request.",
}
_ARRIVAL_WORDS: Final[dict[str, Any]] = {
    "field": "arrival_words",
    "outcome": "allowed",
    "stage": "disclosure",
    "rule": "shelter-placement",
    "consent_line": 1,
    "code": "allowed",
    "sentence": "Held here, sealed, until the receiver accepts.",
}
_WITHHELD: Final[dict[str, Any]] = {
    "field": "nationality",
    "outcome": "withheld",
    "rule": "shelter-placement",
    "code": "not-in-rule",
    "sentence": "The rule for shelters does not list this field. It will not be sent.",
}
_TOLD_FIRST: Final[dict[str, Any]] = {
    "reports_to": [],
    "freedom_of_movement": "She can leave at any time.",
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
        "sentence": "The referral may be sent. One field stays here.",
        "fields": [_NEEDS, _ARRIVAL_WORDS, _WITHHELD],
        "priority": "urgent",
        "respond_within_seconds": 86400,
        "release": "confirm",
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
        "release": "confirm",
        "withheld": [_WITHHELD],
        "call_now": False,
        "duty_contact": "+00 000 0000",
        "told_first": _TOLD_FIRST,
    },
    ReferralView: REFERRAL_VIEW,
    ReferralChanges: {
        "items": [{"cursor": "184", "what": "accepted", "at": ids.ANSWERED_AT, "referral": REFERRAL_VIEW}],
        "next_cursor": "184",
    },
    ReleaseAnswer: {
        "released": True,
        "code": "released",
        "sentence": "Name and contact are on their way to the receiver.",
        "referral": REFERRAL_DISCLOSED,
    },
    DisclosureRequest: {
        "content": {"preferred_name": "Bunga", "arrival_words": "paper lantern", "safe_contact": _SAFE_CONTACT}
    },
    InformationRequest: {"content": {"expected_stay": "weeks", "interpreter": {"needed": True, "gender": "woman"}}},
    SafeContactRequest: {"safe_contact": _SAFE_CONTACT},
    ForwardAnswer: {"referral": REFERRAL_DISCLOSED, "fields": [_ARRIVAL_WORDS]},
}
