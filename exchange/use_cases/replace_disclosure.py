"""A fresh disclosure, sealed after the plan was confirmed with her again; until then what is held can be dropped.

Before the acceptance it is held like the first. After it, the worker's own call is the confirmation, and it goes at
once, with its release statement. On the waiting list nothing is held: she is asked again when there is a place.

A disclosure has its number from its release, and at the receiver the plan with the highest number counts. Therefore a
plan that is told meanwhile takes what is held with it: released later, the older plan would count. And therefore a
request that is repeated seals nothing again, however late it comes: what it says may be older than a plan told since.

Where the receiver is not what she was told, that is said before a fresh disclosure is taken (`use_cases.not_told`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from contracts.vocabulary import Group
from exchange.envelope.kinds import Kind
from exchange.messages import SealedMessage
from exchange.referral.lifecycle import Side, State
from exchange.schemas.inbox import ReferralAct
from exchange.schemas.referrals import DisclosureRequest, ForwardAnswer
from exchange.storage.consents import guard_consent
from exchange.storage.database import Connection
from exchange.storage.outbox import delete_held
from exchange.storage.referrals import ReferralRecord, hold_referrals
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import Case, again, audit, read_case
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.errors import ConflictError, ForbiddenError
from exchange.use_cases.facts import seal_facts
from exchange.use_cases.gate_again import sealed_between, told_of
from exchange.use_cases.idempotency import Idempotency, Keep, once
from exchange.use_cases.node import Node
from exchange.use_cases.not_told import check_told, say_if_untold
from exchange.use_cases.outgoing import put_out
from exchange.use_cases.release_disclosure import release_disclosure
from exchange.use_cases.telling_later import Told, tell_later
from exchange.use_cases.transitions import HOLDING
from exchange.use_cases.views import field_decisions, referral_view

_CALLED: Final = "confirm"
"""Sealed after the acceptance: a worker has called her, and this call releases it."""


async def replace_disclosure(
    node: Node, acting: Acting, referral: str, request: DisclosureRequest, idem: Idempotency
) -> ForwardAnswer:
    """Seal a new disclosure in place of what was held. A repeat answers what the gate said then, and how it stands now.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: it was disclosed already, has ended, is on the waiting list, or she stopped sharing.
        ForbiddenError: as in `send_referral`; or `not-told-first`, and what was held is deleted (`use_cases.not_told`).
        TooLargeError, UnavailableError: as in `send_referral`.
    """

    async def step(keep: Keep) -> ForwardAnswer:
        case = await read_case(node, referral, Side.REFERRING, acting.unit)
        check_not_released(case)
        if case.state(node.clock()) is State.WAITLISTED:
            raise ConflictError("not-accepted", "She is on the waiting list. Confirm with her when she is accepted.")
        try:
            told = await tell_later(node, case, Kind.DISCLOSURE, request.content, numbers=None, in_reply_to=None)
        except ForbiddenError as refused:
            await say_if_untold(node, acting, case, keep, refused)
            raise
        (forward,) = told.cleared.forwards
        await check_told(node, acting, case, forward.receiver, keep)
        return await node.database.write(lambda conn: _hold(node, conn, acting, case, told, keep))

    stored = await once(node, idem, ForwardAnswer, lambda keep: again(lambda: step(keep)))
    case = await read_case(node, referral, Side.REFERRING, acting.unit)
    # A repeat too: the process that sealed it may have ended before it released it.
    if stored.answer.referral.flags.awaiting_confirmation and case.record.hold == _CALLED:
        released = await release_disclosure(node, acting, referral)
        return ForwardAnswer(referral=released.referral, fields=stored.answer.fields)
    return ForwardAnswer(referral=referral_view(case.record), fields=stored.answer.fields)


async def drop_disclosure(node: Node, acting: Acting, referral: str) -> ReferralAct:
    """Delete what is held: her plan changed, and it has the old one inside. A fresh disclosure is asked for then.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: `already-disclosed`.
    """

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.REFERRING, acting.unit)
        if case.record.hold in HOLDING:
            record = await node.database.write(lambda conn: drop_held(node, conn, acting, case))
            return ReferralAct(referral=referral_view(record))
        check_not_released(case)
        if case.record.disclosed_at is not None:
            sentence = "Nothing is held. One was disclosed before: send a new plan, or a fresh disclosure."
            raise ConflictError("already-disclosed", sentence)
        return ReferralAct(referral=referral_view(case.record), repeated=True)

    return await again(step)


def drop_held(node: Node, conn: Connection, acting: Acting, case: Case) -> ReferralRecord:
    """Her plan changed before it was disclosed: a disclosure that is held has the old one inside, and is deleted."""

    def drop(record: ReferralRecord) -> ReferralRecord:
        return record._replace(hold="awaiting-disclosure") if record.hold in HOLDING else record

    record = change_referral(node, conn, case.record, what="plan-changed", adjust=drop)
    audit(conn, node, acting, "plan-changed", [record.id])
    return record


def drop_older(
    node: Node, conn: Connection, acting: Acting, case: Case, telling: Iterable[SealedMessage]
) -> ReferralRecord:
    """Where this tells the receiver a plan, a disclosure that is held has an older one inside, and is deleted."""
    plan = any(Group.CONTACT.value in sealed.header.groups for sealed in telling)
    return drop_held(node, conn, acting, case) if plan and case.record.hold in HOLDING else case.record


def check_not_released(case: Case) -> None:
    """A fresh disclosure may take the place of what is held, and of what was released and has come to nothing.

    One that was released and never signed for may have arrived; she is asked, and it goes again.

    Raises:
        ConflictError: `already-disclosed`.
    """
    if case.record.hold == "released":
        raise ConflictError("already-disclosed", "It was disclosed already. Send information or a new plan.")


def _hold(node: Node, conn: Connection, acting: Acting, case: Case, told: Told, keep: Keep) -> ForwardAnswer:
    guard_consent(conn, told.consent.id, told.consent.version)
    hold_referrals(conn, [case.record.id])
    delete_held(conn, case.record.id)
    (sealed,) = told.sealed
    put_out(node, conn, sealed, status="held")
    record = change_referral(
        node, conn, case.record, what="disclosure-replaced", adjust=lambda read: _held(node, read, case, told)
    )
    audit(conn, node, acting, "disclosure-replaced", [case.record.id], sealed.digest)
    answer = ForwardAnswer(referral=referral_view(record), fields=field_decisions(told.cleared.reasons))
    keep(conn, answer, record.id)
    return answer


def _held(node: Node, record: ReferralRecord, case: Case, told: Told) -> ReferralRecord:
    (forward,) = told.cleared.forwards
    facts = case.facts.model_copy(
        update={
            "held_fields": tuple(sorted(forward.fields)),
            "told_first": told_of(forward.receiver),
            "told_anew": None,
        }
    )
    facts = sealed_between(facts, node.member, forward.receiver)
    # Not `held`: an acceptance that is here already must not release it before this call says so.
    hold = _CALLED if case.accepted(node.clock()) else "held"
    return record._replace(hold=hold, sealed_facts=seal_facts(node, record.id, facts))
