"""The receiving side's word, sealed by its own software; and its signed word that its copies are destroyed.

Rules:

* The referral is one that this agency received, contract and purpose are the referral's own, and what it answers
  arrived for it.
* The event that the header names is legal and in time; its number is higher than any before it, and it claims to have
  seen nothing that has not arrived.
* Only what the feedback level lets travel does: below it, and once she stopped sharing, only that the service is over.
  How it ended this node cannot read: what was sealed before her no had been seen is sealed again, without.
* The same word again is on record already: nothing is sent twice. Where its envelope came to nothing (its receiver was
  suspended for a while, or it was refused) the agency's software seals the event that is on record anew, with its own
  number, `seen` and time: that goes instead, as at a node with keys (`use_cases.answering`). Its `seen` does not tell
  whether her no was known when it was sealed: the software says so beside it.
"""

from __future__ import annotations

from typing import Final

from exchange.envelope.header import Header
from exchange.envelope.kinds import ERASED_BY_AGENCY, Kind
from exchange.feedback import event_may_travel, tells_how
from exchange.referral.lifecycle import EventName, Side, State
from exchange.schemas.sealing import EnvelopesAnswer
from exchange.storage.database import Connection
from exchange.storage.inbox import arrived_among
from exchange.storage.referrals import (
    EventRecord,
    attestations_of,
    guard_versions,
    load_referral,
    record_attestation,
    save_referral,
)
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import (
    Anew,
    answers_a_recall,
    goes_again,
    may_go_again,
    refuse_promise_if_left,
    repeated,
)
from exchange.use_cases.branches import taken_over
from exchange.use_cases.cases import Case, audit, new_event, read_case
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.errors import ConflictError, ForbiddenError, InvalidError
from exchange.use_cases.idempotency import Keep
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import put_out
from exchange.use_cases.refusals import not_found
from exchange.use_cases.sealed_checks import AgencySealed, check_made_now, check_number
from exchange.use_cases.sealed_views import handed_in

SERVED: Final = frozenset({Kind.DECISION, Kind.PROGRESS, Kind.INFORMATION_REQUEST, Kind.RECALL_ANSWER})
_NEVER_REPEATED: Final = frozenset({Kind.RECALL_ANSWER, Kind.INFORMATION_REQUEST})
"""What may say something else under the same name: which fields a question is about, this node cannot read."""


async def store_sealed_answer(
    node: Node, acting: Acting, sealed: AgencySealed, sharing_stopped: bool, keep: Keep
) -> EnvelopesAnswer:
    """Store one answer.

    Args:
        node: whose agency has sealed it.
        acting: who hands it in.
        sealed: the answer.
        sharing_stopped: the software's word, of what is sealed anew, that it knew of her no.
        keep: stores the answer to the call.

    Raises:
        NotFoundError, GoneError: no such referral was received.
        ConflictError, ForbiddenError, InvalidError: a rule refuses.
        StaleReferralError: take the step again.
    """
    header = sealed.header
    if header.kind not in SERVED:
        raise InvalidError("kind-not-supported", "This version does not serve this kind of envelope.")
    case = await read_case(node, header.referral, Side.RECEIVING, acting.unit)
    name, known = EventName(header.event or ""), _on_record(case, header)
    if known is None:
        check_made_now(node, header)
    await check_belongs(node, case, header, said_before=known is not None)
    unheard = known is not None and await may_go_again(node, case, known)
    if not unheard and (known is not None or (header.kind not in _NEVER_REPEATED and repeated(case, name))):
        return await _again(node, case, sealed, keep)
    if known is None:
        refuse_promise_if_left(node, name)
    answers = known is not None and await answers_a_recall(node, case, known)
    knew = sharing_stopped if known is not None else not _sealed_before_her_no(case, header)
    _check_may_travel(node, case, header, name, answers=answers, knew_her_no=knew)
    if known is not None:
        return await _sealed_anew(node, acting, case, known, sealed, keep)
    digest = sealed.message.digest
    # By its date both nodes reckon: one that is after the time to answer counts nowhere.
    event = new_event(node, case, name, number=header.number, digest=digest, dated=header.created)
    event = event._replace(seen=header.seen, at=header.created)

    def commit(conn: Connection) -> EnvelopesAnswer:
        mine = taken_over(case.record, acting.unit)
        record = change_referral(node, conn, mine, what=name.value, events=[event])
        put_out(node, conn, sealed.message)
        audit(conn, node, acting, f"said-{name}", [record.id])
        answer = handed_in(record, [sealed.message], sealed.receiver)
        keep(conn, answer, record.id)
        return answer

    return await node.database.write(commit)


def _on_record(case: Case, header: Header) -> EventRecord | None:
    """This agency's event that the header is, if it was said before."""
    said = (header.event, header.number, header.seen, header.created)
    return next((one for one in case.own() if (one.name, one.number, one.seen, one.at) == said), None)


