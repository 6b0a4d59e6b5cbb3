"""Her no, at any party of the referral, in the form she chose.

Rules:

* It is stored and queued in one commit, and what was held or queued is deleted in the same one: from that moment on
  nothing about her leaves this node.
* Whoever changes one of her referrals at that moment waits for it, and not it for them.
* It needs no contract, no consent, no key of the peer, no standing. It is delivered however long the peer is away.
* Before a release `stop-sharing` ends the service too, and is sent as what it is: both nodes decide by that word.
* A row that cannot be read, damaged or of a later version, refuses her nothing that can be done without it. What is
  sealed in a referral a stop does not need. Of a consent each referral stands for itself: one that cannot be stopped is
  left as it is, and named, no forward of it stays, and the consent ends all the same. A referral alone that cannot be
  stopped is refused.
* `erase` at the recording agency destroys here at once; the receiver's node does so when it hears it, and says so,
  signed. The agencies' own copies are attested apart, by their systems.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from consent.errors import ConsentTransitionError
from consent.lifecycle import withdraw as withdraw_record
from consent.record import ConsentRecord
from contracts.vocabulary import WithdrawalForm
from exchange.referral.lifecycle import EventName, Side, word_of_no
from exchange.schemas.problems import ProblemField
from exchange.schemas.referrals import ReferralView, WithdrawalAnswer, WithdrawalRequest
from exchange.schemas.shapes import from_millis
from exchange.stops import withdrawal
from exchange.storage.consents import forget_client_codes, lock_consents_of, save_consent
from exchange.storage.database import Connection
from exchange.storage.referrals import (
    ReferralRecord,
    StaleReferralError,
    events_of,
    load_referral,
    lock_referral,
    lock_referrals_of_consent,
    owe_attestation,
)
from exchange.use_cases.acting import Acting
from exchange.use_cases.barring import no_forward_if_unreadable
from exchange.use_cases.branches import may_see
from exchange.use_cases.cases import again, audit
from exchange.use_cases.consent_records import read_record, stored
from exchange.use_cases.destroy import attest_if_destroyed, destroy_due
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.idempotency import Idempotency, Keep, Stored, once
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import impossible_step, not_found
from exchange.use_cases.row_by_row import UNREADABLE, PartlyFailedError, tell_unreadable
from exchange.use_cases.stopping import stop_referral, take_back
from exchange.use_cases.storage_lost import as_outage
from exchange.use_cases.transitions import as_events
from exchange.use_cases.views import whole_view

_OWED_BY_OTHERS = ("own-node", "peer-node", "peer-agency")
_OWED_HERE = ("own-node", "own-agency")


async def withdraw(
    node: Node, acting: Acting, request: WithdrawalRequest, idem: Idempotency
) -> Stored[WithdrawalAnswer]:
    """Record her no and send it.

    Raises:
        InvalidError: not exactly one of referral and consent.
        NotFoundError: there is no such referral or consent here.
    """
    if (request.referral is None) == (request.consent is None):
        field = ProblemField(path="referral", code="exactly-one", sentence="Name a referral or a consent, not both.")
        raise InvalidError("withdrawal-invalid", "Say what she withdraws from.", fields=(field,))

    async def work(keep: Keep) -> WithdrawalAnswer:
        return await again(lambda: _withdraw(node, acting, request, keep))

    answer = await once(node, idem, WithdrawalAnswer, work)
    if request.form is WithdrawalForm.ERASE:
        # Her no is durable, and that is the answer; what cannot be destroyed now the courier destroys, or says why not.
        try:
            await destroy_due(node)
        except PartlyFailedError:
            pass
        except Exception as error:
            if as_outage(error) is None:
                raise
    return answer


async def _withdraw(node: Node, acting: Acting, request: WithdrawalRequest, keep: Keep) -> WithdrawalAnswer:
    consent: ConsentRecord | None = None
    ended: ConsentRecord | None = None
    unit: str | None = None
    if request.consent is not None:
        consent, unit = await read_record(node, request.consent, acting.unit)
        try:
            ended = withdraw_record(consent, at=node.now(), form=request.form)
        except ConsentTransitionError as error:
            raise impossible_step(error) from error

    def commit(conn: Connection) -> WithdrawalAnswer:
        if consent is not None and ended is not None:
            if request.form is WithdrawalForm.ERASE:
                lock_consents_of(conn, ended.subject)
            save_consent(conn, stored(node, ended, unit), read_version=consent.version)
        concerned = _concerned(conn, request, acting.unit)
        stop = _stop_if_readable if ended is not None else _stop
        stopped = [stop(node, conn, one.id, request.form) for one in concerned]
        records = [record for record in stopped if record is not None]
        views, unreadable = _views(conn, node, concerned, records, acting.unit)
        if ended is not None and request.form is WithdrawalForm.ERASE:
            forget_client_codes(conn, ended.subject)
        ids = [record.id for record in records] or [request.consent or ""]
        audit(conn, node, acting, f"withdrawn-{request.form}", ids)
        answer = WithdrawalAnswer(
            form=request.form,
            referrals=views,
            unreadable=unreadable or None,
            destroyed_at=_destroyed_at(request.form, [record for record in records if may_see(record, acting.unit)]),
        )
        keep(conn, answer, None)
        return answer

    return await node.database.write(commit)


def _concerned(conn: Connection, request: WithdrawalRequest, unit: str | None) -> list[ReferralRecord]:
    """In one order, and locked: where much is on its way something of it always changes, and she would wait."""
    if request.consent is not None:
        return lock_referrals_of_consent(conn, request.consent)
    record = load_referral(conn, request.referral or "", unit)
    if record is None:
        raise not_found()
    return [record]


def _stop_if_readable(node: Node, conn: Connection, referral: str, form: WithdrawalForm) -> ReferralRecord | None:
    """As `_stop`; nothing where a row of it cannot be read. It is left as it was, and the log says so.

    Nothing of it leaves all the same: what waits or is held is deleted, as her consent is not asked when it leaves.
    """
    with no_forward_if_unreadable(node, conn, referral):
        return _stop(node, conn, referral, form)
    return None


def _views(
    conn: Connection,
    node: Node,
    concerned: Iterable[ReferralRecord],
    stopped: Iterable[ReferralRecord],
    unit: str | None,
) -> tuple[tuple[ReferralView, ...], tuple[str, ...]]:
    """How those that were stopped look now, and the ids of all others: of each that may be seen one of the two."""
    by_id = {record.id: record for record in stopped}
    views, unreadable = list[ReferralView](), list[str]()
    for one in concerned:
        if not may_see(one, unit):
            continue
        if (record := by_id.get(one.id)) is None:
            unreadable.append(one.id)
            continue
        try:
            views.append(whole_view(conn, record))
        except UNREADABLE as error:
            tell_unreadable(node, "referral", one.id, error)
            unreadable.append(one.id)
    return tuple(views), tuple(unreadable)


def _stop(node: Node, conn: Connection, referral: str, form: WithdrawalForm) -> ReferralRecord:
    record = lock_referral(conn, referral)
    if record is None:
        raise StaleReferralError
    # First what has not left, and with it a release that has not: only then is it known whether there was one.
    record = take_back(node, conn, record, EventName(form.value))
    name = word_of_no(form, as_events(events_of(conn, [record.id])[record.id]))
    stop = withdrawal(WithdrawalForm(name.value))
    # Again only where her no amounts to more than she said: then no answer leaves any more.
    changed = stop_referral(node, conn, record, stop, name, ends_sharing=name.value != form.value)
    if form is WithdrawalForm.ERASE:
        owed = _OWED_BY_OTHERS if record.side == Side.REFERRING else _OWED_HERE
        owe_attestation(conn, record.id, owed, node.clock())
        changed = attest_if_destroyed(node, conn, changed)
    return changed


def _destroyed_at(form: WithdrawalForm, records: list[ReferralRecord]) -> datetime | None:
    times = [record.destroy_at for record in records if record.destroy_at is not None]
    return from_millis(max(times)) if form is WithdrawalForm.ERASE and times else None
