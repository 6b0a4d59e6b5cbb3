"""Record, read, renew and narrow a consent; make the receipt for her."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from consent.errors import ConsentInvalidError, ConsentTransitionError
from consent.lifecycle import narrow, renew
from consent.lifecycle import record_consent as make_record
from consent.receipt import Controller, receipt_for_her
from consent.record import ConsentRecord
from exchange.schemas.consents import ConsentRequest, ConsentView, ProvisionsRequest, ReceiptView, RenewalRequest
from exchange.schemas.problems import ProblemField, Who
from exchange.storage.access import add_audit
from exchange.storage.consents import insert_consent, save_consent, subject_exists
from exchange.storage.database import Connection
from exchange.use_cases.acting import Acting
from exchange.use_cases.barring import bar_what_says_a_later_end, bar_what_she_took_back
from exchange.use_cases.cases import again
from exchange.use_cases.consent_records import consent_view, read_record, stored
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.idempotency import Idempotency, Keep, Stored, once
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import impossible_step, invalid_consent, not_listed


async def record_consent(node: Node, acting: Acting, request: ConsentRequest, idem: Idempotency) -> Stored[ConsentView]:
    """Record what she allowed. The subject id is issued here; an agency's own case numbers are never accepted.

    Raises:
        InvalidError: the consent is not valid, or the subject is unknown.
        ConflictError: the idempotency key came with another body before.
    """

    async def work(keep: Keep) -> ConsentView:
        subject = request.subject or node.fresh_id()
        kinds = {member.agency: member.kind for member in node.world().roster.members.values()}
        try:
            record = make_record(
                request,
                consent_id=node.fresh_id(),
                subject=subject,
                at=node.now(),
                statements=node.statements,
                agency_kinds=kinds,
            )
        except ConsentInvalidError as error:
            # Without one reviewed statement no consent is valid, whatever the sender changes.
            raise invalid_consent(error, who=Who.SENDER if node.statements.all() else Who.NODE) from error
        view = consent_view(node, record)

        def commit(conn: Connection) -> None:
            if request.subject is not None and not subject_exists(conn, request.subject, acting.unit):
                raise _unknown_subject()
            insert_consent(conn, stored(node, record, acting.unit))
            _audit(conn, node, acting, "consent-recorded", record.id)
            keep(conn, view, None)

        await node.database.write(commit)
        return view

    return await once(node, idem, ConsentView, work)


async def read_consent(node: Node, consent_id: str, unit: str | None) -> ConsentView:
    """The consent as it is now.

    Raises:
        NotFoundError: there is none.
    """
    record, _ = await read_record(node, consent_id, unit)
    return consent_view(node, record)


async def consent_receipt(node: Node, consent_id: str, unit: str | None, *, neutral: bool = True) -> ReceiptView:
    """A receipt for her. Neutral words unless asked otherwise: her phone may be searched.

    Raises:
        NotFoundError: there is none.
        ForbiddenError: `sender-not-active`: whom to turn to stands in the roster, which does not list this agency.
    """
    record, _ = await read_record(node, consent_id, unit)
    me = node.world().roster.members.get(node.agency)
    if me is None:
        raise not_listed()
    controller = Controller(agency=me.agency, name=me.name, contact=me.duty_contact, country=me.country)
    return ReceiptView(receipt=receipt_for_her(record, controller, node.now(), neutral=neutral))


async def renew_consent(node: Node, acting: Acting, consent_id: str, request: RenewalRequest) -> ConsentView:
    """She says yes again, to the same, until another end. What waits and says a later one is destroyed.

    Raises:
        NotFoundError, ConflictError, InvalidError: there is none, it has ended, or the end is not possible.
    """
    return await _change(
        node,
        acting,
        consent_id,
        "consent-renewed",
        lambda record, at: renew(record, until=request.until, at=at),
        beside=partial(bar_what_says_a_later_end, node),
    )


async def narrow_consent(node: Node, acting: Acting, consent_id: str, request: ProvisionsRequest) -> ConsentView:
    """She allows less than before; it can take away and never add. What waits to leave and may hold more is destroyed.

    Raises:
        NotFoundError, ConflictError, InvalidError: there is none, it has ended, or something would be added.
    """
    return await _change(
        node,
        acting,
        consent_id,
        "consent-narrowed",
        lambda record, at: narrow(record, request.provisions, at=at),
        beside=partial(bar_what_she_took_back, node),
    )


async def _change(
    node: Node,
    acting: Acting,
    consent_id: str,
    action: str,
    step: Callable[[ConsentRecord, datetime], ConsentRecord],
    beside: Callable[[Connection, ConsentRecord, ConsentRecord], None] | None = None,
) -> ConsentView:
    async def once_more() -> ConsentView:
        record, unit = await read_record(node, consent_id, acting.unit)
        try:
            changed = step(record, node.now())
        except ConsentInvalidError as error:
            raise invalid_consent(error) from error
        except ConsentTransitionError as error:
            raise impossible_step(error) from error

        def commit(conn: Connection) -> None:
            save_consent(conn, stored(node, changed, unit), read_version=record.version)
            if beside is not None:
                beside(conn, record, changed)
            _audit(conn, node, acting, action, consent_id)

        await node.database.write(commit)
        return consent_view(node, changed)

    # Judged anew on what holds by then: she is not refused because others write at the same moment.
    return await again(once_more)


def _audit(conn: Connection, node: Node, acting: Acting, action: str, subject_id: str) -> None:
    add_audit(
        conn, at=node.clock(), action=action, subject_id=subject_id, client_id=acting.client_id, actor=acting.actor
    )


def _unknown_subject() -> InvalidError:
    field = ProblemField(path="subject", code="unknown-subject", sentence="This node never issued this subject id.")
    return InvalidError(
        "unknown-subject", "Leave `subject` out for someone new; this node issues the id.", fields=(field,)
    )
