"""A new referral that the agency's own software has sealed: the offer queued, the disclosure held, in one commit.

Rules:

* An offer comes alone, or together with the one disclosure for the same referral and receiver.
* It states no later time to answer than the rule of the contract: the clock starts when it was made.
* Of an offer alone the software says whether a disclosure follows: then one is asked for, as where this node seals.
* A disclosure expires no later than consent, offer and key. (What her contact plan says, only the software knows.)
* What is refused is not stored, not even that it was asked for.
"""

from __future__ import annotations

from consent.record import ConsentRecord
from contracts.vocabulary import Group, Priority, Purpose, sector_of
from exchange.disclosure import Allowed
from exchange.envelope.kinds import Kind
from exchange.referral import clocks
from exchange.referral.lifecycle import Side, State
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.storage.consents import load_consent
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.acting import Acting
from exchange.use_cases.clearance import Parties, parties
from exchange.use_cases.consent_records import opened
from exchange.use_cases.errors import ConflictError, ForbiddenError, InvalidError
from exchange.use_cases.facts import Facts, seal_facts
from exchange.use_cases.gate_again import sealed_between, told_of
from exchange.use_cases.idempotency import Keep
from exchange.use_cases.node import Node
from exchange.use_cases.sealed_checks import AgencySealed, check_number, expires_too_late
from exchange.use_cases.sealed_forwards import fields_at_most, judge_sealed, service_named
from exchange.use_cases.sealed_views import handed_in
from exchange.use_cases.store_referral import store_referral

_TOGETHER = ("referral", "recipient", "contract", "purpose")


async def store_sealed_referral(
    node: Node, acting: Acting, request: EnvelopesRequest, sealed: tuple[AgencySealed, ...], keep: Keep
) -> EnvelopesAnswer:
    """Store a new referral.

    Raises:
        InvalidError, ForbiddenError, ConflictError: a rule refuses; nothing is stored.
        StaleConsentError: the consent changed meanwhile; look again.
        IntegrityError: the referral or one of the envelopes exists.
    """
    offer, held = sealed[0], _together(sealed)
    if request.consent is None:
        raise InvalidError("consent-missing", "Name the consent under which her data may move, and its version.")
    consent_id = request.consent
    between = parties(node, offer.header.recipient)
    if between.contract.digest != offer.header.contract:
        raise ForbiddenError("contract-not-in-force", "Seal it under the contract that is in force between you now.")
    consent = opened(node, await node.database.read(lambda conn: load_consent(conn, consent_id, acting.unit)))
    allowed = judge_sealed(node, offer, between.contract, consent, request.consent_version)
    if held is not None:
        judge_sealed(node, held, between.contract, consent, request.consent_version)
    if consent is None:
        raise ForbiddenError("no-consent", "There is no consent record.")
    _check_clocks(node, allowed, offer, held)
    record = _record(node, acting, between, allowed, consent, offer, held)
    if held is None and request.disclosure_follows:
        record = record._replace(hold="awaiting-disclosure")

    messages = [one.message for one in sealed]
    answer = handed_in(record, messages, between.receiver)
    await store_referral(node, acting, record, messages, consent=consent, code=None, answer=answer, keep=keep)
    return answer


def _together(sealed: tuple[AgencySealed, ...]) -> AgencySealed | None:
    if len(sealed) == 1:
        return None
    offer, held = sealed
    same = all(getattr(offer.header, name) == getattr(held.header, name) for name in _TOGETHER)
    if held.header.kind is not Kind.DISCLOSURE or not same:
        raise InvalidError("not-together", "With an offer comes at most the disclosure of the same referral.")
    return held


def _check_clocks(node: Node, allowed: Allowed, offer: AgencySealed, held: AgencySealed | None) -> None:
    header = offer.header
    due = clocks.respond_by(header.created, Priority(header.priority or ""), dict(allowed.rule.respond_within))
    if header.respond_by != due:
        raise InvalidError("respond-by-differs", "Let the receiver answer by the time that the contract's rule says.")
    check_number(node, header.number or 0, 0)
    if header.seen != 0:
        raise ConflictError("seen-too-high", "Nothing has arrived for this referral that could have been seen.")
    if held is not None and held.header.expires > clocks.expires_at(due):
        raise expires_too_late()


def _record(
    node: Node,
    acting: Acting,
    between: Parties,
    allowed: Allowed,
    consent: ConsentRecord,
    offer: AgencySealed,
    held: AgencySealed | None,
) -> ReferralRecord:
    header, at = offer.header, node.clock()
    purpose, priority, rule = Purpose(header.purpose or ""), Priority(header.priority or ""), allowed.rule
    facts = Facts(
        service=service_named(header),
        purpose=purpose,
        priority=priority,
        feedback=allowed.feedback,
        offer=header.id,
        release=rule.release,
        retention_declined_s=rule.retention.declined_s,
        retention_expired_s=rule.retention.expired_s,
        retention_closed_s=rule.retention.closed_s,
        subject=consent.subject,
        held_fields=fields_at_most(node, held, between.contract, consent) if held is not None else (),
        held_groups=tuple(Group(group) for group in held.header.groups) if held is not None else (),
        told_first=told_of(between.receiver),
    )
    facts = sealed_between(facts, between.sender, between.receiver)
    return ReferralRecord(
        id=header.referral,
        side=Side.REFERRING.value,
        peer=between.receiver.agency,
        sector=sector_of(purpose).value,
        contract=between.contract.digest,
        state=State.SENT.value,
        unit=acting.unit,
        consent_id=consent.id,
        created_at=at,
        updated_at=at,
        respond_by=header.respond_by or at,
        undelivered_at=clocks.undelivered_at(at, priority),
        hold="held" if held is not None else "none",
        number=header.number or at,
        sealed_facts=seal_facts(node, header.referral, facts),
    )
