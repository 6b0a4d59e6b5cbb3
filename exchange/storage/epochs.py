"""Epoch statements and revocations: this agency's own as published, and peers' as fetched and verified, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Delete, Table, bindparam, func, insert, literal_column, select

from exchange.storage.peer_leases import lock_peer
from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_or_replace, insert_unless_there
from exchange.storage.tables import EPOCH_REVOCATION, OWN_EPOCH, PEER_CARD, PEER_EPOCH


class StoredEpoch(NamedTuple):
    """One published epoch statement, with the columns that queries need."""

    key_id: str
    seq: int
    not_before: int
    not_after: int
    statement: bytes


class StoredRevocation(NamedTuple):
    """One signed revocation, with the columns that queries need."""

    key_id: str
    seq: int
    forget_at: int
    statement: bytes


class MarkedTime(NamedTuple):
    """A time, with what proves that this node wrote it down (`exchange.use_cases.peer_cards`)."""

    at: int
    mark: str | None


class CardTimes(NamedTuple):
    """When a peer's card was last read and found good, and when it was last asked for; 0 for never."""

    read: MarkedTime
    asked: MarkedTime


KEPT: Final = 64
"""Statements of a peer, and revocations of an agency, that are kept: the newest. An honest card never shows more."""


def _beyond_the_newest(table: Table) -> Delete:
    # By their places in the list, not by the number of the last that is kept: whoever signs may repeat that one.
    rows = table.alias()
    beyond = (
        select(rows.c.key_id)
        .where(rows.c.agency == bindparam("the_agency"))
        .order_by(rows.c.seq.desc(), rows.c.key_id.desc())
        .offset(literal_column(str(KEPT)))
    )
    return table.delete().where(table.c.agency == bindparam("the_agency"), table.c.key_id.in_(beyond))


_OWN = [OWN_EPOCH.c[name] for name in StoredEpoch._fields]
_PEER = [PEER_EPOCH.c[name] for name in StoredEpoch._fields]
_NAMES = StoredEpoch._fields
_OWN_EPOCHS = Prepared(select(*_OWN).order_by(OWN_EPOCH.c.seq))
_PUBLISH = Prepared(insert(OWN_EPOCH), columns=_NAMES)
_NEWEST_OWN = select(func.max(OWN_EPOCH.alias().c.seq)).scalar_subquery()
_FORGET_OWN = Prepared(
    OWN_EPOCH.delete().where(OWN_EPOCH.c.not_after <= bindparam("the_time"), OWN_EPOCH.c.seq < _NEWEST_OWN)
)
_PEER_EPOCHS = Prepared(select(*_PEER).where(PEER_EPOCH.c.agency == bindparam("the_agency")).order_by(PEER_EPOCH.c.seq))
_CARD_READ_AT, _CARD_ASKED_AT = ("read_at", "read_mark"), ("asked_at", "asked_mark")
_CARD_TIMES = Prepared(
    select(*(PEER_CARD.c[name] for name in (*_CARD_READ_AT, *_CARD_ASKED_AT))).where(
        PEER_CARD.c.agency == bindparam("the_agency")
    )
)
_CARD_READ = Prepared(insert_or_replace(PEER_CARD, _CARD_READ_AT), columns=["agency", *_CARD_READ_AT])
_CARD_ASKED = Prepared(insert_or_replace(PEER_CARD, _CARD_ASKED_AT), columns=["agency", *_CARD_ASKED_AT])
_REMEMBER = Prepared(insert_unless_there(PEER_EPOCH), columns=["agency", *_NAMES])
_OTHER = PEER_EPOCH.alias()
_NEWEST = select(func.max(_OTHER.c.seq)).where(_OTHER.c.agency == PEER_EPOCH.c.agency).scalar_subquery()
_FORGET_PEER = Prepared(
    PEER_EPOCH.delete().where(PEER_EPOCH.c.not_after <= bindparam("the_time"), PEER_EPOCH.c.seq < _NEWEST)
)
_REVOKED = [EPOCH_REVOCATION.c[name] for name in StoredRevocation._fields]
_REVOCATIONS = Prepared(
    select(*_REVOKED).where(EPOCH_REVOCATION.c.agency == bindparam("the_agency")).order_by(EPOCH_REVOCATION.c.seq)
)
_REVOKE = Prepared(
    insert_or_replace(EPOCH_REVOCATION, StoredRevocation._fields[1:]), columns=["agency", *StoredRevocation._fields]
)
_FORGET_REVOKED = Prepared(EPOCH_REVOCATION.delete().where(EPOCH_REVOCATION.c.forget_at <= bindparam("the_time")))
_TOO_MANY_REVOCATIONS = Prepared(_beyond_the_newest(EPOCH_REVOCATION))
_TOO_MANY_STATEMENTS = Prepared(_beyond_the_newest(PEER_EPOCH))
_FORGET_STATEMENT = Prepared(
    PEER_EPOCH.delete().where(
        PEER_EPOCH.c.agency == bindparam("the_agency"), PEER_EPOCH.c.key_id == bindparam("the_key")
    )
)
_FORGET_REVOCATION = Prepared(
    EPOCH_REVOCATION.delete().where(
        EPOCH_REVOCATION.c.agency == bindparam("the_agency"), EPOCH_REVOCATION.c.key_id == bindparam("the_key")
    )
)
_WITHDRAW = Prepared(OWN_EPOCH.delete().where(OWN_EPOCH.c.key_id == bindparam("the_key")))


