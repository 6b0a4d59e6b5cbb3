"""Consent records, sealed; and the random codes under which receivers know a survivor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from consent.terms import ConsentState
from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_unless_there, where_listed
from exchange.storage.tables import CLIENT_CODE, CONSENT


class StaleConsentError(Exception):
    """The consent changed between reading and writing; read again and decide again."""


class ClientCode(NamedTuple):
    """The code under which a receiver knows a survivor."""

    subject: str
    receiver: str
    code: str


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
# On PostgreSQL a withdrawal that commits first is seen, and one that comes later waits. The dialect of SQLite, where
# writers are serialised, leaves FOR SHARE out.
_GUARD = Prepared(
    where_listed(
        select(CONSENT.c.id, CONSENT.c.version).order_by(CONSENT.c.id).with_for_update(read=True), CONSENT.c.id
    )
)
_LOCK_OF_SUBJECT = Prepared(
    select(CONSENT.c.id).where(CONSENT.c.subject == bindparam("the_subject")).order_by(CONSENT.c.id).with_for_update()
)
_ADD_CODES = Prepared(insert_unless_there(CLIENT_CODE), columns=CLIENT_CODE.c.keys())
_CODES = Prepared(where_listed(select(CLIENT_CODE), CLIENT_CODE.c.subject))
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


def lock_consents_of(conn: Connection, subject: str) -> None:
    """Of two who take back all that she has allowed, each one consent, the later one sees what the other has done."""
    _LOCK_OF_SUBJECT.rows(conn, {"the_subject": subject})


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
    guard_consents(conn, [(consent_id, version)])


def guard_consents(conn: Connection, decided_on: Iterable[tuple[str, int]]) -> None:
    """As `guard_consent`, for many consents, each with its version.

    Raises:
        StaleConsentError: one of them is not.
    """
    wanted = set(decided_on)
    if not wanted <= set(_GUARD.rows(conn, {"the_ids": [consent_id for consent_id, _ in wanted]})):
        raise StaleConsentError


def guard_client_codes(conn: Connection, known: Iterable[ClientCode], fresh: Iterable[ClientCode]) -> None:
    """Repeats, inside the transaction, that the known codes are stored; the fresh ones are from now on.

    A known one that is not there any more was erased meanwhile, and does not come back.

    Raises:
        StaleConsentError: a code is gone, or a receiver knows a survivor under another one.
    """
    read, made = set(known), set(fresh)
    there = _codes(conn, read | made)
    if not read <= there:
        raise StaleConsentError
    if added := made - there:
        # Another process may be first with another one: then that one stands. In one order everywhere, for PostgreSQL.
        _ADD_CODES.run_each(conn, sorted(added))
        if not added <= _codes(conn, added):
            raise StaleConsentError


def _codes(conn: Connection, about: Iterable[ClientCode]) -> set[ClientCode]:
    return {ClientCode(*row) for row in _CODES.rows(conn, {"the_ids": [code.subject for code in about]})}


def read_client_code(conn: Connection, subject: str, receiver: str) -> str | None:
    """The stored code, or nothing."""
    row = _CODE.row(conn, {"the_subject": subject, "the_receiver": receiver})
    return row[0] if row else None


def forget_client_code(conn: Connection, subject: str, receiver: str) -> None:
    """Erased: the next referral to this receiver gets another code."""
    conn.execute(CLIENT_CODE.delete().where(CLIENT_CODE.c.subject == subject, CLIENT_CODE.c.receiver == receiver))


def forget_client_codes(conn: Connection, subject: str) -> None:
    """All of hers, where she has taken back every consent: her referrals may have been forgotten long ago."""
    others = select(CONSENT.c.id).where(CONSENT.c.subject == subject, CONSENT.c.state != ConsentState.WITHDRAWN.value)
    conn.execute(CLIENT_CODE.delete().where(CLIENT_CODE.c.subject == subject, ~others.exists()))
