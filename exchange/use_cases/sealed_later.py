"""What follows an offer, sealed by the agency's own software: information, a changed plan, a fresh disclosure.

Rules:

* The referral is one that this agency made; it has not ended, and she has not stopped sharing.
* The contract is the referral's own and still in force; the consent is the one it was made under, and is live.
* What only the sending software sets went with the offer: nothing of the group `routing` follows.
* Until the receiver has accepted, nothing of the disclosure stage goes, but what is held.
* Information answers a question, and nothing else tells more: an update holds a changed plan, or when she can come. It
  goes to a receiver that may have the old plan; before that, and after what was held has gone, a fresh disclosure takes
  its place. After an acceptance the worker's own call is the confirmation, and the fresh disclosure goes at once.
* Where the receiver is not what she was told, that is said before a fresh disclosure is taken (`use_cases.not_told`).
* What holds a plan takes the older one that is held with it, whatever kind it is (`replace_disclosure`). What is held
  has no number: where it was sealed later, the plan that comes now is the older one, and is refused as one by number.
"""

from __future__ import annotations

from typing import Final

from consent.record import ConsentRecord
from contracts.model import Contract
from contracts.vocabulary import Field, Group, Stage
from exchange.envelope.header import Header, parse_header
from exchange.envelope.kinds import Kind
from exchange.referral.lifecycle import TERMINAL, Side, State
from exchange.schemas.sealing import EnvelopesAnswer
from exchange.storage.consents import guard_consent, load_consent
from exchange.storage.database import Connection
from exchange.storage.inbox import heads_of
from exchange.storage.outbox import delete_held, held_of
from exchange.storage.referrals import ReferralRecord, hold_referrals, load_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import Case, audit, read_case
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.consent_records import hers
from exchange.use_cases.errors import ConflictError, ForbiddenError, InvalidError
from exchange.use_cases.facts import seal_facts
from exchange.use_cases.gate_again import authority_refuses, information_refuses, sealed_between, sealed_now, told_of
from exchange.use_cases.headers import outgoing_header
from exchange.use_cases.idempotency import Keep
from exchange.use_cases.node import Node
from exchange.use_cases.not_told import check_told, say_if_untold
from exchange.use_cases.outgoing import put_out
from exchange.use_cases.replace_disclosure import check_not_released, drop_older
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.use_cases.sealed_answer import check_belongs
from exchange.use_cases.sealed_checks import AgencySealed
from exchange.use_cases.sealed_forwards import fields_at_most, judge_sealed
from exchange.use_cases.sealed_views import handed_in
from exchange.use_cases.send_referral import refused
from exchange.use_cases.telling_later import may_identify

SERVED: Final = frozenset({Kind.INFORMATION, Kind.UPDATE, Kind.DISCLOSURE})
_UPDATED: Final = frozenset({Group.CONTACT.value, Group.NEED.value})
"""What an update may hold: her contact plan, and the time of her arrival."""


async def store_sealed_later(
    node: Node, acting: Acting, sealed: AgencySealed, consent_version: int | None, keep: Keep
) -> EnvelopesAnswer:
    """Store one forward about a referral that exists.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        InvalidError, ConflictError, ForbiddenError: a rule refuses; nothing is stored.
        StaleReferralError, StaleConsentError: take the step again.
    """
    header = sealed.header
    if header.kind not in SERVED:
        raise InvalidError("kind-not-supported", "This version does not serve this kind of envelope.")
    case = await read_case(node, header.referral, Side.REFERRING, acting.unit)
    await check_belongs(node, case, header)
    await _check_state(node, case, header)
    try:
        contract, consent = await _judged(node, case, sealed, consent_version)
    except ForbiddenError as refusal:
        if header.kind is Kind.DISCLOSURE:
            await say_if_untold(node, acting, case, keep, refusal)
        raise
    if header.kind is Kind.DISCLOSURE:
        await check_told(node, acting, case, sealed.receiver, keep)
        fields = fields_at_most(node, sealed, contract, consent)
        return await node.database.write(lambda conn: _hold(node, conn, acting, case, consent, sealed, fields, keep))
    return await node.database.write(lambda conn: _queue(node, conn, acting, case, consent, sealed, keep))


