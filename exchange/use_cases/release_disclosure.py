"""Release of a held disclosure: the whole gate again, then the signed statement that lets it go.

Rules:

* Only an acceptance releases, one that was made in time, and only once. `confirm` waits for a worker, who calls
  this; `automatic` and every emergency are released by the node itself as soon as the acceptance is stored.
* The plain columns of a row decide nothing of that: which mode it is, that an answer accepted, and whose consent counts
  stand in the sealed facts, and which referral and contract it is for in the header. What is released is marked as such
  (`use_cases.released_here`).
* Roster, both agencies' keys, contract, consent and time are checked again, on the names of the fields inside; the node
  cannot read them. Where the agency's own software has sealed it, the node knows no field either, and asks for groups.
  So is what she was told of the receiver first (`use_cases.gate_again`).
* The receiver's card is read before, unless it was within the hour (`use_cases.peer_cards`): one that was away may
  accept before anybody here has heard that it revoked the key of what is held.
* By a clock that has jumped ahead nothing is judged: it stays held, and is not released (`use_cases.clock_jumps`).
* Any check that fails deletes what was held and asks the agency's system for a fresh disclosure. Nothing waits in a
  state in which it might be released later by mistake.
* The consent's version is repeated inside the transaction, and so is what is known of the receiver's keys: a withdrawal
  or a revocation that commits first wins.
* One that cannot be judged, because its row cannot be read, holds up no other.
* A receiver that was given as many names as the rule's `max_unserved_accepts` and has served none of them gets no more
  by itself: a worker has to say so, or the receiver serves one. Counted inside the transaction, over all of this
  agency's referrals to that receiver. An emergency is counted and does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from contracts.vocabulary import Feedback, Priority
from exchange.disclosure import Refused
from exchange.envelope.header import Header, parse_header
from exchange.envelope.keys import key_id
from exchange.envelope.statements import ReleaseStatement, Signed, sign_statement
from exchange.envelope.wire import MAX_INTEGER
from exchange.referral.lifecycle import TERMINAL, EventName, Side
from exchange.roster import Member, UnknownMemberError
from exchange.schemas.referrals import ReleaseAnswer
from exchange.storage.access import add_audit
from exchange.storage.consents import StoredConsent, guard_consent, load_consent
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, held_of, release_held
from exchange.storage.peer_leases import hurry
from exchange.storage.referrals import EventRecord, StaleReferralError, hold_referrals
from exchange.storage.transaction import signal
from exchange.storage.unserved import TOLD_AS, WAITING, count_unserved
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import Case, again, audit, read_case
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.clock_jumps import clock_jumped
from exchange.use_cases.errors import ConflictError, GoneError
from exchange.use_cases.facts import seal_facts
from exchange.use_cases.gate_again import disclosure_again
from exchange.use_cases.headers import outgoing_header
from exchange.use_cases.node import Node, as_datetime
from exchange.use_cases.not_told import NOT_TOLD, as_said
from exchange.use_cases.peer_cards import read_card_again
from exchange.use_cases.peer_epochs import StoredPeerEpochs, read_peer_epochs
from exchange.use_cases.places import most_unserved, next_in_line
from exchange.use_cases.released_here import marked
from exchange.use_cases.row_by_row import Failures, pages_due
from exchange.use_cases.transitions import HOLDING, goes_by_itself, next_number
from exchange.use_cases.views import referral_view


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a release is judged by, read at one moment."""

    held: OutgoingRecord | None
    consent: StoredConsent | None
    epochs: StoredPeerEpochs


class _Due(NamedTuple):
    """What the node may let go by itself: because of an acceptance, or of a place that is free."""

    referral: str
    peer: str
    since: int


@dataclass(frozen=True, slots=True)
class _Waits:
    """Why what is held goes on waiting."""

    hold: str
    code: str
    sentence: str


_CONFIRM: Final = _Waits("confirm", "awaiting-confirmation", "A worker has to confirm this release.")
_UNSERVED: Final = _Waits(
    WAITING,
    TOLD_AS,
    "The receiver has accepted many and served none of them yet. Telephone it, then confirm.",
)
"""It goes by itself when the receiver serves somebody (`use_cases.places`)."""


async def release_due(node: Node) -> int:
    """Release everything that an acceptance has made due; returns how many were looked at.

    Raises:
        PartlyFailedError: some could not be looked at; all others were.
        StorageUnavailableError: the database is away; repeat.
    """
    failures, looked_at, tried = Failures(), 0, set[str]()
    # Before those whose acceptance is new: these have waited longer.
    while waiting := await node.database.read(lambda conn: next_in_line(node, conn, tried)):
        await _let_each_go(node, [_Due(one.referral, one.peer, one.heard_at) for one in waiting], failures)
        tried.update(one.referral for one in waiting)
    async for page in pages_due(node, "release", failures):
        await _let_each_go(node, [_Due(one.id, one.peer, one.updated_at) for one in page], failures)
        looked_at += len(page)
    failures.raise_kept()
    return looked_at + len(tried)


