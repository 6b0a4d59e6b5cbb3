"""Answering from the agency's own machine: decision, progress and recall.

Rules:

* What may travel is the feedback rule's to say (`exchange.feedback`), by the level that stood inside the offer. What it
  keeps at home is told to the node as progress, which is not sealed and goes no further.
* The digest of an acceptance is stored before it is handed in: the disclosure that it releases has to name it.
* What was said last of the service, by which a recall is answered, is stored before it is handed in, and taken back
  where the node refuses it, to what stood there when it was stored; not where another program has said something since.
* Numbers and what was seen come from the node's record of the referral, and are checked by it again. Where another has
  used the number meanwhile the record is read, and the word judged and sealed, again (`overtaken`).
* Which word the node has on record it says by its answer. What was handed in and not answered is kept beside the one
  that is known to stand, and takes its place only once the node has said that it has stored it.
* A word that came to nothing on its way (the node says `undeliverable`) and is said again is the same event, sealed
  anew with the number and the time of the first: the node lets it go instead. So it does with one without which the
  next word may count for nothing, before that. A question for information is another question, and is asked as one.
* The node cannot read what a word says. That the same word with another reason, service or outcome is refused, as where
  the node has the keys, is for this software to see to: a digest of what was said is kept. Once she has stopped sharing
  no more than the word itself is told.
* Progress that the node takes for too much is handed in once more after the node has been told how much may be.
* Which referral it is and with whom says the agency's own store: a record of another is answered with nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.client.retries import may_be_stored
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.cases import VaultCase, Word
from exchange.client.vault.errors import VaultError
from exchange.client.vault.overtaken import unless_overtaken
from exchange.client.vault.referring import case_of, next_number, posting, record_of, signers, wire
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.envelope.kinds import Kind
from exchange.feedback import Answer, Kept, answer, answer_recall, counted_by
from exchange.limits import LIMITS
from exchange.messages import AnswerTerms, SealedMessage, seal_answer
from exchange.referral.answers import (
    Decision,
    DecisionContent,
    InformationRequestContent,
    Progress,
    ProgressContent,
    RecallAnswerContent,
)
from exchange.referral.events import PROMISES
from exchange.referral.lifecycle import EventName, Side, State
from exchange.roster import Status
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import DecisionRequest, OpeningRequest, ProgressRequest, RecallAnswerRequest, ReferralAct
from exchange.schemas.referrals import ReferralView
from exchange.schemas.sealing import EnvelopesRequest
from exchange.schemas.shapes import written

_NOT_ON_RECORD: Final = frozenset({"too-old", "number-not-higher"})
"""Said of an event sealed anew: the first time it never reached the node, or something has been said since."""


async def decide(identity: Identity, client: AgencyClient, referral: str, request: DecisionRequest) -> ReferralView:
    """The agency's word on an offer.

    Raises:
        VaultError: `decision-invalid`; the referral or the sender's keys are not known here; `state-forbids`: it was
            said with another reason or service; `sender-not-active`: it would be a promise that nobody has heard, and
            this agency has left the federation.
        ProblemError: the state forbids it.
    """
    content: DecisionContent | InformationRequestContent
    try:
        if request.decision == "information-requested":
            content = InformationRequestContent(fields=request.fields)
        else:
            content = DecisionContent(
                decision=Decision(request.decision), reason=request.reason, suggested_service=request.suggested_service
            )
    except ValidationError:
        raise VaultError("decision-invalid", "This decision is incomplete or contradicts itself.") from None
    case = case_of(identity, referral, Side.RECEIVING)

    async def said() -> ReferralView:
        view = record_of(await client.referrals.read(referral), referral, case.peer)
        word = answer(content, level=case.feedback, sharing_stopped=view.flags.sharing_stopped)
        if isinstance(word, Kept):
            raise VaultError(word.code, word.sentence)
        _refuse_promise_if_left(identity, case, view, word)
        if identity.me.status is not Status.LEFT:
            await _said_before(identity, client, case, view, word)
        return (await _say(identity, client, case, view, word)).referral

    return await unless_overtaken(said)


def _refuse_promise_if_left(identity: Identity, case: VaultCase, view: ReferralView, word: Answer) -> None:
    """A new promise of who has left the node refuses; this one it would take for what goes along with the next word."""
    left = identity.me.status is Status.LEFT and word.event in PROMISES
    if left and view.flags.undeliverable and case.unheard(word.event, at=identity.clock(), number=view.number):
        raise VaultError("sender-not-active", "Your agency has left the federation. Telephone the referring agency.")


async def report(identity: Identity, client: AgencyClient, referral: str, request: ProgressRequest) -> ReferralAct:
    """How the service goes, as far as it may be told; and whether the other agency hears of it at all.

    Raises:
        VaultError: `progress-invalid`; the referral or the sender's keys are not known here; `state-forbids`: it was
            said with another outcome or reason.
        ProblemError: the state forbids it.
    """
    try:
        content = ProgressContent(
            state=Progress(request.state), outcome=request.outcome, fail_reason=request.fail_reason
        )
    except ValidationError:
        raise VaultError("progress-invalid", "This progress contradicts itself.") from None
    try:
        return await unless_overtaken(lambda: _reported(identity, client, referral, request, content))
    except ProblemError as refused:
        if refused.problem.code != "feedback-level" or not await _level_told(identity, client, referral):
            raise
    return await unless_overtaken(lambda: _reported(identity, client, referral, request, content))


async def _level_told(identity: Identity, client: AgencyClient, referral: str) -> bool:
    """Tell the node the level that stood inside the offer; False where it takes no word about it any more.

    The program that opened the offer may have died before it did, and until then the node lets the least of all pass.
    """
    case = case_of(identity, referral, Side.RECEIVING)
    taken = identity.store.taken(case.offer)
    if taken is None:
        return False
    try:
        await client.inbox.take_over(case.offer, OpeningRequest(digest=taken.digest, feedback=case.feedback))
    except ProblemError:
        return False
    return True


async def _reported(
    identity: Identity, client: AgencyClient, referral: str, request: ProgressRequest, content: ProgressContent
) -> ReferralAct:
    case = case_of(identity, referral, Side.RECEIVING)
    view = record_of(await client.referrals.read(referral), referral, case.peer)
    word = answer(content, level=case.feedback, sharing_stopped=view.flags.sharing_stopped)
    await _said_before(identity, client, case, view, word)
    if isinstance(word, Kept):
        # The node's own record: it is not sealed, goes nowhere, and says the state alone.
        act = await client.inbox.report_progress(case.offer, ProgressRequest(state=request.state))
        identity.store.change_case(referral, lambda known: known.with_said(EventName(request.state)))
        # Only what was said before she stopped sharing may have been told. That much is the node's word.
        told = act.repeated and act.stays_here is None and word.code == "sharing-stopped"
        return act.model_copy(update={"stays_here": None if told else word.code})
    return await _say(identity, client, case, view, word)


async def answer_to_recall(
    identity: Identity, client: AgencyClient, referral: str, request: RecallAnswerRequest
) -> ReferralView:
    """Whether the service ends, now that the referring agency asked for the referral back.

    Raises:
        VaultError: `no-recall`: the service had not begun, so there is nothing to answer.
    """

    async def said() -> ReferralView:
        # What was said last of the service may be another word than before.
        case = case_of(identity, referral, Side.RECEIVING)
        view = record_of(await client.referrals.read(referral), referral, case.peer)
        if case.served is None:
            raise VaultError("no-recall", "The service had not begun, so there is nothing to answer.")
        word = answer_recall(RecallAnswerContent(agreed=request.agreed), state=case.served)
        await _said_before(identity, client, case, view, word)
        return (await _say(identity, client, case, view, word)).referral

    return await unless_overtaken(said)


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """One answer, ready to be handed in."""

    message: SealedMessage

    @property
    def wire(self) -> WireEnvelope:
        """As it is handed in."""
        return wire(self.message)


async def sealed_answer(
    identity: Identity,
    client: AgencyClient,
    case: VaultCase,
    view: ReferralView,
    word: Answer,
    first: Word | None = None,
) -> SealedAnswer:
    """Seal what the feedback rule let through; as the event that was said `first`, if it was."""
    epoch, at = await peer_epoch(identity, client, case.peer), identity.clock()
    number = next_number(view, at)
    if first is not None:
        number, at = first.number, first.at
        view = view.model_copy(update={"seen": first.seen})
    sealed = seal_answer(
        word,
        AnswerTerms(case.contract, case.purpose),
        posting(
            identity,
            view,
            at,
            expires=at + LIMITS.answer_expires_ms,
            number=number,
            in_reply_to=case.offer,
        ),
        signers(identity),
        epoch=epoch,
        entropy=identity.entropy,
    )
    return SealedAnswer(sealed)


async def _say(
    identity: Identity, client: AgencyClient, case: VaultCase, view: ReferralView, word: Answer
) -> ReferralAct:
    again = None
    if word.kind is not Kind.INFORMATION_REQUEST:
        known = case.unheard(word.event, at=identity.clock(), number=view.number)
        if word.kind is Kind.RECALL_ANSWER:
            # Not progress of before the recall: the answer is an event of its own, which has seen it. Nor the answer to
            # an earlier one: as long as this one waits, none is on record.
            asked = view.state is State.RECALL_REQUESTED
            known = () if asked else tuple(one for one in known if not one.said)
        again = await _said_anew(identity, client, case, view, word, known)
    return again or await _hand_in(identity, client, case, view, word)


async def _said_before(
    identity: Identity, client: AgencyClient, case: VaultCase, view: ReferralView, word: Answer | Kept
) -> None:
    """What a word may count for nothing without goes along, before it; not with an agreement to a recall."""
    if isinstance(word, Answer) and word.event is EventName.RECALLED:
        return
    for one in counted_by(level=case.feedback, sharing_stopped=view.flags.sharing_stopped):
        if isinstance(word, Answer) and (one.kind, one.event) == (word.kind, word.event):
            continue
        known = case.goes_along(one.event, at=identity.clock(), number=view.number)
        await _said_anew(identity, client, case, view, one, known)


async def _said_anew(
    identity: Identity,
    client: AgencyClient,
    case: VaultCase,
    view: ReferralView,
    word: Answer,
    known: tuple[Word, ...],
) -> ReferralAct | None:
    """A word that came to nothing, as the event that it was; nothing where it did not, or is not on record there.

    `known`: the events that it may be, in the order in which the node is asked. Which is on record it alone knows.
    """
    if not view.flags.undeliverable:
        return None
    said = _digest(identity, word)
    for first in known:
        # The answer to a recall says by itself only that it goes on, or is over.
        other = first.contradicts(said) if first.said else case.contradicted(word.event, said, number=view.number)
        if other and not view.flags.sharing_stopped:
            # It may never have reached the node, and another word have come to nothing: which stands the node says.
            continue
        try:
            return await _hand_in(identity, client, case, view, word, first)
        except ProblemError as refused:
            if refused.problem.code not in _NOT_ON_RECORD:
                raise
    return None


async def _hand_in(
    identity: Identity,
    client: AgencyClient,
    case: VaultCase,
    view: ReferralView,
    word: Answer,
    first: Word | None = None,
) -> ReferralAct:
    sealed = (await sealed_answer(identity, client, case, view, word, first)).message
    accepting = sealed.digest if word.event is EventName.ACCEPTED else None
    header, sent, before = sealed.header, sealed.header.id, case
    its = Word(number=header.number or 0, seen=header.seen, at=header.created, said=_digest(identity, word))

    def said(known: VaultCase) -> VaultCase:
        nonlocal before
        before = known
        return known.with_sent(sent, accepting=accepting).with_said(word.event, its)

    identity.store.change_case(view.id, said)
    # Sealed anew its header cannot say that her no was seen; without it the node takes nothing of how it ended.
    knew_her_no = True if first is not None and view.flags.sharing_stopped else None
    ask = EnvelopesRequest(envelopes=(wire(sealed),), sharing_stopped=knew_her_no)
    try:
        answered = await client.sealing.hand_in(ask)
    except ProblemError as refused:
        if not may_be_stored(refused.problem.status):
            # Where her no has destroyed it meanwhile nothing is left to answer a recall with.
            with contextlib.suppress(VaultError):
                identity.store.change_case(view.id, lambda known: known.with_unsaid(word.event, its, sent, before))
        raise
    # Said again it has to be the event on record, with the number and the time of then.
    with contextlib.suppress(VaultError):
        identity.store.change_case(
            view.id,
            lambda known: (
                known.with_stored(word.event, its)
                if answered.envelopes
                else known.with_repeated(word.event, its, sent, before)
            ),
        )
    if not answered.envelopes and first is None and not view.flags.sharing_stopped:
        _refuse_another(before, word.event, its, answered.referral.number)
    return ReferralAct(referral=answered.referral, repeated=not answered.envelopes)


def _digest(identity: Identity, word: Answer) -> str:
    """Of what is said; nothing of the answer to a recall, which may be the event that progress was before."""
    return "" if word.kind is Kind.RECALL_ANSWER else identity.keyed_digest("word", written(word.content))


def _refuse_another(before: VaultCase, event: EventName, now: Word, on_record: int) -> None:
    """The same word, with something else inside, does not go: the one on record stands on both sides.

    Raises:
        VaultError: `state-forbids`.
    """
    if before.contradicted(event, now.said, number=on_record):
        raise VaultError(
            "state-forbids",
            "This was said before with another reason, service or outcome, and that stands. Nothing was sent. "
            "Telephone the other agency.",
        )
