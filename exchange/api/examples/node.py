"""The node itself, its peers and its contracts."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples import ids
from exchange.schemas.node import ContractList, ContractView, Health, NodeCard, PeerKeys

EPOCH: Final[dict[str, Any]] = {
    "key_id": "8c2e5f9017ab43d6b0e94d715fc3a682",
    "key": ids.KEY,
    "seq": 48,
    "not_before": "2026-11-23T00:00:00.000Z",
    "not_after": "2026-11-30T00:00:00.000Z",
    "statement": ids.STATEMENT,
}
_SUMMARY: Final[dict[str, Any]] = {
    "name": "asean-women-migrant-workers",
    "version": "1.0.0",
    "digest": ids.CONTRACT,
    "title": "Information-sharing protocol",
    "status": "draft-needs-local-legal-review",
    "valid_until": "2027-12-31",
    "review_on": "2027-06-30",
    "in_force_with": [ids.SHELTER],
}

NOT_READY: Final[dict[str, Any]] = {
    "status": "not-ready",
    "checks": {"database": "ok", "key-store": "ok", "roster": "not-a-member", "epoch-key": "ok"},
}
NODE: Final[dict[type[BaseModel], dict[str, Any]]] = {
    NodeCard: {
        "agency": ids.HELPLINE,
        "kind": "helpline",
        "software": "referral-exchange/0.1.0",
        "suites": ["rx1"],
        "vocabularies": [1],
        "agency_key": ids.KEY,
        "node_key": ids.KEY,
        "epochs": [EPOCH],
        "contracts": [ids.CONTRACT],
        "roster_version": 12,
        "roster_digest": ids.ROSTER,
        "synthetic": True,
    },
    PeerKeys: {
        "agency": ids.SHELTER,
        "agency_key": ids.KEY,
        "node_key": ids.KEY,
        "epochs": [EPOCH],
        "roster_version": 12,
        "roster_digest": ids.ROSTER,
        "contract": ids.CONTRACT,
    },
    ContractList: {"items": [_SUMMARY]},
    ContractView: {
        "summary": _SUMMARY,
        "contract": {"contract": "asean-women-migrant-workers", "version": "1.0.0", "rules": []},
        "readable": "# Information-sharing protocol\n",
    },
    Health: {"status": "ready", "checks": {"database": "ok", "key-store": "ok", "roster": "ok", "epoch-key": "ok"}},
}
