"""Information that the receiver asked for, and a changed contact plan: through the gate, then sealed and queued."""

from __future__ import annotations

from exchange.envelope.kinds import Kind
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import Side
from exchange.schemas.referrals import ForwardAnswer, InformationRequest, SafeContactRequest
from exchange.storage.consents import guard_consent
from exchange.storage.database import Connection
from exchange.storage.inbox import heads_of
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import Case, again, audit, read_case
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.clearance import check_confirmed
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.facts import Facts, seal_facts
from exchange.use_cases.gate_again import sealed_now
from exchange.use_cases.idempotency import Idempotency, Keep, Stored, once
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key, put_out
from exchange.use_cases.replace_disclosure import drop_held, drop_older
from exchange.use_cases.telling_later import Told, tell_later
from exchange.use_cases.transitions import next_number
from exchange.use_cases.views import field_decisions, referral_view


async def send_information(
    node: Node, acting: Acting, referral: str, request: InformationRequest, idem: Idempotency
) -> Stored[ForwardAnswer]:
    """Answer an information-request, as far as rule and consent allow.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: `nothing-asked`, or the referral has ended.
        ForbiddenError, TooLargeError, UnavailableError: as in `send_referral`.
    """

    async def step(keep: Keep) -> ForwardAnswer:
        case = await read_case(node, referral, Side.REFERRING, acting.unit)
        asked = await _asked(node, referral)
        if asked is None:
            raise ConflictError("nothing-asked", "The receiver has not asked for information.")
        return await _tell(node, acting, case, Kind.INFORMATION, request.content, asked, keep)

    return await once(node, idem, ForwardAnswer, lambda keep: again(lambda: step(keep)))


async def update_safe_contact(
    node: Node, acting: Acting, referral: str, request: SafeContactRequest, idem: Idempotency
) -> Stored[ForwardAnswer]:
    """Her contact plan changed. A held disclosure with an older plan is deleted; a receiver that may have one is told.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: the referral has ended, she stopped sharing, or the keys are elsewhere.
        InvalidError: `content-invalid`: the plan was confirmed later than now.
        ForbiddenError, TooLargeError, UnavailableError: as in `send_referral`.
    """
    agency_key(node)
    content = ReferralContent(safe_contact=request.safe_contact)

    async def step(keep: Keep) -> ForwardAnswer:
        case = await read_case(node, referral, Side.REFERRING, acting.unit)
        check_confirmed(node, content, member="")
        if case.record.disclosed_at is None:
            return await node.database.write(lambda conn: _drop_held(node, conn, acting, case, keep))
        return await _tell(node, acting, case, Kind.UPDATE, content, None, keep)

    return await once(node, idem, ForwardAnswer, lambda keep: again(lambda: step(keep)))


async def _asked(node: Node, referral: str) -> str | None:
    asked = await node.database.read(lambda conn: heads_of(conn, referral, [Kind.INFORMATION_REQUEST]))
    return asked[-1].id if asked else None


async def _tell(
    node: Node,
    acting: Acting,
    case: Case,
    kind: Kind,
    content: ReferralContent,
    in_reply_to: str | None,
    keep: Keep,
) -> ForwardAnswer:
    number = next_number(case.record, node.clock())
    before = sealed_now(node, case.facts, case.record.peer)
    told = await tell_later(node, case, kind, content, numbers=number, in_reply_to=in_reply_to)
    return await node.database.write(lambda conn: _store(node, conn, acting, case, before, told, kind, keep))


def _store(
    node: Node, conn: Connection, acting: Acting, case: Case, before: Facts, told: Told, kind: Kind, keep: Keep
) -> ForwardAnswer:
    guard_consent(conn, told.consent.id, told.consent.version)
    record = drop_older(node, conn, acting, case, told.sealed)
    for sealed in told.sealed:
        put_out(node, conn, sealed)
    highest = max(sealed.header.number or 0 for sealed in told.sealed)
    # The roster may be another than when it was sealed.
    facts = seal_facts(node, record.id, sealed_now(node, before, record.peer))
    record = change_referral(
        node,
        conn,
        record,
        what=kind.value,
        adjust=lambda read: read._replace(number=max(read.number, highest), sealed_facts=facts),
    )
    audit(conn, node, acting, f"sent-{kind}", [record.id])
    answer = ForwardAnswer(referral=referral_view(record), fields=field_decisions(told.cleared.reasons))
    keep(conn, answer, record.id)
    return answer


def _drop_held(node: Node, conn: Connection, acting: Acting, case: Case, keep: Keep) -> ForwardAnswer:
    record = drop_held(node, conn, acting, case)
    answer = ForwardAnswer(referral=referral_view(record), fields=())
    keep(conn, answer, record.id)
    return answer
