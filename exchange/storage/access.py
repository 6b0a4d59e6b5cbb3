"""Who may call, what was used up, what was answered: clients, client assertions, idempotency keys, the audit list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, null, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from exchange.storage.prepared import Prepared
from exchange.storage.statements import FORGOTTEN_AT_ONCE, delete_expired
from exchange.storage.tables import AUDIT, IDEMPOTENCY, OAUTH_CLIENT, USED_JTI


class StoredClient(NamedTuple):
    """A system of this agency that may call the API."""

    client_id: str
    jwks: str
    scopes: str
    unit: str | None
    status: str
    created_at: int
    mark: str | None = None
    """That this node has registered it (`exchange.use_cases.registered_here`)."""


class StoredAnswer(NamedTuple):
    """The first answer to a write."""

    key: str
    request_digest: str
    status_code: int
    referral: str | None
    sealed_answer: bytes | None


class KeptAnswer(NamedTuple):
    """An answer as its row keeps it."""

    client_id: str
    key: str
    request_digest: str
    status_code: int
    referral: str | None
    sealed_answer: bytes | None
    expires_at: int


class AuditEntry(NamedTuple):
    """One line of the local record: ids and stable codes only."""

    at: int
    action: str
    subject_id: str
    client_id: str | None = None
    actor: str | None = None
    detail: str | None = None


_CLIENT_COLUMNS = [OAUTH_CLIENT.c[name] for name in StoredClient._fields]
_LOAD_CLIENT = Prepared(select(*_CLIENT_COLUMNS).where(OAUTH_CLIENT.c.client_id == bindparam("the_client")))
_FORGET_USED = tuple(Prepared(delete_expired(table)) for table in (USED_JTI, IDEMPOTENCY))
_ANSWER_COLUMNS = [IDEMPOTENCY.c[name] for name in StoredAnswer._fields]
_LOAD_ANSWER = Prepared(
    select(*_ANSWER_COLUMNS).where(
        IDEMPOTENCY.c.client_id == bindparam("the_client"),
        or_(IDEMPOTENCY.c.key == bindparam("the_key"), IDEMPOTENCY.c.key == bindparam("the_key_of_before")),
    )
)
_STORE_ANSWERS = Prepared(insert(IDEMPOTENCY), columns=KeptAnswer._fields)
_WIPE_ANSWERS = Prepared(
    update(IDEMPOTENCY).where(IDEMPOTENCY.c.referral == bindparam("the_referral")).values(sealed_answer=null())
)
_ADD_AUDIT = Prepared(insert(AUDIT), columns=AuditEntry._fields)


def insert_client(conn: Connection, client: StoredClient) -> None:
    """Register a client.

    Raises:
        sqlalchemy.exc.IntegrityError: the client id exists.
    """
    conn.execute(insert(OAUTH_CLIENT), client._asdict())


def load_client(conn: Connection, client_id: str) -> StoredClient | None:
    """The client, or nothing."""
    row = _LOAD_CLIENT.row(conn, {"the_client": client_id})
    return StoredClient(*row) if row else None


def list_clients(conn: Connection) -> Sequence[StoredClient]:
    """Every client, by id."""
    return [StoredClient(*row) for row in conn.execute(select(*_CLIENT_COLUMNS).order_by(OAUTH_CLIENT.c.client_id))]


def mark_client(conn: Connection, client: StoredClient) -> None:
    """Write the mark of a client that is registered already."""
    conn.execute(update(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == client.client_id).values(mark=client.mark))


def revoke_client(conn: Connection, client_id: str) -> bool:
    """From the next call on the client is refused; returns whether it was active.

    Its mark goes with it: who calls it active again, and has no older copy of the row, lets nobody in.
    """
    done = conn.execute(
        update(OAUTH_CLIENT)
        .where(OAUTH_CLIENT.c.client_id == client_id, OAUTH_CLIENT.c.status == "active")
        .values(status="revoked", mark=null())
    )
    return done.rowcount == 1


def use_jti(conn: Connection, subject: str, jti: str, expires_at: int) -> bool:
    """Use an assertion up; returns whether it was unused."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    values = {"subject": subject, "jti": jti, "expires_at": expires_at}
    # Not rowcount: PostgreSQL's driver does not report it for an INSERT.
    insertion = dialect.insert(USED_JTI).values(values).on_conflict_do_nothing().returning(USED_JTI.c.jti)
    return conn.execute(insertion).first() is not None


def load_answer(conn: Connection, client_id: str, key: str, key_of_before: str) -> StoredAnswer | None:
    """What was answered under this idempotency key, or nothing.

    Args:
        conn: to the main database.
        client_id: whose key it is.
        key: its digest.
        key_of_before: as it came, and as an earlier version has kept it, for a day.
    """
    given = {"the_client": client_id, "the_key": key, "the_key_of_before": key_of_before}
    row = _LOAD_ANSWER.row(conn, given)
    return StoredAnswer(*row) if row else None


def store_answers(conn: Connection, answers: Iterable[KeptAnswer]) -> None:
    """Keep answers with the writes they belong to.

    Raises:
        sqlalchemy.exc.IntegrityError: another request with one of these keys was first.
    """
    _STORE_ANSWERS.run_each(conn, answers)


def wipe_answers(conn: Connection, referral: str) -> None:
    """Destroy what was answered about a referral; keys and digests of requests stay to their end."""
    _WIPE_ANSWERS.run(conn, {"the_referral": referral})


def forget_used(conn: Connection, at: int) -> bool:
    """Drop assertions and answers whose time is over, some at once; returns whether there may be more."""
    return max(forget.run(conn, {"the_time": at}) for forget in _FORGET_USED) >= FORGOTTEN_AT_ONCE


def add_audit(
    conn: Connection,
    *,
    at: int,
    action: str,
    subject_id: str,
    client_id: str | None = None,
    actor: str | None = None,
    detail: str | None = None,
) -> None:
    """One line of the local record: ids and stable codes only."""
    _ADD_AUDIT.run(conn, AuditEntry(at, action, subject_id, client_id, actor, detail))


def add_audits(conn: Connection, entries: Iterable[AuditEntry]) -> None:
    """As `add_audit`, for many."""
    _ADD_AUDIT.run_each(conn, entries)
