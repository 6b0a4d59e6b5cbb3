"""What follows an offer: information that was asked for, a changed contact plan, a fresh disclosure.

Each goes through the whole gate again, under the contract of the referral and the consent as it is now. Who she is goes
as information only after the release: before, it would pass beside the worker's confirmation, the count of names that
were not served, and the record of what was shared.
"""

from __future__ import annotations

from dataclasses import dataclass

from consent.receipt import receipt_ends
from consent.record import ConsentRecord
from exchange.disclosure import ClearedLater, DisclosureRequest, Forward, Refused, clear_later
from exchange.envelope.epochs import EpochStatement, latest_expiry_of_disclosure
from exchange.envelope.errors import ContentTooLargeError
from exchange.envelope.kinds import Kind
from exchange.messages import Posting, SealedMessage, seal_forward
from exchange.referral import clocks
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import TERMINAL
from exchange.schemas.problems import ProblemField
from exchange.storage.consents import load_consent
from exchange.use_cases.cases import Case
from exchange.use_cases.clearance import check_confirmed, check_no_routing, parties
from exchange.use_cases.consent_records import hers
from exchange.use_cases.errors import ConflictError, ForbiddenError, TooLargeError
from exchange.use_cases.gate_again import authority_refuses, information_refuses
from exchange.use_cases.node import Node, as_datetime
from exchange.use_cases.outgoing import agency_key, current_peer_epoch, signers
from exchange.use_cases.send_referral import refused


@dataclass(frozen=True, slots=True)
class Told:
    """What the gate let through, sealed."""

    cleared: ClearedLater
    consent: ConsentRecord
    sealed: tuple[SealedMessage, ...]


async def tell_later(
    node: Node, case: Case, kind: Kind, content: ReferralContent, *, numbers: int | None, in_reply_to: str | None
) -> Told:
    """Run the gate and seal.

    Args:
        node: the node.
        case: the referral, of which this agency is the referring side.
        kind: information, update or disclosure.
        content: what the agency's system would like to say.
        numbers: the first number to use; nothing for a held disclosure.
        in_reply_to: the envelope that this answers.

    Raises:
        ForbiddenError: contract, consent or standing says no; nothing is stored.
        InvalidError: `content-invalid`: her contact plan was confirmed later than now, or a field is the node's to set.
        ConflictError: the referral has ended, sharing has stopped, or the keys are elsewhere.
        TooLargeError, UnavailableError: as in `send_referral`.
    """
    agency_key(node)
    at, record = node.clock(), case.record
    if case.state(at) in TERMINAL:
        raise ConflictError("state-forbids", "This referral has ended. Nothing more is told.")
    if record.sharing_stopped_at is not None:
        raise ConflictError("sharing-stopped", "She stopped sharing. Nothing more is told.")
    between = parties(node, record.peer)
    if between.contract.digest != record.contract:
        contract = node.world().contracts.get(record.contract)
        if contract is None or not node.world().in_force(record.contract, node.agency, record.peer, node.now()):
            raise ForbiddenError("contract-not-in-force", "The contract of this referral is no longer in force.")
    else:
        contract = between.contract
    check_confirmed(node, content)
    check_no_routing(content)
    if (another := authority_refuses(case.facts, between.receiver)) is not None:
        raise refused(node, another, new=False)
    row = await node.database.read(lambda conn: load_consent(conn, record.consent_id or ""))
    consent = hers(node, row, case.facts)
    request = DisclosureRequest(
        between.sender, between.receiver, case.facts.service, content, contract, consent, as_datetime(at)
    )
    outcome = clear_later(request, kind, accepted=kind is Kind.DISCLOSURE or may_identify(case, at))
    if isinstance(outcome, Refused):
        raise refused(node, outcome, new=False)
    if consent is None:
        raise ForbiddenError("no-consent", "There is no consent record.")
    for forward in outcome.forwards if kind is Kind.INFORMATION else ():
        if anew := information_refuses(case.facts, between.receiver, forward.stage, forward.groups):
            raise refused(node, anew, new=False)
    epoch = await current_peer_epoch(node, between.receiver)
    sealed = tuple(
        _seal(node, case, forward, outcome, epoch, content, None if numbers is None else numbers + place, in_reply_to)
        for place, forward in enumerate(outcome.forwards)
    )
    return Told(outcome, consent, sealed)


def may_identify(case: Case, at: int) -> bool:
    """Whether what follows may hold who she is: after the release, which a worker or the unserved limit may delay."""
    return case.accepted(at) and case.record.disclosed_at is not None


def _plan_unconfirmed() -> ConflictError:
    sentence = "The contact plan is too old. Confirm it with her first."
    field = ProblemField(path="content.safe_contact.last_confirmed_at", code="plan-unconfirmed", sentence=sentence)
    return ConflictError("plan-unconfirmed", sentence, fields=(field,))


def _seal(
    node: Node,
    case: Case,
    forward: Forward,
    cleared: ClearedLater,
    epoch: EpochStatement,
    content: ReferralContent,
    number: int | None,
    in_reply_to: str | None,
) -> SealedMessage:
    at, record = node.clock(), case.record
    consent_ends = receipt_ends(cleared.consent.expires_at, as_datetime(at))
    expires = min(consent_ends, at + node.limits.sealed_expires_ms, latest_expiry_of_disclosure(epoch.not_after))
    if forward.kind is Kind.DISCLOSURE:
        # After an acceptance the time to answer no longer bounds it; the plan, the consent and the key do.
        plan_ends = None if content.safe_contact is None else clocks.confirmation_ends(content.safe_contact)
        expires = min(expires, plan_ends) if plan_ends is not None else expires
        if expires <= at:
            raise _plan_unconfirmed()
    posting = Posting(
        envelope_id=node.timed_id(at),
        referral=record.id,
        recipient=record.peer,
        roster=node.world().roster,
        seen=record.seen,
        created=at,
        expires=expires,
        number=number,
        in_reply_to=in_reply_to,
    )
    try:
        return seal_forward(
            forward,
            cleared.consent,
            posting,
            signers(node),
            feedback=cleared.feedback,
            epoch=epoch,
            entropy=node.entropy,
        )
    except ContentTooLargeError as error:
        raise TooLargeError("content-too-large", error.sentence) from error
