"""Send a referral: gate, seal, commit. Offer queued, disclosure held, both sealed to the receiver at this moment.

Rules:

* What the gate refuses is not stored, not even that it was asked for.
* The consent is read fresh, and its version is repeated inside the transaction: a withdrawal that commits first wins.
* Nobody can read the held disclosure on this node. Only an acceptance lets it go, after the gate has run again.
* The answer is durable with the referral, under the same idempotency key, in one commit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from consent.client_code import new_client_code
from contracts.vocabulary import purpose_for, sector_of
from exchange import hand_in
from exchange.disclosure import Cleared, Refused
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.errors import ContentTooLargeError
from exchange.messages import SealedMessage
from exchange.referral import clocks
from exchange.referral.lifecycle import Side, State
from exchange.schemas.referrals import ReferralCreated, ReferralRequest
from exchange.storage.consents import StaleConsentError, StoredConsent, load_consent, read_client_code
from exchange.storage.database import Connection
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.acting import Acting
from exchange.use_cases.clearance import Judged, Parties, judge, parties
from exchange.use_cases.consent_records import opened
from exchange.use_cases.errors import ForbiddenError, TooLargeError
from exchange.use_cases.facts import Facts, seal_facts
from exchange.use_cases.gate_again import sealed_between, told_of
from exchange.use_cases.idempotency import Idempotency, Keep, Stored, once
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key, current_peer_epoch, signers
from exchange.use_cases.refusals import changed_meanwhile, gate_says_no
from exchange.use_cases.store_referral import store_referral
from exchange.use_cases.turns import together

ATTEMPTS: Final = 3


class _Known(NamedTuple):
    """What the database knows of her consent, and the code under which the receiver knows her."""

    consent: StoredConsent | None
    code: str | None


class _Making(NamedTuple):
    """Everything that is known once the gate has let a referral through."""

    referral: str
    at: int
    subject: str
    code: str
    judged: Judged
    cleared: Cleared
    epoch: EpochStatement
    expires_held: int


async def send_referral(
    node: Node, acting: Acting, request: ReferralRequest, idem: Idempotency
) -> Stored[ReferralCreated]:
    """Make a referral.

    Raises:
        ForbiddenError: contract, consent or standing says no; nothing is stored.
        InvalidError, TooLargeError: the request cannot be sent as it is.
        ConflictError: idempotency key reused, `keys-elsewhere`, or the consent kept changing.
        UnavailableError: the receiver's key is not known yet.
    """

    def known(conn: Connection) -> _Known:
        row = load_consent(conn, request.consent, acting.unit)
        return _Known(row, read_client_code(conn, row.subject, request.to) if row is not None else None)

    found: list[_Known] = []

    async def work(keep: Keep) -> ReferralCreated:
        for _ in range(ATTEMPTS):
            read = found.pop() if found else await node.database.read(known)
            try:
                return await _send_once(node, acting, request, read, keep)
            except StaleConsentError:
                continue
        raise changed_meanwhile()

    await node.hand_in_turns.take()
    return await once(node, idem, ReferralCreated, work, beside=lambda conn: found.append(known(conn)))


async def _send_once(node: Node, acting: Acting, request: ReferralRequest, read: _Known, keep: Keep) -> ReferralCreated:
    agency_key(node)
    between = parties(node, request.to)
    await together()
    consent = opened(node, read.consent)
    await together()
    at = node.clock()
    code = read.code or new_client_code(node.entropy(8))
    judged = judge(node, between, request, consent, client_code=code, at=at)
    if isinstance(judged.outcome, Refused) or consent is None:
        raise refused(node, judged.outcome, new=True)
    node.measurements.decided(engine="gate", outcome="cleared", code="allowed")
    epoch = await current_peer_epoch(node, between.receiver)
    await together()
    held_until = hand_in.held_until(request, judged, judged.outcome, epoch, at)
    making = _Making(node.timed_id(at), at, consent.subject, code, judged, judged.outcome, epoch, held_until)
    offer, held = _seal_both(node, between, making)
    await together()
    created = hand_in.created(
        between, judged, making.cleared, referral=making.referral, client_code=code, held=held is not None
    )
    record = _record(node, acting, between, request, making, offer, held)

    sealed = [offer] if held is None else [offer, held]
    new = read.code is None
    await store_referral(
        node, acting, record, sealed, consent=consent, code=code, code_is_new=new, answer=created, keep=keep
    )
    return created


def refused(node: Node, outcome: Cleared | Refused, *, new: bool) -> ForbiddenError:
    """The gate's no, with a reason for every field. Without a consent nothing is cleared.

    Args:
        node: counts it.
        outcome: of the gate.
        new: whether the request is a new referral.
    """
    if isinstance(outcome, Cleared):
        return ForbiddenError("no-consent", "There is no consent record.")
    node.measurements.decided(engine="gate", outcome="refused", code=outcome.code)
    return gate_says_no(outcome, new=new)


def _seal_both(node: Node, between: Parties, making: _Making) -> tuple[SealedMessage, SealedMessage | None]:
    try:
        sealed = hand_in.seal_both(
            between,
            making.judged,
            making.cleared,
            signers(node),
            referral=making.referral,
            at=making.at,
            held_expires=making.expires_held,
            epoch=making.epoch,
            entropy=node.entropy,
        )
    except ContentTooLargeError as error:
        raise TooLargeError("content-too-large", error.sentence) from error
    return sealed.offer, sealed.held


def _record(
    node: Node,
    acting: Acting,
    between: Parties,
    request: ReferralRequest,
    making: _Making,
    offer: SealedMessage,
    held: SealedMessage | None,
) -> ReferralRecord:
    cleared, at, respond_by = making.cleared, making.at, making.judged.respond_by
    purpose = purpose_for(request.service_type)
    disclosure = cleared.disclosure
    facts = Facts(
        service=request.service_type,
        purpose=purpose,
        priority=making.judged.priority,
        feedback=cleared.feedback,
        offer=offer.header.id,
        release=cleared.rule.release,
        retention_declined_s=cleared.rule.retention.declined_s,
        retention_expired_s=cleared.rule.retention.expired_s,
        retention_closed_s=cleared.rule.retention.closed_s,
        subject=making.subject,
        held_fields=tuple(sorted(disclosure.fields)) if disclosure is not None else (),
        told_first=told_of(between.receiver),
    )
    facts = sealed_between(facts, between.sender, between.receiver)
    hold = "held" if held is not None else "awaiting-disclosure" if disclosure is not None else "none"
    return ReferralRecord(
        id=making.referral,
        side=Side.REFERRING.value,
        peer=between.receiver.agency,
        sector=sector_of(purpose).value,
        contract=between.contract.digest,
        state=State.SENT.value,
        unit=acting.unit,
        consent_id=cleared.consent.consent_id,
        created_at=at,
        updated_at=at,
        respond_by=respond_by,
        undelivered_at=clocks.undelivered_at(at, making.judged.priority),
        hold=hold,
        number=offer.header.number or at,
        sealed_facts=seal_facts(node, making.referral, facts),
        exercise=making.judged.exercise or None,
    )
