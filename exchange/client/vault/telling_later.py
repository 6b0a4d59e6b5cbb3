"""Telling the receiver more, from the agency's own machine: information, a changed plan, a fresh disclosure.

Rules:

* The gate runs again, as before the referral (`referring`), on the consent record as the node has it now. The node
  takes what is sealed only while that record is the newest.
* Where another has used the number meanwhile the record is read and this envelope sealed again (`overtaken`). What was
  handed in before it is not told twice.
* What is sealed is kept under the caller's key before it is handed in (`acts`). A repeat hands in the same: sealed anew
  it would be the newest word of all, and what has been told since the older one. Once the node has answered it hands in
  nothing.
* A disclosure has no number that the node could refuse. Where another or a plan was sealed after it, or a change of her
  plan was begun, it is not handed in any more: that is looked at before every try, also of the one call; and after the
  answer, since it may have been on its way that long. What is held then, whoever's, is deleted and asked for anew.
* A plan has one, and where a colleague's came before it the node refuses it: it is not sealed anew then. Nor is one
  sealed that was begun before a colleague's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial

from consent.receipt import receipt_ends
from contracts.model import Contract
from contracts.vocabulary import Group, ServiceType, service_of
from exchange import hand_in
from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.vault.acts import KEPT_MS, Act, LaterAct, LaterRequest, sealed_before
from exchange.client.vault.agency_keys import Identity, Keys
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import VaultError
from exchange.client.vault.overtaken import OVERTAKEN, unless_overtaken
from exchange.client.vault.referring import (
    TAKEN_NO_MORE,
    case_of,
    next_number,
    parties,
    posting,
    record_of,
    refused,
    signers,
    wire,
)
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.disclosure import ClearedLater, DisclosureRequest, Forward, Refused, clear_later
from exchange.envelope.epochs import EpochStatement, latest_expiry_of_disclosure
from exchange.envelope.kinds import Kind
from exchange.limits import LIMITS
from exchange.messages import Posting, seal_forward
from exchange.referral import clocks
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import Side
from exchange.schemas.referrals import ForwardAnswer, ReferralView
from exchange.schemas.sealing import EnvelopesRequest


def kept_for(identity: Keys, act: Act) -> LaterAct | None:
    """What was sealed for this act before; nothing where it was not begun.

    Raises:
        VaultError: `sealed-before`, `idempotency-key-reused`.
    """
    kept = identity.store.act(act.key, since=identity.clock() - KEPT_MS)
    return None if kept is None else act.told_again(kept)


async def told_again(
    identity: Keys, client: AgencyClient, request: LaterRequest, act: Act, kept: LaterAct
) -> ForwardAnswer:
    """What was sealed in an earlier call: what the gate decided then, and how the referral stands now.

    Raises:
        VaultError: `sealed-before`: it never came to the node, and something has been told since or it is too old now;
            or nobody can say whether it came.
        ProblemError: the node refuses it.
    """
    case = case_of(identity, request.referral, Side.REFERRING)
    newest = partial(_check_newest, identity, request.referral, kept) if request.kind is Kind.DISCLOSURE else None
    try:
        for place, ask in enumerate(kept.hand_ins):
            await client.sealing.hand_in(ask, idempotency_key=act.key_of(place), check=newest)
    except ProblemError as error:
        if error.problem.code in TAKEN_NO_MORE | OVERTAKEN:
            raise sealed_before(request.referral) from error
        raise
    if kept.hand_ins and newest is not None:
        await _check_still(newest, client, request.referral, case.peer)
    _remember_told(identity, request, act, kept)
    view = record_of(await client.referrals.read(request.referral), request.referral, case.peer)
    return ForwardAnswer(referral=view, fields=kept.fields)


async def tell_later(
    identity: Identity, client: AgencyClient, request: LaterRequest, act: Act, begun: LaterAct | None = None
) -> ForwardAnswer:
    """Information, a changed plan, or a fresh disclosure, through the gate again.

    Args:
        identity: who tells.
        client: of its node.
        request: what is told.
        act: of the caller: what is sealed is kept for it.
        begun: what is kept for it already.

    Raises:
        GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as in `seal`.
    """
    referral, kind, content = request.referral, request.kind, request.content
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
    # Who she is goes first: where the node refuses that (`not-told-first`) nothing else has left either.
    forwards = outcome.forwards[::-1]
    epoch = await peer_epoch(identity, client, case.peer)
    reply = await _question(client, referral) if kind is Kind.INFORMATION else None

    async def sealed(before: LaterAct | None, place: int) -> LaterAct:
        """This forward, and those behind it; the node has those before it."""
        now = record_of(await client.referrals.read(referral), referral, case.peer)
        if before is not None and before.begun:
            _check_newest(identity, referral, before)
        made = [
            seal_forward(
                forward,
                outcome.consent,
                _posting(identity, now, forward, outcome, epoch, content, behind, reply),
                signers(identity),
                feedback=outcome.feedback,
                epoch=epoch,
                entropy=identity.entropy,
            )
            for behind, forward in enumerate(forwards[place:])
        ]
        asks = [EnvelopesRequest(envelopes=(wire(one),), consent_version=read.version) for one in made]
        told_before = () if before is None else before.hand_ins[:place]
        changes = sum(kind is Kind.DISCLOSURE or Group.CONTACT.value in one.header.groups for one in made)
        later = LaterAct(
            request=act.request,
            made=case_of(identity, referral, Side.REFERRING).plan_changes + changes,
            hand_ins=(*told_before, *asks),
            fields=hand_in.field_decisions(outcome.reasons),
        )
        return _keep(identity, referral, act, later, before, [one.header.id for one in made], changes)

    kept = await sealed(begun, 0)

    async def told(place: int) -> ReferralView:
        nonlocal kept
        newest = partial(_check_newest, identity, referral, kept)
        check = newest if kind is Kind.DISCLOSURE else None
        try:
            ask, key = kept.hand_ins[place], act.key_of(place)
            answered = await client.sealing.hand_in(ask, idempotency_key=key, check=check)
        except ProblemError as error:
            if error.problem.code in OVERTAKEN:
                if content.safe_contact is not None:
                    newest()
                kept = await sealed(kept, place)
            raise
        if check is not None:
            await _check_still(check, client, referral, case.peer)
        return record_of(answered.referral, referral, case.peer)

    for place in range(len(forwards)):
        view = await unless_overtaken(partial(told, place))
    _remember_told(identity, request, act, kept)
    if kind is Kind.DISCLOSURE:
        # After an acceptance the node lets it go, or deletes it, once it has made the answer that it repeats.
        view = record_of(await client.referrals.read(referral), referral, case.peer)
    return ForwardAnswer(referral=view, fields=kept.fields)


def _keep(
    identity: Keys,
    referral: str,
    act: Act,
    later: LaterAct,
    before: LaterAct | None,
    sent: Iterable[str] = (),
    plan_changes: int = 0,
) -> LaterAct:
    at = identity.clock()
    if not identity.store.put_told(
        referral, act.key, later, before=before, at=at, sent=sent, plan_changes=plan_changes
    ):
        raise VaultError("changed-meanwhile", "Another program does this under the same key. Try again.")
    return later


def _remember_told(identity: Keys, request: LaterRequest, act: Act, kept: LaterAct) -> None:
    # Where this fails a repeat hands in the same; where her no has destroyed it meanwhile there is none.
    with contextlib.suppress(VaultError):
        _keep(identity, request.referral, act, kept.model_copy(update={"hand_ins": (), "begun": False}), kept)


def _check_newest(identity: Keys, referral: str, kept: LaterAct) -> None:
    """No disclosure or plan was sealed since, and no change of one begun; otherwise what this says may be the older."""
    if case_of(identity, referral, Side.REFERRING).plan_changes != kept.made:
        raise sealed_before(referral)


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
    identity: Identity, client: AgencyClient, request: LaterRequest, act: Act, begun: LaterAct | None
) -> ForwardAnswer:
    """As at a node with the keys: what is held with an older plan is deleted, and a receiver that may have one is told.

    What is held is deleted first, whether the new plan can be told then or not; repeat it until it is.

    Raises:
        GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as in `seal`.
    """
    case = case_of(identity, request.referral, Side.REFERRING)
    request.content.check_confirmed(identity.now())
    try:
        if begun is None:
            # It may seal nothing, and counts all the same: what was sealed before says the older plan.
            first = LaterAct(request=act.request, made=case.plan_changes + 1, begun=True)
            begun = _keep(identity, request.referral, act, first, None, plan_changes=1)
        else:
            _check_newest(identity, request.referral, begun)
    except VaultError as error:
        # A full disk here keeps no unsafe plan there.
        if error.code != "sealed-before":
            await _drop_held(client, request.referral, case.peer)
        raise
    view = await _drop_held(client, request.referral, case.peer)
    if view is None:
        return await tell_later(identity, client, request, act, begun)
    _remember_told(identity, request, act, begun)
    return ForwardAnswer(referral=view, fields=())


async def _check_still(newest: Callable[[], None], client: AgencyClient, referral: str, peer: str) -> None:
    """After the node has taken a disclosure: whichever of two was there first, one with an older plan is not released.

    Raises:
        VaultError: `sealed-before`; what is held is deleted, and a fresh one is asked for.
    """
    try:
        newest()
    except VaultError:
        await _drop_held(client, referral, peer)
        raise


async def _drop_held(client: AgencyClient, referral: str, peer: str) -> ReferralView | None:
    """How the referral stands without it; nothing where the receiver may have a plan, and has to be told."""
    try:
        dropped = await client.referrals.drop_disclosure(referral)
    except ProblemError as error:
        if error.problem.code != "already-disclosed":
            raise
        return None
    view = record_of(dropped.referral, referral, peer)
    # What was held may have followed one that was released, and the receiver may have the plan in that.
    return None if view.flags.disclosed else view


async def _question(client: AgencyClient, referral: str) -> str:
    asked = [
        item.id
        async for item in client.inbox.pages(referral=referral)
        if item.referral == referral and item.kind == Kind.INFORMATION_REQUEST
    ]
    if not asked:
        raise VaultError("nothing-asked", "The receiver has not asked for information.")
    return asked[-1]
