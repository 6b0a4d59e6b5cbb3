"""Telling the receiver more, from the agency's own machine: information, a changed plan, a fresh disclosure.

Rules:

* The gate runs again, as before the referral (`referring`), on the consent record as the node has it now. The node
  takes what is sealed only while that record is the newest.
* Where another has used the number meanwhile the record is read and this envelope sealed again (`overtaken`). What was
  handed in before it is not told twice.
"""

from __future__ import annotations

from functools import partial

from consent.receipt import receipt_ends
from contracts.model import Contract
from contracts.vocabulary import ServiceType, service_of
from exchange import hand_in
from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import VaultError
from exchange.client.vault.overtaken import unless_overtaken
from exchange.client.vault.referring import case_of, next_number, parties, posting, record_of, refused, signers, wire
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.disclosure import ClearedLater, DisclosureRequest, Forward, Refused, clear_later
from exchange.envelope.epochs import EpochStatement, latest_expiry_of_disclosure
from exchange.envelope.kinds import Kind
from exchange.limits import LIMITS
from exchange.messages import Posting, seal_forward
from exchange.referral import clocks
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import Side
from exchange.schemas.referrals import ForwardAnswer, ReferralView
from exchange.schemas.sealing import EnvelopesRequest


async def tell_later(
    identity: Identity, client: AgencyClient, referral: str, kind: Kind, content: ReferralContent
) -> ForwardAnswer:
    """Information, a changed plan, or a fresh disclosure, through the gate again.

    Raises:
        GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as in `seal`.
    """
    case = case_of(identity, referral, Side.REFERRING)
    between = parties(identity, case.peer)
    contract, service = _terms(identity, case)
    read = await client.consents.read(case.consent or "")
    view = record_of(await client.referrals.read(referral), referral, case.peer)
    consent, at = read.record, identity.now()
    content.check_confirmed(at)
    asked = DisclosureRequest(between.sender, between.receiver, service, content, contract, consent, at)
    # As at the node: who she is follows a release only (`use_cases.telling_later`).
    outcome = clear_later(asked, kind, accepted=kind is Kind.DISCLOSURE or view.flags.disclosed)
    if isinstance(outcome, Refused):
        raise refused(outcome)
    epoch = await peer_epoch(identity, client, case.peer)
    reply = await _question(client, referral) if kind is Kind.INFORMATION else None

    async def told(forward: Forward, place: int) -> ReferralView:
        now = record_of(await client.referrals.read(referral), referral, case.peer)
        header = _posting(identity, now, forward, outcome, epoch, content, place, reply)
        sealed = seal_forward(
            forward,
            outcome.consent,
            header,
            signers(identity),
            feedback=outcome.feedback,
            epoch=epoch,
            entropy=identity.entropy,
        )
        identity.store.change_case(referral, partial(VaultCase.with_sent, envelope=sealed.header.id))
        ask = EnvelopesRequest(envelopes=(wire(sealed),), consent_version=read.version)
        return record_of((await client.sealing.hand_in(ask)).referral, referral, case.peer)

    for place, forward in enumerate(outcome.forwards):
        view = await unless_overtaken(partial(told, forward, place))
    if kind is Kind.DISCLOSURE:
        # After an acceptance the node lets it go, or deletes it, once it has made the answer that it repeats.
        view = record_of(await client.referrals.read(referral), referral, case.peer)
    return ForwardAnswer(referral=view, fields=hand_in.field_decisions(outcome.reasons))


def _terms(identity: Identity, case: VaultCase) -> tuple[Contract, ServiceType]:
    contract, service = identity.contracts.get(case.contract), service_of(case.purpose)
    if contract is None or service is None:
        raise VaultError("no-contract", "The contract of this referral is not on file here.")
    if contract.digest not in identity.roster.contract_in_force(identity.me.agency, case.peer, identity.now()):
        # It is on file to open what came under it. What is sealed under it now only a node could hold back.
        raise VaultError("contract-not-in-force", "The contract of this referral is no longer in force.")
    return contract, service


def _posting(
    identity: Identity,
    view: ReferralView,
    forward: Forward,
    cleared: ClearedLater,
    epoch: EpochStatement,
    content: ReferralContent,
    place: int,
    in_reply_to: str | None,
) -> Posting:
    at = identity.clock()
    consent_ends = receipt_ends(cleared.consent.expires_at, identity.now())
    expires = min(consent_ends, at + LIMITS.sealed_expires_ms, latest_expiry_of_disclosure(epoch.not_after))
    disclosing = forward.kind is Kind.DISCLOSURE
    if disclosing:
        # After an acceptance the time to answer no longer bounds it; the plan, the consent and the key do.
        plan_ends = None if content.safe_contact is None else clocks.confirmation_ends(content.safe_contact)
        expires = min(expires, plan_ends) if plan_ends is not None else expires
        if expires <= at:
            raise VaultError("plan-unconfirmed", "The contact plan is too old. Confirm it with her first.")
    number = None if disclosing else next_number(view, at) + place
    return posting(identity, view, at, expires=expires, number=number, in_reply_to=in_reply_to)


async def update_safe_contact(
    identity: Identity, client: AgencyClient, referral: str, plan: SafeContact
) -> ForwardAnswer:
    """As at a node with the keys: what is held with an older plan is deleted, and a receiver that may have one is told.

    What is held is deleted first, whether the new plan can be told then or not; repeat it until it is.

    Raises:
        GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as in `seal`.
    """
    case = case_of(identity, referral, Side.REFERRING)
    content = ReferralContent(safe_contact=plan)
    content.check_confirmed(identity.now())
    try:
        dropped = await client.referrals.drop_disclosure(referral)
    except ProblemError as error:
        if error.problem.code != "already-disclosed":
            raise
    else:
        view = record_of(dropped.referral, referral, case.peer)
        # What was held may have followed one that was released, and the receiver may have the plan in that.
        if not view.flags.disclosed:
            return ForwardAnswer(referral=view, fields=())
    return await tell_later(identity, client, referral, Kind.UPDATE, content)


async def _question(client: AgencyClient, referral: str) -> str:
    asked = [
        item.id
        async for item in client.inbox.pages(referral=referral)
        if item.referral == referral and item.kind == Kind.INFORMATION_REQUEST
    ]
    if not asked:
        raise VaultError("nothing-asked", "The receiver has not asked for information.")
    return asked[-1]
