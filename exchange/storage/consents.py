"""Consent records, sealed; and the random codes under which receivers know a survivor."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from exchange.storage.prepared import Prepared
from exchange.storage.statements import Both, insert_unless_there
from exchange.storage.tables import CLIENT_CODE, CONSENT


class StaleConsentError(Exception):
    """The consent changed between reading and writing; read again and decide again."""


class StoredConsent(NamedTuple):
    """A consent row; the record is sealed under the storage key."""

    id: str
    subject: str
    version: int
    state: str
    expires_at: int
    updated_at: int
    sealed_record: bytes | None
    unit: str | None = None


_COLUMNS = [CONSENT.c[name] for name in StoredConsent._fields]
_ROW = select(*_COLUMNS).where(CONSENT.c.id == bindparam("the_id"))
_LOAD = Prepared(_ROW)
_LOAD_OF_BRANCH = Prepared(_ROW.where(CONSENT.c.unit == bindparam("the_unit")))
_SAME = select(CONSENT.c.id).where(CONSENT.c.id == bindparam("the_id"), CONSENT.c.version == bindparam("the_version"))
# On PostgreSQL a withdrawal that commits first is seen, and one that comes later waits.
_GUARD = Prepared(Both(_SAME, _SAME.with_for_update(read=True)))
_ADD_CODE = Prepared(insert_unless_there(CLIENT_CODE), columns=CLIENT_CODE.c.keys())
_CODE = Prepared(
    select(CLIENT_CODE.c.code).where(
        CLIENT_CODE.c.subject == bindparam("the_subject"), CLIENT_CODE.c.receiver == bindparam("the_receiver")
    )
)


def insert_consent(conn: Connection, row: StoredConsent) -> None:
    """A new consent."""
    conn.execute(insert(CONSENT), row._asdict())


def load_consent(conn: Connection, consent_id: str, unit: str | None = None) -> StoredConsent | None:
    """The consent, or nothing; for a branch, if it is one of its own.

    What a branch may not use is not read: that takes as long as what does not exist.
    """
    asked = {"the_id": consent_id}
    row = _LOAD.row(conn, asked) if unit is None else _LOAD_OF_BRANCH.row(conn, {**asked, "the_unit": unit})
    return StoredConsent(*row) if row else None


def subject_exists(conn: Connection, subject: str, unit: str | None) -> bool:
    """Whether this node ever issued the subject id; to this branch, where one is named."""
    query = select(CONSENT.c.id).where(CONSENT.c.subject == subject)
    if unit is not None:
        query = query.where(CONSENT.c.unit == unit)
    return conn.execute(query.limit(1)).first() is not None


def save_consent(conn: Connection, row: StoredConsent, *, read_version: int) -> None:
    """Write over the version that was read.

    Raises:
        StaleConsentError: somebody else wrote first.
    """
    done = conn.execute(
        update(CONSENT).where(CONSENT.c.id == row.id, CONSENT.c.version == read_version).values(row._asdict())
    )
    if done.rowcount != 1:
        raise StaleConsentError


def guard_consent(conn: Connection, consent_id: str, version: int) -> None:
    """Repeats, inside the transaction, that the consent is still the one that was decided on.

    Raises:
        StaleConsentError: it is not.
    """
    if _GUARD.row(conn, {"the_id": consent_id, "the_version": version}) is None:
        raise StaleConsentError


def client_code(conn: Connection, subject: str, receiver: str, fresh: str) -> str:
    """The code under which this receiver knows this survivor: the stored one, or the fresh one from now on."""
    if (known := read_client_code(conn, subject, receiver)) is not None:
        return known
    # Another process may be first with another one: then that one stands.
    _ADD_CODE.run(conn, {"subject": subject, "receiver": receiver, "code": fresh})
    return read_client_code(conn, subject, receiver) or fresh


def read_client_code(conn: Connection, subject: str, receiver: str) -> str | None:
    """The stored code, or nothing."""
    row = _CODE.row(conn, {"the_subject": subject, "the_receiver": receiver})
    return row[0] if row else None


def forget_client_code(conn: Connection, subject: str, receiver: str) -> None:
    """Erased: the next referral to this receiver gets another code."""
    conn.execute(CLIENT_CODE.delete().where(CLIENT_CODE.c.subject == subject, CLIENT_CODE.c.receiver == receiver))
