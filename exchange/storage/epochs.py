"""Epoch statements: this agency's own as published, and peers' as fetched and verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from exchange.storage.tables import OWN_EPOCH, PEER_EPOCH


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """One published epoch statement, with the columns that queries need."""

    key_id: str
    seq: int
    not_before: int
    not_after: int
    statement: bytes


_OWN = [OWN_EPOCH.c[f.name] for f in fields(StoredEpoch)]
_PEER = [PEER_EPOCH.c[f.name] for f in fields(StoredEpoch)]


def _values(epoch: StoredEpoch) -> dict[str, object]:
    return {f.name: getattr(epoch, f.name) for f in fields(epoch)}


def own_epochs(conn: Connection) -> Sequence[StoredEpoch]:
    """Every statement of this agency, oldest first."""
    return [StoredEpoch(*row) for row in conn.execute(select(*_OWN).order_by(OWN_EPOCH.c.seq))]


def publish_epochs(conn: Connection, epochs: Iterable[StoredEpoch]) -> None:
    """Add statements of this agency.

    Raises:
        sqlalchemy.exc.IntegrityError: another process published first.
    """
    for epoch in epochs:
        conn.execute(insert(OWN_EPOCH), _values(epoch))


def forget_own_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then."""
    conn.execute(OWN_EPOCH.delete().where(OWN_EPOCH.c.not_after <= before))


def peer_epochs(conn: Connection, agency: str) -> Sequence[StoredEpoch]:
    """A peer's verified statements, oldest first."""
    query = select(*_PEER).where(PEER_EPOCH.c.agency == agency).order_by(PEER_EPOCH.c.seq)
    return [StoredEpoch(*row) for row in conn.execute(query)]


def remember_peer_epochs(conn: Connection, agency: str, epochs: Iterable[StoredEpoch], at: int) -> None:
    """Keep a peer's verified statements; one that is known already stays as it is."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    for epoch in epochs:
        conn.execute(
            dialect.insert(PEER_EPOCH).values(agency=agency, fetched_at=at, **_values(epoch)).on_conflict_do_nothing()
        )


def forget_peer_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then, but always keep each peer's newest: its number must not go back."""
    other = PEER_EPOCH.alias()
    newest = select(func.max(other.c.seq)).where(other.c.agency == PEER_EPOCH.c.agency).scalar_subquery()
    conn.execute(PEER_EPOCH.delete().where(PEER_EPOCH.c.not_after <= before, PEER_EPOCH.c.seq < newest))