async def _check_state(node: Node, case: Case, header: Header) -> None:
    record, state = case.record, case.state(node.clock())
    if state in TERMINAL:
        raise ConflictError("state-forbids", "This referral has ended. Nothing more is told.")
    if record.sharing_stopped_at is not None:
        raise ConflictError("sharing-stopped", "She stopped sharing. Nothing more is told.")
    if Group.ROUTING.value in header.groups:
        raise ForbiddenError("group-not-allowed", "Routing fields go with the offer, and with nothing later.")
    if header.kind is Kind.DISCLOSURE:
        check_not_released(case)
        if state is State.WAITLISTED:
            raise ConflictError("not-accepted", "She is on the waiting list. Confirm with her when she is accepted.")
        return
    if header.kind is Kind.UPDATE and not _UPDATED.issuperset(header.groups):
        raise ForbiddenError("group-not-allowed", "An update holds her plan or when she can come, and nothing more.")
    if header.kind is Kind.UPDATE and record.disclosed_at is None:
        raise ConflictError("not-accepted", "The receiver has no plan yet. Hand in a fresh disclosure.")
    if header.stage == Stage.DISCLOSURE and not may_identify(case, node.clock()):
        sentence = "The receiver has not accepted, or nothing was released. Nothing that identifies her goes before."
        raise ConflictError("not-accepted", sentence)
    if Group.CONTACT.value in header.groups:
        await _check_newer_than_held(node, header)
    if header.kind is Kind.INFORMATION:
        asked = await node.database.read(lambda conn: heads_of(conn, record.id, [Kind.INFORMATION_REQUEST]))
        if header.in_reply_to not in {one.id for one in asked}:
            raise ConflictError("nothing-asked", "The receiver has not asked for information.")


async def _check_newer_than_held(node: Node, header: Header) -> None:
    held = await node.database.read(lambda conn: held_of(conn, header.referral))
    if held is None:
        return
    try:
        made = parse_header(outgoing_header(node, held)).created
    except UNREADABLE as error:
        # It cannot be released as it lies there, and is no reason to keep a changed plan from anybody.
        tell_unreadable(node, "outbox", held.id, error, peer=held.peer)
        return
    if made > header.created:
        sentence = "A disclosure that was sealed later is held: its plan is the newer one. Read the referral."
        raise ConflictError("number-not-higher", sentence)


async def _judged(
    node: Node, case: Case, sealed: AgencySealed, consent_version: int | None
) -> tuple[Contract, ConsentRecord]:
    record, world = case.record, node.world()
    contract = world.contracts.get(record.contract)
    if contract is None or not world.in_force(record.contract, node.agency, record.peer, node.now()):
        raise ForbiddenError("contract-not-in-force", "The contract of this referral is no longer in force.")
    if (another := authority_refuses(case.facts, sealed.receiver)) is not None:
        raise refused(node, another, new=False)
    header = sealed.header
    if header.kind is Kind.INFORMATION:
        groups = [Group(group) for group in header.groups]
        if anew := information_refuses(case.facts, sealed.receiver, Stage(header.stage or ""), groups):
            raise refused(node, anew, new=False)
    row = await node.database.read(lambda conn: load_consent(conn, record.consent_id or ""))
    consent = hers(node, row, case.facts)
    judge_sealed(node, sealed, contract, consent, consent_version)
    if consent is None:
        raise ForbiddenError("no-consent", "There is no consent record.")
    return contract, consent


def _queue(
    node: Node,
    conn: Connection,
    acting: Acting,
    case: Case,
    consent: ConsentRecord,
    sealed: AgencySealed,
    keep: Keep,
) -> EnvelopesAnswer:
    header = sealed.header
    guard_consent(conn, consent.id, consent.version)
    record = drop_older(node, conn, acting, case, [sealed.message])
    put_out(node, conn, sealed.message)
    number = header.number or 0
    facts = seal_facts(node, record.id, sealed_now(node, case.facts, record.peer))
    record = change_referral(
        node,
        conn,
        record,
        what=header.kind.value,
        adjust=lambda read: read._replace(number=max(read.number, number), sealed_facts=facts),
    )
    audit(conn, node, acting, f"sent-{header.kind}", [record.id])
    answer = handed_in(record, [sealed.message], sealed.receiver)
    keep(conn, answer, record.id)
    return answer


def _hold(
    node: Node,
    conn: Connection,
    acting: Acting,
    case: Case,
    consent: ConsentRecord,
    sealed: AgencySealed,
    fields: tuple[Field, ...],
    keep: Keep,
) -> EnvelopesAnswer:
    guard_consent(conn, consent.id, consent.version)
    hold_referrals(conn, [case.record.id])
    delete_held(conn, case.record.id)
    put_out(node, conn, sealed.message, status="held")
    groups = tuple(Group(group) for group in sealed.header.groups)
    told = told_of(sealed.receiver)
    facts = case.facts.model_copy(
        update={"held_fields": fields, "held_groups": groups, "told_first": told, "told_anew": None}
    )
    facts = sealed_between(facts, node.member, sealed.receiver)
    # `confirm` and not `held`: an acceptance that is here already must not release it before this call says so.
    hold = "confirm" if case.accepted(node.clock()) else "held"

    def held(read: ReferralRecord) -> ReferralRecord:
        return read._replace(hold=hold, sealed_facts=seal_facts(node, read.id, facts))

    record = change_referral(node, conn, case.record, what="disclosure-replaced", adjust=held)
    audit(conn, node, acting, "disclosure-replaced", [record.id], sealed.message.digest)
    answer = handed_in(load_referral(conn, record.id) or record, [sealed.message], sealed.receiver)
    keep(conn, answer, record.id)
    return answer