async def _let_each_go(node: Node, due: Sequence[_Due], failures: Failures) -> None:
    # All at once and before the first, so that no receiver that takes its time is waited for in turn.
    accepted = {one.peer: one.since for one in sorted(due, key=lambda one: one.since)}
    # What is raised here is raised again with the referrals that it is about, or by the database that is away.
    heard = (_hear_of_keys(node, peer, at) for peer, at in accepted.items())
    await asyncio.gather(*heard, return_exceptions=True)
    for one in due:
        # Where somebody else was faster, or it ended meanwhile, there is nothing to do.
        with failures.kept("release"), contextlib.suppress(ConflictError, GoneError):
            await again(lambda referral=one.referral: _release(node, None, referral))  # type: ignore[misc]


async def _hear_of_keys(node: Node, agency: str, accepted_at: int) -> None:
    peer = node.world().roster.members.get(agency)
    if peer is not None:
        await read_card_again(node, peer, heard_at=accepted_at)


async def release_disclosure(node: Node, acting: Acting, referral: str) -> ReleaseAnswer:
    """A worker confirms the release.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: `nothing-held`, `not-accepted`.
    """
    return await again(lambda: _release(node, acting, referral))


async def _release(node: Node, acting: Acting | None, referral: str) -> ReleaseAnswer:
    case = await read_case(node, referral, Side.REFERRING, acting.unit if acting is not None else None)
    record = case.record
    if record.hold == "released":
        return ReleaseAnswer(
            released=True, code="released", sentence="It was released before.", referral=referral_view(record)
        )
    if record.hold not in HOLDING:
        raise ConflictError("nothing-held", "There is no held disclosure. Confirm with her, then send a new one.")
    at = node.clock()
    if not case.accepted(at) or case.state(at) in TERMINAL:
        raise ConflictError("not-accepted", "The receiver has not accepted. Nothing is released before that.")
    if await clock_jumped(node):
        sentence = "This node's clock has jumped ahead. Nothing is released, or deleted, before the time is confirmed."
        return ReleaseAnswer(released=False, code="clock-jumped", sentence=sentence, referral=referral_view(record))
    if acting is None and not goes_by_itself(case.facts):
        return await node.database.write(lambda conn: _wait(node, conn, case, _CONFIRM))
    await _hear_of_keys(node, record.peer, record.updated_at)

    def read(conn: Connection) -> _Basis:
        row = load_consent(conn, record.consent_id or "")
        return _Basis(held_of(conn, referral), row, read_peer_epochs(conn, record.peer))

    basis = await node.database.read(read)
    refusal = _refusal(node, case, basis)
    if refusal is not None or basis.held is None:
        code, sentence = refusal or ("nothing-held", "There is no held disclosure.")
        return await _give_up(node, acting, case, code, sentence)
    # The version that was judged, and no newer one, is repeated when it goes.
    version = basis.consent.version if basis.consent is not None else 0
    return await _let_go(node, acting, case, basis.held, version, basis.epochs)


def _refusal(node: Node, case: Case, basis: _Basis) -> tuple[str, str] | None:
    """Why the gate says no now, or nothing."""
    at, facts, record, held = node.clock(), case.facts, case.record, basis.held
    if held is None or at > held.expires_at:
        return "disclosure-expired", "What was held is too old to be sent. Confirm with her, then send a new one."
    world = node.world()
    contract = world.contracts.get(record.contract)
    if contract is None or not world.in_force(record.contract, node.agency, record.peer, as_datetime(at)):
        return "contract-not-in-force", "The contract is no longer in force between the two agencies."
    try:
        receiver = world.roster.member(record.peer)
    except UnknownMemberError:
        return "receiver-not-active", "The receiving agency is no longer in the roster."
    sender = world.roster.member(node.agency)
    header = parse_header(outgoing_header(node, held))
    if (header.referral, header.contract) != (record.id, record.contract):
        return "disclosure-differs", "What is held is not what was sealed for this referral. Send a new one."
    if header.signing_key != key_id(sender.agency_key):
        return "own-key-changed", "It is signed by a key this agency no longer has. Confirm and send a new one."
    if not _sealed_to(header, receiver, basis.epochs):
        return "receiver-key-changed", "It is sealed to a key the receiver no longer has. Confirm and send a new one."
    outcome = disclosure_again(node, facts, basis.consent, contract, sender, receiver)
    node.measurements.decided(
        engine="gate", outcome="refused" if isinstance(outcome, Refused) else "cleared", code="release"
    )
    if isinstance(outcome, Refused):
        return outcome.code, outcome.sentence
    return None


