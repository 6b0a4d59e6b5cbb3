"""What would happen to a referral, field by field. Nothing is stored and nothing is sent."""

from __future__ import annotations

from exchange import hand_in
from exchange.schemas.referrals import ReferralPreview, ReferralRequest
from exchange.storage.consents import load_consent
from exchange.use_cases.clearance import judge, parties
from exchange.use_cases.consent_records import opened
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key

_PREVIEW_CODE = "0000-0000"
"""Stands for the client code, which is made with the referral."""


async def preview_referral(node: Node, request: ReferralRequest, unit: str | None) -> ReferralPreview:
    """Every field: allowed or withheld, stage, rule, consent line, reason; and what to tell her first.

    Raises:
        InvalidError: the receiver is unknown, or the content is not valid.
        ForbiddenError: `no-contract`.
        ConflictError: `keys-elsewhere`: the agency's own software looks at a preview without showing it to this node.
    """
    agency_key(node)
    between = parties(node, request.to)
    consent = opened(node, await node.database.read(lambda conn: load_consent(conn, request.consent, unit)))
    at = node.clock()
    judged = judge(node, between, request, consent, client_code=_PREVIEW_CODE, at=at)
    return hand_in.preview(between, judged, at)
