"""The inbox, as the receiving side sees it."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples import ids
from exchange.api.examples.referrals import REFERRAL_RECEIVED
from exchange.schemas.inbox import (
    AcknowledgementRequest,
    ContactAdvice,
    DecisionRequest,
    ErasureAttestationRequest,
    InboxItem,
    InboxPage,
    Lease,
    LeaseRequest,
    OpenedItem,
    OpenedItems,
    OpeningRequest,
    OpenRequest,
    ProgressRequest,
    RecallAnswerRequest,
    ReferralAct,
    RefusalRequest,
)

_TOKEN: Final = "b4f60c7d2e9148a5a3d17f82c06e95bd"  # noqa: S105 - an example of a lease token
_OFFER: Final[dict[str, Any]] = {
    "id": ids.ITEM,
    "cursor": "57",
    "referral": ids.REFERRAL,
    "sender": ids.HELPLINE,
    "kind": "offer",
    "purpose": "provide-safe-accommodation",
    "sector": "accommodation",
    "priority": "urgent",
    "state": "received",
    "status": "new",
    "received_at": ids.RECEIVED_AT,
    "respond_by": ids.RESPOND_BY,
}
_OPENED: Final[dict[str, Any]] = {
    "item": _OFFER,
    "client_code": "K7QF-3M2P",
    "content": {"needs": ["tonight", "women-only"], "age_band": "25-49", "language": "id"},
    "digest": ids.ENVELOPE,
    "verified": True,
}

INBOX: Final[dict[type[BaseModel], dict[str, Any]]] = {
    InboxPage: {"items": [_OFFER], "next_cursor": "57"},
    InboxItem: {**_OFFER, "status": "acknowledged"},
    LeaseRequest: {"seconds": 60},
    Lease: {"token": _TOKEN, "until": "2026-11-23T02:15:08.041Z"},
    AcknowledgementRequest: {"lease": _TOKEN},
    OpenRequest: {"ids": [ids.ITEM, ids.OTHER_ITEM]},
    OpeningRequest: {"digest": ids.ENVELOPE, "feedback": "status"},
    OpenedItem: _OPENED,
    OpenedItems: {"items": [_OPENED], "missing": [ids.OTHER_ITEM], "withheld": []},
    ContactAdvice: {
        "may_contact": False,
        "code": "outside-safe-times",
        "sentence": "This is not a time that she called safe.",
        "channel": "signal",
        "at": ids.ANSWERED_AT,
        "next_window_from": "2026-11-29T06:00:00Z",
        "next_window_to": "2026-11-29T08:30:00Z",
        "say_if_other_answers": "Wrong number, sorry.",
        "agency_name_may_be_said": False,
        "voicemail": "never",
        "caller_id": "hide",
        "delete_after": True,
    },
    DecisionRequest: {"decision": "accepted"},
    ProgressRequest: {"state": "completed", "outcome": "service-provided"},
    RecallAnswerRequest: {"agreed": True},
    RefusalRequest: {"code": "cannot-open"},
    ErasureAttestationRequest: {"copies_destroyed": True},
    ReferralAct: {"referral": REFERRAL_RECEIVED, "repeated": False},
}
