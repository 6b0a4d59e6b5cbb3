"""Handing a referral in, without any node: the routing fields, the gate, and both envelopes. Pure.

A node that holds its agency's keys does this in `exchange.use_cases.send_referral`; where the keys live with the
agency's own software, that does the same (`exchange.client.vault`). Both seal what the same gate let through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from consent.receipt import receipt_ends
from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import PRIORITY_RESPOND_WITHIN_S, ROUTING_FIELDS, Priority, ReleaseMode
from exchange import roster
from exchange.disclosure import Cleared, DisclosureRequest, FieldReason, Refused, clear
from exchange.envelope.epochs import EpochStatement, latest_expiry_of_disclosure
from exchange.envelope.ids import TAIL_BYTES, timed_id
from exchange.messages import Posting, SealedMessage, Signers, seal_forward
from exchange.referral import clocks
from exchange.referral.content import ReferralContent, Routing, effective_priority
from exchange.referral.lifecycle import State
from exchange.roster import Member, RosterSnapshot
from exchange.schemas.referrals import (
    Drill,
    FieldDecision,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    ToldFirst,
)
from exchange.schemas.shapes import from_millis

WithRouting = Callable[[ReferralContent, Routing], ReferralContent]


class Parties(NamedTuple):
    """Who refers to whom, under what."""

    roster: RosterSnapshot
    sender: Member
    receiver: Member
    contract: Contract


class Judged(NamedTuple):
    """The gate's word on a request, with the clocks it was asked under."""

    outcome: Cleared | Refused
    priority: Priority
    respond_by: int
    exercise: bool


class SealedPair(NamedTuple):
    """Both envelopes of one referral; without a disclosure where nothing identifies her, or it would be too old."""

    offer: SealedMessage
    held: SealedMessage | None


def judge(
    between: Parties,
    request: ReferralRequest,
    consent: ConsentRecord | None,
    *,
    client_code: str,
    at: int,
    exercise: bool = False,
    with_routing: WithRouting = ReferralContent.with_routing,
) -> Judged:
    """Run the gate on a request, with the routing fields of the sending agency.

    Args:
        between: who refers to whom.
        request: everything the agency would like to say.
        consent: under which it may move; nothing is a no.
        client_code: under which the receiver knows her.
        at: now, Unix milliseconds.
        exercise: every referral of this sender is a drill.
        with_routing: fills in the routing fields; replaced by who reports refusals in another way.

    Raises:
        ContentInvalidError: the content sets what only the sending software sets.
    """
    priority = effective_priority(request.priority, request.content)
    rule = between.contract.rule_for(between.sender.kind, between.receiver.kind, request.service_type)
    within = dict(rule.respond_within) if rule is not None else PRIORITY_RESPOND_WITHIN_S
    due = clocks.respond_by(at, priority, within)
    moment = _moment(at)
    routing = Routing(
        client_code=client_code,
        priority=priority,
        service_type=request.service_type,
        referred_at=moment,
        respond_by=_moment(due),
        referring_agency=between.sender.agency,
        duty_contact=between.sender.duty_contact,
        exercise=request.exercise or exercise,
    )
    content = with_routing(request.content, routing)
    outcome = clear(
        DisclosureRequest(
            between.sender, between.receiver, request.service_type, content, between.contract, consent, moment
        )
    )
    return Judged(outcome, priority, due, routing.exercise)


def held_until(request: ReferralRequest, judged: Judged, cleared: Cleared, epoch: EpochStatement, at: int) -> int:
    """When the held disclosure expires: the earliest end of everything that it rests on."""
    return clocks.disclosure_expires(
        request.content.safe_contact,
        consent_ends=receipt_ends(cleared.consent.expires_at, _moment(at)),
        due=judged.respond_by,
        key_ends=latest_expiry_of_disclosure(epoch.not_after),
    )


