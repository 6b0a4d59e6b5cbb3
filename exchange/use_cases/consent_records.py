"""Consent records as they lie in the database: sealed, versioned, read fresh for every decision."""

from __future__ import annotations

from consent.errors import ConsentUnreadableError
from consent.record import ConsentRecord, warns
from exchange.envelope.errors import SealedRowError
from exchange.schemas.consents import ConsentView
from exchange.schemas.shapes import to_millis
from exchange.storage.consents import StoredConsent, load_consent
from exchange.use_cases.facts import Facts
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import not_found


def stored(node: Node, record: ConsentRecord, unit: str | None) -> StoredConsent:
    """The row of a record, which belongs to this branch."""
    return StoredConsent(
        id=record.id,
        subject=record.subject,
        version=record.version,
        state=record.state.value,
        expires_at=to_millis(record.expires_at),
        updated_at=node.clock(),
        unit=unit,
        sealed_record=node.seal_row(record.to_json_bytes(), "consent", "sealed_record", record.id),
    )


def opened(node: Node, row: StoredConsent | None) -> ConsentRecord | None:
    """The record of a row; nothing where there is none, which is a no.

    Raises:
        SealedRowError: it belongs to another row, was changed, or is of a later version.
    """
    if row is None or row.sealed_record is None:
        return None
    try:
        return ConsentRecord.from_sealed_bytes(node.open_row(row.sealed_record, "consent", "sealed_record", row.id))
    except ConsentUnreadableError:
        raise SealedRowError from None


def hers(node: Node, row: StoredConsent | None, facts: Facts) -> ConsentRecord | None:
    """As `opened`, of the consent behind a referral: nobody else's counts, whichever the referral's row names."""
    record = opened(node, row)
    return record if record is not None and record.subject == facts.subject else None


async def read_record(node: Node, consent_id: str, unit: str | None) -> tuple[ConsentRecord, str | None]:
    """The record as it is now, and the branch to which it belongs.

    Raises:
        NotFoundError: there is none, or this branch may not see it.
        SealedRowError: as `opened`.
    """
    row = await node.database.read(lambda conn: load_consent(conn, consent_id, unit))
    record = opened(node, row)
    if row is None or record is None:
        raise not_found()
    return record, row.unit


def consent_view(node: Node, record: ConsentRecord) -> ConsentView:
    """The record as the agency's own systems see it."""
    at = node.now()
    return ConsentView(
        id=record.id,
        subject=record.subject,
        version=record.version,
        state=record.state_at(at).value,
        expires_at=record.expires_at,
        warn=warns(record, at),
        record=record,
    )
