"""What would happen to a referral, field by field. Nothing is stored and nothing is sent."""

from __future__ import annotations

from contracts.vocabulary import ROUTING_FIELDS
from exchange.disclosure import Refused
from exchange.schemas.referrals import ReferralPreview, ReferralRequest
from exchange.use_cases.clearance import judge, parties
from exchange.use_cases.consent_records import opened, usable_consent
from exchange.use_cases.node import Node
from exchange.use_cases.views import field_decisions, told_first

_PREVIEW_CODE = "0000-0000"
"""Stands for the client code, which is made with the referral."""


async def preview_referral(node: Node, request: ReferralRequest, unit: str | None) -> ReferralPreview:
    """Every field: allowed or withheld, stage, rule, consent line, reason; and what to tell her first.

    Raises:
        InvalidError: the receiver is unknown, or the content is not valid.
        ForbiddenError: `no-contract`.
    """
    between = parties(node, request.to)
    consent = opened(node, await node.database.read(lambda conn: usable_consent(conn, request.consent, unit)))
    at = node.clock()
    judged = judge(node, between, request, consent, client_code=_PREVIEW_CODE, at=at)
    outcome = judged.outcome
    fields = tuple(decision for decision in field_decisions(outcome.reasons) if decision.field not in ROUTING_FIELDS)
    told = told_first(between.receiver)
    if isinstance(outcome, Refused):
        return ReferralPreview(
            allowed=False,
            code=outcome.code,
            sentence=outcome.sentence,
            fields=fields,
            priority=judged.priority,
            told_first=told,
        )
    return ReferralPreview(
        allowed=True,
        code="allowed",
        sentence="This referral may be sent as shown.",
        fields=fields,
        priority=judged.priority,
        respond_within_seconds=(judged.respond_by - at) // 1000,
        release=outcome.rule.release,
        told_first=told,
    )
