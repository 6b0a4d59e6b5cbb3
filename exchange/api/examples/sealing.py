"""Envelopes that the agency's own software has sealed, and its weekly keys. The sealed parts are cut short."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples import ids
from exchange.api.examples.federation import ENVELOPE
from exchange.api.examples.node import EPOCH
from exchange.api.examples.referrals import REFERRAL_SENT
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest, EpochsRequest, OwnEpochs

SEALING: Final[dict[type[BaseModel], dict[str, Any]]] = {
    EnvelopesRequest: {"envelopes": [ENVELOPE, ENVELOPE], "consent": ids.CONSENT, "consent_version": 1},
    EnvelopesAnswer: {
        "referral": REFERRAL_SENT,
        "envelopes": [
            {"id": ids.ITEM, "digest": ids.ENVELOPE, "status": "queued"},
            {"id": ids.OTHER_ITEM, "digest": ids.ROSTER, "status": "held"},
        ],
        "call_now": False,
        "duty_contact": "+00 000 0000 (synthetic)",
        "told_first": {
            "reports_to": [],
            "freedom_of_movement": "She can come and go, and leave for good.",
            "requires_documents": False,
        },
    },
    EpochsRequest: {"statements": [ids.STATEMENT]},
    OwnEpochs: {"epochs": [EPOCH], "ended": [], "weeks_ahead": 5},
}
