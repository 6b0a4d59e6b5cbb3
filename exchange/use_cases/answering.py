"""The receiving side's word: through the feedback rule, sealed to the referring agency, stored with its event.

A word that the feedback level keeps at home is an event all the same: it is this agency's own record, and what its next
step is judged by.

A word whose envelope was destroyed before it arrived (its receiver was suspended for a while), or refused, goes again
when a worker says it again; one without which a later word may count for nothing also when that is said
(`feedback.counted_by`). It is the same event, sealed anew with its own number, `seen` and time: if it has arrived after
all, it says nothing new, also where it has ended the referral. After her no, a recall or an error nothing goes again
(`use_cases.unheard`), nor along with an agreement to a recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from contracts.vocabulary import Purpose
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.kinds import Kind
from exchange.feedback import Answer, Kept, counted_by
from exchange.messages import AnswerTerms, Posting, SealedMessage, seal_answer
from exchange.referral.events import PROMISES
from exchange.referral.lifecycle import EventName
from exchange.roster import Status
from exchange.schemas.inbox import ReferralAct
from exchange.schemas.problems import ProblemField
from exchange.storage.database import Connection
from exchange.storage.outbox import is_of_kind, mark_attempted, may_have_arrived
from exchange.storage.referrals import EventRecord, ReferralRecord, add_event, hold_referrals, remove_events
from exchange.use_cases.acting import Acting
from exchange.use_cases.branches import taken_over
from exchange.use_cases.cases import Case, audit, new_event
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.errors import ForbiddenError
from exchange.use_cases.facts import seal_facts
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key, current_peer_epoch, put_out, signers
from exchange.use_cases.unheard import heard_again, unheard
from exchange.use_cases.views import referral_view

_OVER: Final = frozenset({EventName.COMPLETED, EventName.FAILED})


async def say(
    node: Node, acting: Acting, case: Case, word: Answer | Kept, name: EventName, *, detail: str | None = None
) -> ReferralAct:
    """Store the event, and queue what may travel.

    Raises:
        ConflictError: the event is not legal now, or the agency's keys are elsewhere.
        UnavailableError: the referring agency's key is not known.
        StaleReferralError: take the step again.
    """
    if isinstance(word, Answer):
        agency_key(node)
    event = new_event(node, case, name)
    sealed = await _sealed(node, case, word, event) if isinstance(word, Answer) else None
    event = event._replace(shared=sealed is not None, digest=sealed.digest if sealed is not None else None)
    along = await _going_along(node, case, name, case.words())

    def commit(conn: Connection) -> ReferralAct:
        mine = taken_over(case.record, acting.unit)
        if detail is not None:
            facts = case.facts.model_copy(update={"own_word": detail})
            mine = mine._replace(sealed_facts=seal_facts(node, mine.id, facts))
        for anew in along:
            mine = goes_again(node, conn, mine, anew)
        record = change_referral(node, conn, mine, what=name.value, events=[event])
        if sealed is not None:
            put_out(node, conn, sealed)
        audit(conn, node, acting, f"said-{name}", [case.record.id])
        return ReferralAct(referral=referral_view(record))

    return await node.database.write(commit)


async def say_again(node: Node, acting: Acting, case: Case, word: Answer | Kept) -> ReferralAct:
    """The latest word was said again: nothing new, unless its envelope came to nothing, or one's that it counts by.

    Then it goes once more, and what it counts by before it.

    Raises:
        ForbiddenError: it would be a promise that nobody has heard, and this agency has left the federation.
        UnavailableError, StaleReferralError: as `say`.
    """
    *before, last = case.words()
    going = await _going_along(node, case, EventName(last.name), before)
    latest = await _sealed_anew(node, case, word, last) if isinstance(word, Answer) else None
    if latest is not None:
        going.append(latest)
    if not going:
        return ReferralAct(referral=referral_view(case.record), repeated=True)
    refuse_promise_if_left(node, EventName(last.name))

    def commit(conn: Connection) -> ReferralAct:
        mine = taken_over(case.record, acting.unit)
        for anew in going:
            mine = goes_again(node, conn, mine, anew)
        record = change_referral(node, conn, mine, what=last.name)
        audit(conn, node, acting, f"said-again-{last.name}", [record.id])
        return ReferralAct(referral=referral_view(record), repeated=True)

    return await node.database.write(commit)


class Anew(NamedTuple):
    """An event of which nobody else has heard, sealed once more."""

    event: EventRecord
    sealed: SealedMessage


async def _going_along(node: Node, case: Case, name: EventName, before: Sequence[EventRecord]) -> list[Anew]:
    """What a word of this name may count for nothing without, of what was said before it and nobody has heard."""
    if name is EventName.RECALLED or not case.record.undeliverable:
        return []  # who agrees to a recall leaves it as the other agency sees it
    going = []
    for word in counted_by(level=case.facts.feedback, sharing_stopped=case.record.sharing_stopped_at is not None):
        for event in before:
            # An answer to a recall is none that it lacks: the next word answers it as well.
            if event.name != word.event or await answers_a_recall(node, case, event):
                continue
            anew = await _sealed_anew(node, case, word, event)
            going += [anew] if anew is not None else []
    return going


async def _sealed_anew(node: Node, case: Case, word: Answer, event: EventRecord) -> Anew | None:
    if node.keyring is None or not await may_go_again(node, case, event):
        return None  # what the agency's own software has sealed, it seals again (`use_cases.sealed_answer`)
    return Anew(event, await _sealed(node, case, word, event))


async def may_go_again(node: Node, case: Case, event: EventRecord) -> bool:
    """Whether the envelope of an own event has come to nothing, its time is not over, and nobody has stopped since."""
    record = case.record
    # Whatever came to nothing has been told as undeliverable.
    if not record.undeliverable or node.clock() >= event.at + node.limits.answer_expires_ms:
        return False
    return event.digest in await node.database.read(lambda conn: unheard(conn, record))


async def answers_a_recall(node: Node, case: Case, event: EventRecord) -> bool:
    """Whether an own event was said as the answer to a recall: that it goes on, or is over, may be progress as well."""
    record, digest = case.record, event.digest or ""
    return await node.database.read(lambda conn: is_of_kind(conn, record.id, Kind.RECALL_ANSWER.value, digest))


def goes_again(node: Node, conn: Connection, record: ReferralRecord, anew: Anew) -> ReferralRecord:
    """Queue it, as the envelope of the event that is on record."""
    hold_referrals(conn, [record.id])
    before = anew.event.digest or ""
    remove_events(conn, record.id, [before])
    add_event(conn, anew.event._replace(digest=anew.sealed.digest))
    put_out(node, conn, anew.sealed)
    since = may_have_arrived(conn, record.id, before)
    if since is not None and anew.event.name not in _OVER:
        # Her no must not take back what the other one may know. Of an ending it takes back only how.
        mark_attempted(conn, [anew.sealed.header.id], since)
    return heard_again(conn, record)


async def _sealed(node: Node, case: Case, word: Answer, event: EventRecord) -> SealedMessage:
    peer = node.world().roster.members.get(case.record.peer)
    if peer is None:
        raise ForbiddenError("receiver-not-active", "The roster does not list the referring agency. Telephone it.")
    epoch = await current_peer_epoch(node, peer)
    return seal_word(node, case.record, word, event, epoch, offer=case.facts.offer, purpose=case.facts.purpose)


def refuse_promise_if_left(node: Node, name: EventName) -> None:
    """Nothing, unless this agency has left the federation and somebody would count on what it says.

    Raises:
        ForbiddenError: `sender-not-active`: no other node takes its answers any more.
    """
    own = node.world().roster.members.get(node.agency)
    if name in PROMISES and own is not None and own.status is Status.LEFT:
        raise ForbiddenError(
            "sender-not-active",
            "Your agency has left the federation: its answers are not taken any more. Telephone the referring agency.",
        )


def seal_word(
    node: Node,
    record: ReferralRecord,
    word: Answer,
    event: EventRecord,
    epoch: EpochStatement,
    *,
    offer: str,
    purpose: Purpose,
) -> SealedMessage:
    """This side's event, sealed to the referring agency: number, `seen` and time are the event's own."""
    posting = Posting(
        envelope_id=node.timed_id(event.at),
        referral=record.id,
        recipient=record.peer,
        roster=node.world().roster,
        seen=event.seen,
        created=event.at,
        expires=event.at + node.limits.answer_expires_ms,
        number=event.number,
        in_reply_to=offer,
    )
    terms = AnswerTerms(record.contract, purpose)
    return seal_answer(word, terms, posting, signers(node), epoch=epoch, entropy=node.entropy)


def repeated(case: Case, name: EventName, detail: str | None = None) -> bool:
    """Whether this side's latest word is the same again, with the same reason, outcome or question if there is one."""
    words = case.words()
    return bool(words) and words[-1].name == name and detail in (None, case.facts.own_word)


def misplaced(member: str, word: str) -> ProblemField:
    """A member of a request that belongs to another word than the one that is said."""
    return ProblemField(path=member, code="misplaced", sentence=f"`{member}` belongs to `{word}`, and only there.")
