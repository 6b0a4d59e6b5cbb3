"""What nodes say to each other. The sealed parts are cut short."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples import ids
from exchange.schemas.federation import (
    BatchAnswer,
    ConsentStatusAnswer,
    ConsentStatusRequest,
    EnvelopeBatch,
    ResyncAnswer,
    ResyncRequest,
    RosterMirror,
    WireEnvelope,
)

ENVELOPE: Final[dict[str, Any]] = {
    "header": "eyJzdWl0ZSI6InJ4MSIsImtpbmQiOiJvZmZlciJ9",
    "wrapped_key": ids.KEY,
    "ciphertext": "c2VhbGVkIGNvbnRlbnQsIHBhZGRlZA",
    "signature": "c2lnbmF0dXJlIG9mIHRoZSBzZW5kaW5nIGFnZW5jeQ",
}

FEDERATION: Final[dict[type[BaseModel], dict[str, Any]]] = {
    WireEnvelope: ENVELOPE,
    EnvelopeBatch: {"envelopes": [ENVELOPE]},
    BatchAnswer: {
        "answers": [
            {"result": "accepted", "receipt": ids.STATEMENT},
            {"result": "later", "retry_after": 30},
        ]
    },
    ResyncRequest: {"since": "2026-11-20T00:00:00Z"},
    ResyncAnswer: {"stops_queued": 2, "referrals_marked": 5},
    ConsentStatusRequest: {"receipts": [ids.REFERRAL]},
    ConsentStatusAnswer: {
        "receipts": [{"receipt": ids.REFERRAL, "status": "live"}],
        "statement": ids.STATEMENT,
    },
    RosterMirror: {"version": 12, "digest": ids.ROSTER, "roster": "eyJ2ZXJzaW9uIjoxMn0"},
}