def lock_own_epochs(conn: Connection) -> None:
    """From here to the end of the transaction no other one publishes or withdraws statements of this agency.

    Who gives out numbers looks after this at those that were given out.
    """
    if conn.dialect.name == "postgresql":  # the writers of SQLite are serialised
        conn.exec_driver_sql("LOCK TABLE own_epoch IN SHARE ROW EXCLUSIVE MODE")


def own_epochs(conn: Connection) -> Sequence[StoredEpoch]:
    """Every statement of this agency, oldest first."""
    return [StoredEpoch(*row) for row in _OWN_EPOCHS.rows(conn, {})]


def card_times(conn: Connection, agency: str) -> CardTimes:
    """When some process of this node last read this peer's card, and asked for it."""
    row = _CARD_TIMES.row(conn, {"the_agency": agency})
    read_at, read_mark, asked_at, asked_mark = row if row is not None else (0, None, 0, None)
    return CardTimes(MarkedTime(read_at, read_mark), MarkedTime(asked_at, asked_mark))


def remember_card(
    conn: Connection,
    agency: str,
    epochs: Iterable[StoredEpoch],
    revocations: Iterable[StoredRevocation],
    read: MarkedTime,
) -> None:
    """What a peer's card says that was read and found good.

    Who has announced with `hurry` what goes to this peer, and then looked at its keys, is waited for: what was released
    before a revocation is known is committed before it, too.
    """
    lock_peer(conn, agency)
    remember_peer_epochs(conn, agency, epochs)
    remember_revocations(conn, agency, revocations)
    _CARD_READ.run(conn, {"agency": agency, "read_at": read.at, "read_mark": read.mark})


def note_card_asked(conn: Connection, agency: str, asked: MarkedTime) -> None:
    """This peer was asked for its card, with whatever success."""
    _CARD_ASKED.run(conn, {"agency": agency, "asked_at": asked.at, "asked_mark": asked.mark})


def publish_epochs(conn: Connection, epochs: Iterable[StoredEpoch]) -> None:
    """Add statements of this agency, after `lock_own_epochs`."""
    _PUBLISH.run_each(conn, epochs)


def forget_own_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then, but always keep the newest: peers use no card with none as high."""
    _FORGET_OWN.run(conn, {"the_time": before})


def peer_epochs(conn: Connection, agency: str) -> Sequence[StoredEpoch]:
    """A peer's verified statements, oldest first."""
    return [StoredEpoch(*row) for row in _PEER_EPOCHS.rows(conn, {"the_agency": agency})]


def remember_peer_epochs(conn: Connection, agency: str, epochs: Iterable[StoredEpoch]) -> None:
    """Keep a peer's verified statements, the newest of them; one that is known already stays as it is."""
    _REMEMBER.run_each(conn, [{"agency": agency} | epoch._asdict() for epoch in epochs])
    _TOO_MANY_STATEMENTS.run(conn, {"the_agency": agency})


def forget_peer_epochs(conn: Connection, before: int) -> None:
    """Drop statements that ended before then, but always keep each peer's newest: its number must not go back."""
    _FORGET_PEER.run(conn, {"the_time": before})


def drop_peer_epochs(conn: Connection, agency: str, key_ids: Iterable[str]) -> None:
    """Drop these statements of a peer."""
    _FORGET_STATEMENT.run_each(conn, [{"the_agency": agency, "the_key": key_id} for key_id in key_ids])


def drop_revocations(conn: Connection, agency: str, key_ids: Iterable[str]) -> None:
    """Drop an agency's revocations of these keys."""
    _FORGET_REVOCATION.run_each(conn, [{"the_agency": agency, "the_key": key_id} for key_id in key_ids])


def withdraw_own_epochs(conn: Connection, key_ids: Iterable[str]) -> None:
    """Drop these statements of this agency."""
    _WITHDRAW.run_each(conn, [{"the_key": key_id} for key_id in key_ids])


def epoch_revocations(conn: Connection, agency: str) -> Sequence[StoredRevocation]:
    """An agency's revocations, oldest first."""
    return [StoredRevocation(*row) for row in _REVOCATIONS.rows(conn, {"the_agency": agency})]


def remember_revocations(conn: Connection, agency: str, revocations: Iterable[StoredRevocation]) -> None:
    """Keep an agency's verified revocations, the newest; of two about one key the one that was learned last counts."""
    _REVOKE.run_each(conn, [{"agency": agency} | row._asdict() for row in revocations])
    _TOO_MANY_REVOCATIONS.run(conn, {"the_agency": agency})


def forget_revocations(conn: Connection, at: int) -> None:
    """Drop revocations that have ended: no key that they are about is left."""
    _FORGET_REVOKED.run(conn, {"the_time": at})