def _sealed_to(header: Header, receiver: Member, epochs: StoredPeerEpochs) -> bool:
    """Whether it is sealed to the key of its week, unrevoked, by the receiver's agency key in today's roster."""
    return epochs.standing(receiver).counts(header.epoch_key or "")


async def _give_up(node: Node, acting: Acting | None, case: Case, code: str, sentence: str) -> ReleaseAnswer:
    said = code == NOT_TOLD
    facts = seal_facts(node, case.record.id, as_said(node, case.facts, case.record.peer) if said else case.facts)

    def commit(conn: Connection) -> ReleaseAnswer:
        record = change_referral(
            node,
            conn,
            case.record,
            what=code if said else "awaiting-disclosure",
            adjust=lambda read: read._replace(hold="awaiting-disclosure", sealed_facts=facts),
        )
        if acting is not None:
            audit(conn, node, acting, "release-refused", [record.id], code)
        else:
            add_audit(conn, at=node.clock(), action="release-refused", subject_id=record.id, detail=code)
        return ReleaseAnswer(released=False, code=code, sentence=sentence, referral=referral_view(record))

    return await node.database.write(commit)


async def _let_go(
    node: Node,
    acting: Acting | None,
    case: Case,
    held: OutgoingRecord,
    consent_version: int,
    epochs: StoredPeerEpochs,
) -> ReleaseAnswer:
    at, record = node.clock(), case.record
    number = next_number(record, at)
    release = marked(node, held.id, _statement(node, case, held, number, at))
    event = EventRecord(record.id, record.side, number, EventName.DISCLOSED.value, record.seen, at, digest=held.digest)
    until = _unserved_until(node, case, at)
    most = None
    if acting is None and case.facts.priority is not Priority.EMERGENCY:
        most = most_unserved(node, record.peer, record.contract, case.facts)

    def commit(conn: Connection) -> ReleaseAnswer:
        guard_consent(conn, record.consent_id or "", consent_version)
        hold_referrals(conn, [record.id])
        if most is not None and count_unserved(conn, record.peer, at, but=record.id) >= most:
            return _wait(node, conn, case, _UNSERVED)
        if not release_held(conn, held.id, release, expires_at=at + node.limits.released_within_ms):
            raise StaleReferralError
        # The peer's row is held from here on: who has read another card waits for it, or has committed.
        hurry(conn, record.peer, at)
        if read_peer_epochs(conn, record.peer) != epochs:
            raise StaleReferralError
        changed = change_referral(
            node,
            conn,
            record,
            what="disclosed",
            events=[event],
            adjust=lambda read: read._replace(hold="released", disclosed_at=at, unserved_until=until),
        )
        signal(conn, "outbox")
        if acting is not None:
            audit(conn, node, acting, "released", [record.id], held.digest)
        else:
            add_audit(conn, at=at, action="released", subject_id=record.id, detail=held.digest)
        return ReleaseAnswer(
            released=True,
            code="released",
            sentence="Name and contact are on their way.",
            referral=referral_view(changed),
        )

    answer = await node.database.write(commit)
    if not answer.released:
        node.measurements.release_waits(peer=record.peer, code=answer.code)
    return answer


def _statement(node: Node, case: Case, held: OutgoingRecord, number: int, at: int) -> Signed[ReleaseStatement]:
    statement = ReleaseStatement(
        disclosure=held.digest,
        referral=case.record.id,
        number=number,
        accepting=case.facts.accepting or "",
        released_at=at,
        roster_version=node.world().roster.version,
        consent_live_at=at,
    )
    return sign_statement(statement, node.node_key.sign)


def _unserved_until(node: Node, case: Case, at: int) -> int:
    """A receiver that may tell how it goes counts until it does; one that may not, for a while."""
    return at + node.limits.unserved_untold_ms if case.facts.feedback is Feedback.DECISION else MAX_INTEGER


def _wait(node: Node, conn: Connection, case: Case, why: _Waits) -> ReleaseAnswer:
    """What was held stays held, and a worker is asked; once, and who waits already keeps the turn."""
    if case.record.hold == why.hold:
        view = referral_view(case.record)
        return ReleaseAnswer(released=False, code=why.code, sentence=why.sentence, referral=view)
    record = change_referral(node, conn, case.record, what=why.code, adjust=lambda read: read._replace(hold=why.hold))
    add_audit(conn, at=node.clock(), action="release-waits", subject_id=record.id, detail=why.code)
    return ReleaseAnswer(released=False, code=why.code, sentence=why.sentence, referral=referral_view(record))
