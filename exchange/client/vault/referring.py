"""Referring from the agency's own machine: the gate, the receipt and both seals are made here; the node sees headers.

Rules:

* The gate is the node's own code (`exchange.disclosure`), run on the contract that is on file here and on the consent
  record as the node has it now. What it lets through is sealed at this moment, to a key that the receiver has proven.
* What is needed to verify the receiver's answers is stored before anything is handed in; under a caller's key for the
  act what is handed in as well, so that a repeat hands in the same (`acts`).
* A receiver knows a survivor under one code, as long as anything of her is kept here: who seals at the same moment, in
  whichever process, seals again under the code that was stored first.
* What the gate refuses leaves this machine in no form.
* Where her plan has changed since it was sealed, or a change of it was begun, nothing is handed in: that is looked at
  before every try. Whether the node has it from a try before that, it is asked. Where it has, or takes it while the
  plan changes, a disclosure that is held is deleted and asked for anew.
* What is in doubt for hours is handed in whatever has changed: the node says whether it has it, and takes it no more.
* Which referral something is about, and with whom, says the agency's own store: nothing is sealed where the node's
  record names another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from consent.client_code import new_client_code
from contracts.vocabulary import purpose_for
from exchange import hand_in
from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.retries import may_be_stored
from exchange.client.vault.acts import KEPT_MS, Act, SealedReferral, sealed_before
from exchange.client.vault.agency_keys import Identity, Keys
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import GateRefusedError, VaultError
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.disclosure import Refused
from exchange.hand_in import Parties
from exchange.limits import HOUR_MS
from exchange.messages import Posting, SealedMessage, Signers
from exchange.referral.lifecycle import Side
from exchange.schemas.consents import ConsentView
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.referrals import ReferralCreated, ReferralPreview, ReferralRequest, ReferralView
from exchange.schemas.sealing import EnvelopesRequest

ATTEMPTS: Final = 3
_NEVER_CAME: Final = "too-old"
_NOT_FOUND: Final = 404
_NOTHING_HELD: Final = frozenset({_NOT_FOUND, 409, 410})
_CHANGED: Final = "sealed-before"
_TAKEN_NO_MORE_MS: Final = 3 * HOUR_MS
"""A node takes nothing that was sealed ten minutes ago by its clock, which may differ."""
TAKEN_NO_MORE: Final = frozenset({_NEVER_CAME, "answer-destroyed", "id-conflict"})
"""How a node refuses what never came and is too old now, and what it had and has destroyed."""
_PREVIEW_CODE: Final = "0000-0000"


async def preview(identity: Identity, client: AgencyClient, request: ReferralRequest) -> ReferralPreview:
    """What would happen, field by field. Nothing but the question for the consent leaves this machine."""
    between, consent = parties(identity, request.to), await client.consents.read(request.consent)
    at = identity.clock()
    return hand_in.preview(
        between, hand_in.judge(between, request, consent.record, client_code=_PREVIEW_CODE, at=at), at
    )


async def seal(
    identity: Identity, client: AgencyClient, request: ReferralRequest, act: Act | None = None
) -> SealedReferral:
    """Seal offer and disclosure.

    Args:
        identity: who seals.
        client: of its node.
        request: what is referred.
        act: of the caller: what is sealed for it is kept, and whoever seals for it later gets the same.

    Raises:
        GateRefusedError: contract or consent says no.
        VaultError: receiver, contract or keys are not known here; or `changed-meanwhile`.
        ContentInvalidError, ContentTooLargeError: the content cannot be sent as it is.
        ProblemError: the node does not know the consent or the receiver.
    """
    between, consent = parties(identity, request.to), await client.consents.read(request.consent)
    for _ in range(ATTEMPTS):
        sealed = await _seal_once(identity, client, between, consent, request, act)
        if sealed is None and act is not None:
            # Another program has begun the very act meanwhile, or referred her otherwise.
            sealed = kept_for(identity, act)
        if sealed is not None:
            return sealed
    raise VaultError("changed-meanwhile", "Others refer her at the same moment. Try again.")


def kept_for(identity: Keys, act: Act) -> SealedReferral | None:
    """What was sealed for this act before; nothing where it was not begun.

    Raises:
        VaultError: `sealed-before`, `idempotency-key-reused`.
    """
    kept = identity.store.act(act.key, since=identity.clock() - KEPT_MS)
    return None if kept is None else act.again(kept)


async def _seal_once(
    identity: Identity,
    client: AgencyClient,
    between: Parties,
    consent: ConsentView,
    request: ReferralRequest,
    act: Act | None,
) -> SealedReferral | None:
    """Nothing, where the receiver has come to know her under another code meanwhile."""
    known = identity.store.client_code(consent.subject, request.to)
    code = known or new_client_code(identity.entropy(8))
    at = identity.clock()
    judged = hand_in.judge(between, request, consent.record, client_code=code, at=at)
    cleared = judged.outcome
    if isinstance(cleared, Refused):
        raise refused(cleared)
    epoch = await peer_epoch(identity, client, request.to)
    referral = identity.timed_id(at)
    sealed = hand_in.seal_both(
        between,
        judged,
        cleared,
        signers(identity),
        referral=referral,
        at=at,
        held_expires=hand_in.held_until(request, judged, cleared, epoch, at),
        epoch=epoch,
        entropy=identity.entropy,
    )
    both = [sealed.offer] if sealed.held is None else [sealed.offer, sealed.held]
    case = VaultCase(
        side=Side.REFERRING,
        peer=request.to,
        contract=between.contract.digest,
        purpose=purpose_for(request.service_type),
        offer=sealed.offer.header.id,
        feedback=cleared.feedback,
        sent=tuple(one.header.id for one in both),
        consent=consent.id,
        subject=consent.subject,
        client_code=code,
        known_since=at,
    )
    held = sealed.held is not None
    ask = EnvelopesRequest(
        envelopes=tuple(wire(one) for one in both),
        consent=consent.id,
        consent_version=consent.version,
        disclosure_follows=True if cleared.disclosure is not None and not held else None,
    )
    created = hand_in.created(between, judged, cleared, referral=referral, client_code=code, held=held)
    done = SealedReferral(ask, created)
    key, kept = (act.key, act.sealed(done)) if act is not None else (None, None)
    return done if identity.store.put_sealed_case(referral, case, key=key, act=kept) else None


async def handed_in(
    identity: Keys, client: AgencyClient, sealed: SealedReferral, idempotency_key: str | None
) -> ReferralCreated:
    """Hand in, and remember that the node has it; before, that it may have.

    Raises:
        VaultError: `destroyed`; `sealed-before`: her plan has changed since, and the node does not have it.
        ProblemError: the node refuses it.
    """
    referral, first = sealed.created.id, True

    def begun(known: VaultCase) -> VaultCase:
        nonlocal first
        _check_plan(identity, referral, known)
        first = not known.may_be_at_node()
        return known.with_begun()

    try:
        identity.store.change_case(referral, begun)
        await client.sealing.hand_in(
            sealed.hand_in,
            idempotency_key=idempotency_key,
            check=lambda: _check_plan(identity, referral, case_of(identity, referral, Side.REFERRING)),
        )
    except VaultError as changed:
        if changed.code != _CHANGED:
            raise
        await _check_there(identity, client, referral)
    except ProblemError as refused:
        # Who sends it again may be refused for what has changed since it was taken.
        if refused.problem.code == _NEVER_CAME or (first and not may_be_stored(refused.problem.status)):
            _remember(identity, referral, VaultCase.with_refused)
        raise
    await _drop_older(identity, client, referral)
    remember_handed_in(identity, referral)
    return sealed.created


def _check_plan(identity: Keys, referral: str, known: VaultCase) -> None:
    """What is sealed with a referral is not counted: its plan is her newest as long as nothing is.

    Raises:
        VaultError: `sealed-before`.
    """
    if known.plan_changes and identity.clock() < known.known_since + _TAKEN_NO_MORE_MS:
        raise sealed_before(referral)


async def _drop_older(identity: Keys, client: AgencyClient, referral: str) -> None:
    """Her plan changed before the node had said that it has the referral: what is held there has the older one inside.

    Raises:
        ProblemError: the node does not say that nothing is held any more.
    """
    case = identity.store.case(referral)
    if case is None or case.handed_in or not case.plan_changes:
        return
    try:
        await client.referrals.drop_disclosure(referral)
    except ProblemError as refused:
        if refused.problem.status not in _NOTHING_HELD:
            raise


async def _check_there(identity: Keys, client: AgencyClient, referral: str) -> None:
    """The node has what was sealed, from a try before.

    Raises:
        VaultError: `sealed-before`: it does not, or has destroyed it.
        ProblemError: it does not say.
    """
    case = case_of(identity, referral, Side.REFERRING)
    try:
        view = record_of(await client.referrals.read(referral), referral, case.peer)
    except ProblemError as refused:
        if refused.problem.status == _NOT_FOUND:
            raise sealed_before(referral) from refused
        raise
    if view.flags.destroyed:
        raise sealed_before(referral)


async def handed_in_again(
    identity: Keys, client: AgencyClient, sealed: SealedReferral, idempotency_key: str
) -> ReferralCreated:
    """The same, of what was sealed in an earlier call.

    Raises:
        VaultError: `sealed-before`: it never came to the node, and is too old now, or was destroyed there.
        ProblemError: the node refuses it.
    """
    try:
        return await handed_in(identity, client, sealed, idempotency_key)
    except ProblemError as refused:
        if refused.problem.code in TAKEN_NO_MORE:
            raise sealed_before(sealed.created.id) from refused
        raise


def remember_handed_in(identity: Keys, referral: str) -> None:
    """The node has said that it has it. From now on it is not taken for one that never came."""
    _remember(identity, referral, VaultCase.with_handed_in)


def _remember(identity: Keys, referral: str, change: Callable[[VaultCase], VaultCase]) -> None:
    # Where her no has destroyed it already there is nothing left to remember it with.
    with contextlib.suppress(VaultError):
        identity.store.change_case(referral, change)


def record_of(view: ReferralView, referral: str, peer: str) -> ReferralView:
    """The node's record, if it is of this referral with this agency: what is signed names both.

    Raises:
        VaultError: `changed-at-node`.
    """
    if (view.id, view.peer) != (referral, peer):
        raise VaultError("changed-at-node", "The node answers about another referral than the one you named.")
    return view


def posting(
    identity: Identity, view: ReferralView, at: int, *, expires: int, number: int | None, in_reply_to: str | None = None
) -> Posting:
    """What stands in the header of a word about a referral, after its record was read."""
    return Posting(
        envelope_id=identity.timed_id(at),
        referral=view.id,
        recipient=view.peer,
        roster=identity.roster,
        seen=view.seen,
        created=at,
        expires=expires,
        number=number,
        in_reply_to=in_reply_to,
    )


def next_number(view: ReferralView, at: int) -> int:
    """The lowest number that a new event may have."""
    return max(at, view.number + 1)


def parties(identity: Identity, receiver: str) -> Parties:
    """This agency, the receiver, and the contract in force between them, by the roster here."""
    return Parties(identity.roster, identity.me, identity.member(receiver), identity.contract_with(receiver))


def signers(identity: Identity) -> Signers:
    """The agency key alone."""
    return Signers(identity.me.agency, identity.key, None)


def wire(sealed: SealedMessage) -> WireEnvelope:
    """As it is handed in."""
    return WireEnvelope.model_validate(sealed.envelope.to_json())


def refused(outcome: Refused) -> GateRefusedError:
    """The gate's no."""
    return GateRefusedError(outcome.code, outcome.sentence, hand_in.field_decisions(outcome.reasons))


def case_of(identity: Keys, referral: str, side: Side) -> VaultCase:
    """What is known here of a referral.

    Raises:
        VaultError: `unknown-referral`.
    """
    case = identity.store.case(referral)
    if case is None or case.side is not side:
        raise VaultError("unknown-referral", "This key store knows no such referral. Open its offer first.")
    return case
