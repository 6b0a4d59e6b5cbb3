"""The courier leases peers, not envelopes, so that order and retry state of one way are one row.

A time that is further ahead than anything lasts was written by a clock that was ahead, and is over: her no would
otherwise wait until that time has really come.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from exchange.storage.outbox import IS_QUEUED
from exchange.storage.prepared import Prepared
from exchange.storage.statements import Both
from exchange.storage.tables import OUTBOX, PEER
from exchange.storage.transaction import signal


@dataclass(frozen=True, slots=True)
class PeerLease:
    """The right to deliver to one peer, for a while."""

    agency: str
    token: str
    attempts: int
    failing_since: int | None
    carries: int | None
    """Bytes of a batch that the line is trusted with; nothing where it was never used."""
    only_stops_until: int | None
    """Nothing but stops goes under this lease: for the rest the peer has put us off until then."""
    heard_of: int | None
    """When the peer was last, before the claim."""


@dataclass(frozen=True, slots=True)
class Longest:
    """How far ahead a time may lie that a clock wrote which was right; where it differs from ours, a little further."""

    lease_ms: int
    wait_ms: int
    """Until a peer is called again, also one that has put us off."""

    def after(self, at: int) -> dict[str, int]:
        """The parameters of a statement that looks at such times."""
        return {"the_time": at, "the_last_lease": at + self.lease_ms, "the_last_wait": at + self.wait_ms}


def _over(column: Column[int], last: str) -> ColumnElement[bool]:
    return or_(column <= bindparam("the_time"), column > bindparam(last))


def _ends(column: Column[int], last: str) -> ColumnElement[int]:
    """When it ends; where it counts as over, long ago."""
    return case((column > bindparam(last), literal_column("0")), else_=column)


_HURRY = Prepared(
    update(PEER)
    .where(PEER.c.agency == bindparam("the_agency"), PEER.c.attempts == 0, PEER.c.due_at > bindparam("due_at"))
    .values(due_at=bindparam("due_at"))
)
# Where the next call is another than the one that was put off, the peer has put off a stop as well, or did not answer.
_HURRY_STOP = Prepared(
    update(PEER)
    .where(
        PEER.c.agency == bindparam("the_agency"),
        PEER.c.due_at == PEER.c.only_stops_until,
        PEER.c.due_at > bindparam("due_at"),
    )
    .values(due_at=bindparam("due_at"))
)
_THE_PEER = select(PEER.c.agency).where(PEER.c.agency == bindparam("the_agency"))
# Who hands in shares it with whoever else does, and with a claim: FOR KEY SHARE excludes FOR UPDATE alone.
_ANNOUNCE = Prepared(_THE_PEER.with_for_update(read=True, key_share=True))
# The dialect of SQLite, where writers are serialised, leaves FOR UPDATE out.
_LOCK = Prepared(_THE_PEER.with_for_update())
_HAS_QUEUED = exists().where(OUTBOX.c.peer == PEER.c.agency, IS_QUEUED)
_DUE = Prepared(
    select(PEER.c.agency, PEER.c.last_contact)
    .where(and_(_over(PEER.c.due_at, "the_last_wait"), _over(PEER.c.lease_until, "the_last_lease"), _HAS_QUEUED))
    .order_by(PEER.c.due_at)
    .limit(1)
    .with_for_update(key_share=True, skip_locked=True)
)
_LEASE = Prepared(
    update(PEER)
    .where(PEER.c.agency == bindparam("the_agency"))
    .values(lease_token=bindparam("lease_token"), lease_until=bindparam("lease_until"), last_contact=null())
    .returning(PEER.c.attempts, PEER.c.failing_since, PEER.c.carries, PEER.c.only_stops_until)
)
_DUE_AND_FREE = _ends(PEER.c.due_at, "the_last_wait"), _ends(PEER.c.lease_until, "the_last_lease")
_NEXT_DUE = Prepared(
    Both(
        select(func.min(func.max(*_DUE_AND_FREE))).where(_HAS_QUEUED),
        select(func.min(func.greatest(*_DUE_AND_FREE))).where(_HAS_QUEUED),
    )
)
# While somebody holds it, once for each lease, and where its tries fail (after a first one the next comes at once): the
# row of a peer that delivers all the time is otherwise locked each time, and who gives the lease back has it already.
_FAILS = PEER.c.failing_since.is_not(null())
_UNHEARD_OF = and_(PEER.c.lease_token.is_not(null()), _FAILS, PEER.c.last_contact.is_(null()))
_TIME = PEER.c.due_at.type
_HEARD_OF_AGAIN_MS = 3_000
_AT = bindparam("the_time", type_=_TIME)
_AGAIN = PEER.c.last_contact + literal_column(str(_HEARD_OF_AGAIN_MS))
_HEARD_OF_JUST_NOW = and_(_FAILS, PEER.c.last_contact <= _AT, _AGAIN > _AT)
_DUE_BY_IT = case((_HEARD_OF_JUST_NOW, _AGAIN), else_=_AT)
_SIGN_OF_LIFE = Prepared(
    update(PEER)
    .where(PEER.c.agency == bindparam("the_agency"), or_(PEER.c.due_at > _DUE_BY_IT, _UNHEARD_OF))
    .values(due_at=_DUE_BY_IT, last_contact=_AT)
)
_HELD = update(PEER).where(PEER.c.agency == bindparam("the_agency"), PEER.c.lease_token == bindparam("the_token"))
_DUE_AT = bindparam("due_at", type_=_TIME)
_GIVE_BACK = _HELD.values(
    lease_token=null(),
    lease_until=literal_column("0"),
    due_at=_DUE_AT,
    carries=bindparam("carries"),
    only_stops_until=bindparam("only_stops_until"),
)
_REACHED = Prepared(
    _GIVE_BACK.values(attempts=bindparam("refused"), failing_since=null(), last_contact=bindparam("the_time"))
)
_NOT_REACHED = Prepared(
    _GIVE_BACK.values(
        due_at=case((PEER.c.last_contact.is_not(null()), bindparam("due_if_heard_of", type_=_TIME)), else_=_DUE_AT),
        attempts=PEER.c.attempts + literal_column("1"),
        failing_since=func.coalesce(PEER.c.failing_since, _AT),
        last_contact=func.coalesce(PEER.c.last_contact, bindparam("heard_of", type_=_TIME)),
    )
)


def claim_peer(conn: Connection, *, at: int, token: str, lease_ms: int, longest: Longest) -> PeerLease | None:
    """Lease one peer that has something queued and is due; nothing when there is none.

    Two couriers never hold the same peer: PostgreSQL skips locked rows, SQLite writers are serialised.
    """
    due = _DUE.row(conn, longest.after(at))
    if due is None:
        return None
    agency, heard_of = due
    leased = {"the_agency": agency, "lease_token": token, "lease_until": at + lease_ms}
    # Every row is fetched: on SQLite a statement that still has rows holds up the commit.
    [(attempts, failing_since, carries, until)] = _LEASE.rows(conn, leased)
    put_off = until is not None and at < until <= at + longest.wait_ms
    return PeerLease(agency, token, attempts, failing_since, carries, until if put_off else None, heard_of)


def renew_lease(conn: Connection, lease: PeerLease, *, until: int) -> bool:
    """Hold a peer for longer; returns whether it was still held."""
    held = update(PEER).where(PEER.c.agency == lease.agency, PEER.c.lease_token == lease.token)
    return conn.execute(held.values(lease_until=until)).rowcount == 1


def next_due(conn: Connection, *, at: int, longest: Longest) -> int | None:
    """When the next peer with something queued is due (Unix milliseconds)."""
    due = _NEXT_DUE.row(conn, longest.after(at))
    return None if due is None else due[0]


def settle_peer(
    conn: Connection,
    lease: PeerLease,
    *,
    at: int,
    due_at: int,
    reached: bool,
    carries: int,
    told_to_wait: bool,
    only_stops_until: int | None,
) -> bool:
    """Give the lease back; a courier that lost it changes nothing. Returns whether it still held.

    A peer that was reached, and said when it may be called again, is not called earlier for something new. For a stop
    it is, as long as it is due at `only_stops_until`: what it has put off until then was no stop.

    One that was not reached this time nor the time before, has not put us off, and gave a sign of life since the claim
    is due in three seconds at the latest, for one try.
    """
    mine = {"the_agency": lease.agency, "the_token": lease.token}
    values = mine | {"due_at": due_at, "carries": carries, "the_time": at, "only_stops_until": only_stops_until}
    if reached:
        return _REACHED.run(conn, values | {"refused": int(told_to_wait)}) == 1
    soon = due_at if told_to_wait else min(due_at, at + _HEARD_OF_AGAIN_MS)
    # What was heard before a first try that failed has brought no try about.
    heard_of = None if lease.failing_since is None else lease.heard_of
    return _NOT_REACHED.run(conn, values | {"due_if_heard_of": soon, "heard_of": heard_of}) == 1


def lock_peer(conn: Connection, agency: str) -> None:
    """From here to the end of the transaction nothing new is queued for this peer, and nothing that was is open.

    Who gives a lease back with a wait and looks first for what is new, looks after this: it is there by then, or its
    `hurry` finds the time that is written now.
    """
    _LOCK.row(conn, {"the_agency": agency})


def sign_of_life(conn: Connection, agency: str, at: int) -> None:
    """The peer is there: whatever waits for it is due now, and the courier hears of it.

    Where two tries have failed, three seconds after the sign before, if that is later: two whose answers break on the
    way back would otherwise wake each other without pause.

    While it is tried nothing changes for that try, which may have begun before: it is noted for when that has failed.

    What it has put off itself, and is no stop, waits on: that it is there was known.
    """
    if _SIGN_OF_LIFE.run(conn, {"the_agency": agency, "the_time": at}) == 1:
        signal(conn, "outbox")


def hurry(conn: Connection, agency: str, at: int, *, stop: bool = False) -> None:
    """Something new waits for a peer that is there: what it did not take before holds nothing new up.

    A stop does not wait for a peer either that has put off what is no stop.
    """
    if conn.dialect.name == "postgresql":
        # An UPDATE that does not concern the row as it was does not wait for who is about to change it. And who is
        # about to change it waits for this transaction, which it cannot see before it ends.
        _ANNOUNCE.row(conn, {"the_agency": agency})
    _HURRY.run(conn, {"the_agency": agency, "due_at": at})
    if stop:
        _HURRY_STOP.run(conn, {"the_agency": agency, "due_at": at})
