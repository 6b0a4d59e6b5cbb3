"""Per receiver: how many names it was given and has not served yet, and which releases wait because of that."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, literal_column, select, text

from exchange.storage.prepared import Prepared
from exchange.storage.tables import CHANGE, PEER, REFERRAL

WAITING = "unserved"
"""The hold of a disclosure that is let go when the receiver serves somebody, or when a worker says so."""
TOLD_AS = "receiver-unserved"
"""The change by which its agency is told of it."""
_WAITS = text(f"referral.hold = '{WAITING}'")
"""As it stands in the index: a plan that is made for every value does not find it by a bound one."""


class Waiting(NamedTuple):
    """A release that waits for a place at its receiver."""

    referral: str
    peer: str
    heard_at: int
    """When anything of it changed last."""
    contract: str
    sealed_facts: bytes


# What is heard of a referral meanwhile changes its row, and must not cost her the turn.
_SINCE = (
    select(func.max(CHANGE.c.at))
    .where(CHANGE.c.referral == REFERRAL.c.id, CHANGE.c.what == literal_column(f"'{TOLD_AS}'"))
    .correlate(REFERRAL)
    .scalar_subquery()
)
_WAITING = Prepared(
    select(*(REFERRAL.c[name] for name in ("id", "peer", "updated_at", "contract", "sealed_facts")))
    .where(_WAITS, REFERRAL.c.sealed_facts.is_not(None))
    .order_by(func.coalesce(_SINCE, REFERRAL.c.updated_at), REFERRAL.c.updated_at)
)


def all_waiting(conn: Connection) -> list[Waiting]:
    """The releases that wait for a place, longest first."""
    return [Waiting(*row) for row in _WAITING.rows(conn, {})]


def names_unserved(conn: Connection, peer: str, at: int, *, but: str | None = None) -> int:
    """How many (other) referrals this receiver was given and has not served."""
    c = REFERRAL.c
    query = select(func.count()).where(c.peer == peer, c.unserved_until > at)
    return conn.execute(query if but is None else query.where(c.id != but)).scalar_one()


def count_unserved(conn: Connection, peer: str, at: int, *, but: str | None = None) -> int:
    """As `names_unserved`; two couriers never count at the same time.

    Who counts has locked its own referral, and locks no other after the row of the peer.
    """
    # On SQLite, where writers are serialised, it is left out. Those who hand in for this peer are not waited for.
    conn.execute(select(PEER.c.agency).where(PEER.c.agency == peer).with_for_update(key_share=True))
    return names_unserved(conn, peer, at, but=but)


def unserved_by_peer(conn: Connection, at: int) -> dict[str, tuple[int, int]]:
    """By receiver: how many names it has and has not served, and how many releases wait for that."""
    c = REFERRAL.c
    given = select(c.peer, func.count()).where(c.unserved_until > at).group_by(c.peer)
    waiting = select(c.peer, func.count()).where(_WAITS).group_by(c.peer)
    names = {row[0]: row[1] for row in conn.execute(given)}
    waits = {row[0]: row[1] for row in conn.execute(waiting)}
    return {peer: (names.get(peer, 0), waits.get(peer, 0)) for peer in sorted(names.keys() | waits.keys())}