def _check_may_travel(
    node: Node, case: Case, header: Header, name: EventName, *, answers: bool, knew_her_no: bool
) -> None:
    """`answers`: it was said as the answer to a recall before; `knew_her_no`: who sealed it, if she has said one."""
    asked = answers or case.state(node.clock()) is State.RECALL_REQUESTED
    if header.kind is Kind.RECALL_ANSWER and not asked:
        raise ConflictError("no-recall", "Nobody asked for this referral back, or it was answered already.")
    stopped = case.record.sharing_stopped_at is not None
    if not event_may_travel(header.kind, name, case.facts.feedback, sharing_stopped=stopped):
        raise ForbiddenError("feedback-level", "Her consent and the rule let less be told. Report it as progress here.")
    if header.kind is Kind.PROGRESS and tells_how(case.facts.feedback) and stopped and not knew_her_no:
        raise ForbiddenError(
            "feedback-level", "She stopped sharing since it was sealed. Seal that it is over, not how."
        )


async def _sealed_anew(
    node: Node, acting: Acting, case: Case, known: EventRecord, sealed: AgencySealed, keep: Keep
) -> EnvelopesAnswer:
    """An event of which nobody else has heard goes in this envelope."""
    anew = Anew(known, sealed.message)

    def commit(conn: Connection) -> EnvelopesAnswer:
        mine = goes_again(node, conn, taken_over(case.record, acting.unit), anew)
        record = change_referral(node, conn, mine, what=known.name)
        audit(conn, node, acting, f"said-again-{known.name}", [record.id])
        answer = handed_in(record, [sealed.message], sealed.receiver)
        keep(conn, answer, record.id)
        return answer

    return await node.database.write(commit)


def _sealed_before_her_no(case: Case, header: Header) -> bool:
    """Whether who sealed a new word had not seen that she stopped sharing. Said here, her no uses up a number."""
    return any(
        event.name == EventName.STOP_SHARING and event.side != case.record.side and event.number > header.seen
        for event in case.events
    )


async def check_belongs(node: Node, case: Case, header: Header, *, said_before: bool = False) -> None:
    """Whether a header speaks of this referral as it is: party, contract, purpose, numbers, what it replies to.

    `said_before`: it is an event on record, whose number it has.

    Raises:
        NotFoundError, ConflictError, ForbiddenError, InvalidError: it does not.
    """
    record = case.record
    if header.recipient != record.peer:
        raise not_found()
    if header.contract != record.contract or header.purpose != case.facts.purpose:
        raise ForbiddenError("contract-differs", "Use the contract and the purpose of the referral itself.")
    if header.number is not None and not said_before:
        check_number(node, header.number, record.number)
    if header.seen > record.seen:
        raise ConflictError("seen-too-high", "Nothing has arrived with the number that is said to be seen.")
    if header.in_reply_to is not None:
        replied_to = header.in_reply_to
        arrived = await node.database.read(lambda conn: arrived_among(conn, [replied_to]))
        if arrived != [(record.id, replied_to)]:
            raise ConflictError("reply-unknown", "What it replies to has not arrived for this referral.")


async def _again(node: Node, case: Case, sealed: AgencySealed, keep: Keep) -> EnvelopesAnswer:
    answer = handed_in(case.record, [], sealed.receiver)

    def commit(conn: Connection) -> None:
        # Nothing changes, but a referral that was destroyed meanwhile leaves no answer behind.
        guard_versions(conn, {case.record.id: case.record.version})
        keep(conn, answer, case.record.id)

    await node.database.write(commit)
    return answer


async def store_sealed_attestation(node: Node, acting: Acting, sealed: AgencySealed, keep: Keep) -> EnvelopesAnswer:
    """The agency's own copies are destroyed, in its own hand. Every other stop the node makes itself.

    Raises:
        NotFoundError: no such referral.
        ConflictError: `nothing-owed`, `number-not-higher`.
        InvalidError: `from-the-future`.
        StaleReferralError: take the step again.
    """
    header = sealed.header
    if (header.kind, header.event) != (Kind.ERASURE_RECEIPT, ERASED_BY_AGENCY):
        raise InvalidError("kind-not-supported", "Stops have calls of their own: this node makes and signs them.")

    def commit(conn: Connection) -> EnvelopesAnswer:
        record = load_referral(conn, header.referral, acting.unit)
        if record is None or record.peer != header.recipient:
            raise not_found()
        if record.beside_anothers:
            # Its peer must not learn the id under which it lies here; the agency never had anything of it.
            raise not_found()
        owed = {entry.party: entry for entry in attestations_of(conn, record.id)}.get("own-agency")
        if owed is None:
            raise ConflictError("nothing-owed", "Nobody asked for the erasure of this referral.")
        going = [sealed.message] if owed.done_at is None else []
        if going:
            check_number(node, header.number or 0, record.number)
            put_out(node, conn, sealed.message)
            record_attestation(conn, record.id, "own-agency", node.clock(), sealed.message.digest)
            record = save_referral(conn, record._replace(number=header.number or record.number))
            audit(conn, node, acting, "erasure-attested", [record.id], sealed.message.digest)
        answer = handed_in(record, going, sealed.receiver, attestations=attestations_of(conn, record.id))
        keep(conn, answer, None)
        return answer

    return await node.database.write(commit)
