"""Epoch statements: this agency's own as published, and peers' as fetched and verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select

from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_unless_there
from exchange.storage.tables import OWN_EPOCH, PEER_EPOCH


class StoredEpoch(NamedTuple):
    """One published epoch statement, with the columns that queries need."""

    key_id: str
    seq: int
    not_before: int
    not_after: int
    statement: bytes


_OWN = [OWN_EPOCH.c[name] for name in StoredEpoch._fields]
_PEER = [PEER_EPOCH.c[name] for name in StoredEpoch._fields]
_NAMES = StoredEpoch._fields
_OWN_EPOCHS = Prepared(select(*_OWN).order_by(OWN_EPOCH.c.seq))
_PUBLISH = Prepared(insert(OWN_EPOCH), columns=_NAMES)
_FORGET_OWN = Prepared(OWN_EPOCH.delete().where(OWN_EPOCH.c.not_after <= bindparam("the_time")))
_PEER_EPOCHS = Prepared(select(*_PEER).where(PEER_EPOCH.c.agency == bindparam("the_agency")).order_by(PEER_EPOCH.c.seq))
_REMEMBER = Prepared(insert_unless_there(PEER_EPOCH), columns=["agency", "fetched_at", *_NAMES])
_OTHER = PEER_EPOCH.alias()
_NEWEST = select(func.max(_OTHER.c.seq)).where(_OTHER.c.agency == PEER_EPOCH.c.agency).scalar_subquery()
_FORGET_PEER = Prepared(
    PEER_EPOCH.delete().where(PEER_EPOCH.c.not_after <= bindparam("the_time"), PEER_EPOCH.c.seq < _NEWEST)
)


def own_epochs(conn: Connection) -> Sequence[StoredEpoch]:
    """Every statement of this agency, oldest first."""
    return [StoredEpoch(*row) for row in _OWN_EPOCHS.rows(conn, {})]


def publish_epochs(conn: Connection, epochs: Iterable[StoredEpoch]) -> None:
    """Add statements of this agency.

    Raises:
        sqlalchemy.exc.IntegrityError: another process published first.
    """
    _PUBLISH.run_each(conn, [epoch._asdict() for epoch in epochs])


def forget_own_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then."""
    _FORGET_OWN.run(conn, {"the_time": before})


def peer_epochs(conn: Connection, agency: str) -> Sequence[StoredEpoch]:
    """A peer's verified statements, oldest first."""
    return [StoredEpoch(*row) for row in _PEER_EPOCHS.rows(conn, {"the_agency": agency})]


def remember_peer_epochs(conn: Connection, agency: str, epochs: Iterable[StoredEpoch], at: int) -> None:
    """Keep a peer's verified statements; one that is known already stays as it is."""
    _REMEMBER.run_each(conn, [{"agency": agency, "fetched_at": at} | epoch._asdict() for epoch in epochs])


def forget_peer_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then, but always keep each peer's newest: its number must not go back."""
    _FORGET_PEER.run(conn, {"the_time": before})