def seal_both(
    between: Parties,
    judged: Judged,
    cleared: Cleared,
    signers: Signers,
    *,
    referral: str,
    at: int,
    held_expires: int,
    epoch: EpochStatement,
    entropy: Callable[[int], bytes],
) -> SealedPair:
    """Offer and disclosure, sealed to the receiver at the same moment.

    Raises:
        ContentTooLargeError: one of them fits into no envelope.
    """

    def posting(expires: int, number: int | None, priority: Priority | None, due: int | None) -> Posting:
        return Posting(
            envelope_id=timed_id(at, entropy(TAIL_BYTES)),
            referral=referral,
            recipient=between.receiver.agency,
            roster=between.roster,
            seen=0,
            created=at,
            expires=expires,
            number=number,
            priority=priority,
            respond_by=due,
        )

    due = judged.respond_by
    offer = seal_forward(
        cleared.offer,
        cleared.consent,
        posting(clocks.expires_at(due), at, judged.priority, due),
        signers,
        feedback=cleared.feedback,
        epoch=epoch,
        entropy=entropy,
    )
    # A plan that is no longer confirmed, or a key near its end, leaves nothing to hold: it is asked for later.
    if cleared.disclosure is None or held_expires <= at:
        return SealedPair(offer, None)
    held = seal_forward(
        cleared.disclosure,
        cleared.consent,
        posting(held_expires, None, None, None),
        signers,
        feedback=cleared.feedback,
        epoch=epoch,
        entropy=entropy,
    )
    return SealedPair(offer, held)


def field_decisions(reasons: Iterable[FieldReason]) -> tuple[FieldDecision, ...]:
    """The gate's reasons, field by field."""
    return tuple([_decision(reason) for reason in reasons])


@lru_cache(maxsize=4096)
def _decision(reason: FieldReason) -> FieldDecision:
    """Made once for each, as the reasons are: terms, the name of a rule and the place of a provision."""
    return FieldDecision(
        field=reason.field,
        outcome=reason.outcome,
        stage=reason.stage,
        rule=reason.rule,
        consent_line=reason.consent,
        code=reason.code,
        sentence=reason.sentence,
    )


def told_first(member: Member) -> ToldFirst:
    """What she should hear about a receiver."""
    return _told(member.told_first)


@lru_cache(maxsize=1024)
def _told(told: roster.ToldFirst) -> ToldFirst:
    """Made once for each: what an agency says of itself, in the roster."""
    return ToldFirst(
        reports_to=told.reports_to,
        freedom_of_movement=told.freedom_of_movement,
        requires_documents=told.requires_documents,
    )


def preview(between: Parties, judged: Judged, at: int) -> ReferralPreview:
    """What would happen, field by field, and what to tell her first."""
    outcome, told = judged.outcome, told_first(between.receiver)
    fields = tuple(decision for decision in field_decisions(outcome.reasons) if decision.field not in ROUTING_FIELDS)
    if isinstance(outcome, Refused):
        return ReferralPreview(
            allowed=False,
            code=outcome.code,
            sentence=outcome.sentence,
            fields=fields,
            priority=judged.priority,
            told_first=told,
            exercise=_drill(judged),
        )
    return ReferralPreview(
        allowed=True,
        code="allowed",
        sentence="This referral may be sent as shown.",
        fields=fields,
        priority=judged.priority,
        respond_within_seconds=(judged.respond_by - at) // 1000,
        release=_release(judged, outcome),
        told_first=told,
        exercise=_drill(judged),
    )


def created(
    between: Parties, judged: Judged, cleared: Cleared, *, referral: str, client_code: str, held: bool
) -> ReferralCreated:
    """What the agency's system hears of a referral that is stored."""
    emergency = judged.priority is Priority.EMERGENCY
    return ReferralCreated(
        id=referral,
        client_code=client_code,
        state=State.SENT,
        to=between.receiver.agency,
        priority=judged.priority,
        respond_by=from_millis(judged.respond_by),
        expires_at=from_millis(clocks.expires_at(judged.respond_by)),
        disclosure_held=held,
        release=_release(judged, cleared),
        withheld=field_decisions(reason for reason in cleared.reasons if reason.outcome != "allowed"),
        call_now=emergency,
        duty_contact=between.receiver.duty_contact,
        told_first=told_first(between.receiver),
        exercise=_drill(judged),
    )


def _drill(judged: Judged) -> Drill:
    return True if judged.exercise else None


def _release(judged: Judged, cleared: Cleared) -> ReleaseMode:
    """How it will be released: nothing about an emergency waits for a confirmation in software."""
    return ReleaseMode.AUTOMATIC if judged.priority is Priority.EMERGENCY else cleared.rule.release


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)
