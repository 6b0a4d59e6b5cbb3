"""Per receiver: how many names it was given and has not served yet, and which releases wait because of that."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, text, update

from exchange.storage.tables import PEER, REFERRAL

WAITING = "unserved"
"""The hold of a disclosure that is let go when the receiver serves somebody, or when a worker says so."""
_WAITS = text(f"referral.hold = '{WAITING}'")
"""As it stands in the index: a plan that is made for every value does not find it by a bound one."""


def count_unserved(conn: Connection, peer: str, at: int, *, but: str | None = None) -> int:
    """How many (other) referrals this receiver was given and has not served.

    Two couriers never count at the same time, and no place is freed between the count and what follows from it.
    """
    _lock(conn, peer)
    c = REFERRAL.c
    query = select(func.count()).where(c.peer == peer, c.unserved_until > at)
    return conn.execute(query if but is None else query.where(c.id != but)).scalar_one()


def waiting_for(conn: Connection, peer: str) -> list[tuple[str, str, bytes]]:
    """The releases that wait for this receiver, longest first: referral, contract and sealed facts.

    Who is counting at this moment is waited for: it may find that a release has to wait.
    """
    _lock(conn, peer)
    c = REFERRAL.c
    rows = conn.execute(
        select(c.id, c.contract, c.sealed_facts)
        .where(c.peer == peer, _WAITS, c.sealed_facts.is_not(None))
        .order_by(c.updated_at)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def goes_next(conn: Connection, referral: str) -> bool:
    """This release is due again; returns whether it still waited."""
    c = REFERRAL.c
    due = update(REFERRAL).where(c.id == referral, c.hold == WAITING)
    return conn.execute(due.values(hold="release-due", version=c.version + 1)).rowcount == 1


def _lock(conn: Connection, peer: str) -> None:
    """The row of the peer, to the end of the transaction. On SQLite, where writers are serialised, it is left out."""
    # Those who hand in for this peer meanwhile are not waited for.
    conn.execute(select(PEER.c.agency).where(PEER.c.agency == peer).with_for_update(key_share=True))


def unserved_by_peer(conn: Connection, at: int) -> dict[str, tuple[int, int]]:
    """By receiver: how many names it has and has not served, and how many releases wait for that."""
    c = REFERRAL.c
    given = select(c.peer, func.count()).where(c.unserved_until > at).group_by(c.peer)
    waiting = select(c.peer, func.count()).where(_WAITS).group_by(c.peer)
    names = {row[0]: row[1] for row in conn.execute(given)}
    waits = {row[0]: row[1] for row in conn.execute(waiting)}
    return {peer: (names.get(peer, 0), waits.get(peer, 0)) for peer in sorted(names.keys() | waits.keys())}
