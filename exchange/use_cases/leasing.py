"""Which peer is due, for how long one courier has it, and when it is due again.

Rules:

* One row for each peer: who claims it is alone with its queue, and whoever holds it too long, or is killed, loses it.
* A stop goes before the time of a next try: while a peer puts us off (429 or 503 with Retry-After) her stops still go,
  alone. Once it puts off these too, they wait as long as it says.
* What is handed in while a lease is given back waits for nothing, whatever waits before it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from exchange.envelope.kinds import STOPS
from exchange.limits import SECOND_MS
from exchange.storage.database import Connection
from exchange.storage.outbox import has_queued, queued_but
from exchange.storage.peer_leases import Longest, PeerLease, claim_peer, lock_peer, next_due, renew_lease, settle_peer
from exchange.use_cases.line import Line
from exchange.use_cases.node import Node

PUT_OFF_AT_MOST_MS: Final = 3600 * SECOND_MS
"""As long as the transport lets a peer put us off as well."""
UNREADABLE_AGAIN_MS: Final = 60 * SECOND_MS
"""Somebody has to mend it first."""
_STOPS_AGAIN_MS: Final = 3 * SECOND_MS
"""The same, at a peer that has put off all but stops: it is not called for a new one before."""


@dataclass(frozen=True, slots=True)
class Last:
    """Nothing goes after this batch: the lease is given back with it."""

    line: Line
    retry_after_ms: int | None
    """What batches before it have to wait for."""


async def claim(node: Node, token: str) -> PeerLease | None:
    """Lease one peer that is due, or nothing."""
    lease_ms = node.limits.lease_default_s * SECOND_MS
    longest = _longest(node)
    due = await node.database.read(lambda conn: next_due(conn, at=node.clock(), longest=longest))
    if due is None or due > node.clock():
        return None
    return await node.database.write(
        lambda conn: claim_peer(conn, at=node.clock(), token=token, lease_ms=lease_ms, longest=longest), durable=False
    )


def _longest(node: Node) -> Longest:
    """How long anything lasts that is written down here about a peer, by a clock that may differ a little."""
    limits = node.limits
    schedule_ms = int(max(band.every_ms for band in limits.retry) * max(limits.retry_jitter))
    return Longest(
        lease_ms=limits.lease_default_s * SECOND_MS + limits.skew_ms,
        wait_ms=max(schedule_ms, PUT_OFF_AT_MOST_MS) + limits.skew_ms,
    )


async def next_wait_ms(node: Node, longest: int) -> int:
    """How long nothing is due, at most `longest`."""
    due = await node.database.read(lambda conn: next_due(conn, at=node.clock(), longest=_longest(node)))
    return longest if due is None else max(0, min(longest, due - node.clock()))


async def renew(node: Node, lease: PeerLease) -> bool:
    """Hold a peer while a slow line works; returns whether it was still held."""
    until = node.clock() + node.limits.lease_default_s * SECOND_MS
    return await node.database.write(lambda conn: renew_lease(conn, lease, until=until), durable=False)


async def give_back(node: Node, lease: PeerLease, line: Line, *, reached: bool, retry_after_ms: int | None) -> None:
    """Return the lease, with the time of the next try and what the line carried."""
    at = node.clock()
    wait_ms = retry_after_ms or 0
    if not reached:
        failing_for = at - (lease.failing_since or at)
        low, high = node.limits.retry_jitter
        # Jitter spreads load. From the node's own randomness, so that a simulation plays the same again.
        spread = int.from_bytes(node.entropy(4), "big") / 2**32
        wait = node.limits.retry_after_ms(failing_for) * (low + (high - low) * spread)
        wait_ms = max(int(wait), wait_ms)
    told = retry_after_ms is not None
    await node.database.write(
        lambda conn: _return_lease(conn, lease, line, at=at, wait_ms=wait_ms, reached=reached, told=told)
    )


async def end_lease(node: Node, lease: PeerLease, last: Last) -> None:
    """Return the lease where nothing is left to go: what went before waits as long as the peer has said."""
    at = node.clock()
    await node.database.write(lambda conn: end_lease_within(conn, lease, last, at=at, wait_ms=last.retry_after_ms or 0))


def end_lease_within(conn: Connection, lease: PeerLease, last: Last, *, at: int, wait_ms: int) -> None:
    """The same in a transaction that writes something else as well; `wait_ms`: what of all that went has to wait."""
    turns = last.line.turns
    if not wait_ms and turns.passed:
        wait_ms = UNREADABLE_AGAIN_MS if lease.only_stops_until is None else _STOPS_AGAIN_MS
    if wait_ms and lease.only_stops_until is None and _new_waits(conn, lease, {*turns.sent, *turns.passed}):
        wait_ms = 0
    _return_lease(conn, lease, last.line, at=at, wait_ms=wait_ms, reached=True, told=False)


def _return_lease(
    conn: Connection, lease: PeerLease, line: Line, *, at: int, wait_ms: int, reached: bool, told: bool
) -> None:
    """Give the lease back. `told`: the peer has put us off for `wait_ms`, for the first time or her stops as well.

    A stop that came after the last batch was loaded found the peer due, and made nothing due: it is looked for here.
    """
    until, due_at = lease.only_stops_until, at + wait_ms
    # Where a stop was not taken in silence, that something else was put off before says nothing of it.
    told_to_wait = told or (reached and until is not None)
    if told and until is None:
        until = due_at
        if _stop_waits(conn, lease):
            due_at = at
    elif told and due_at >= (until or 0):
        until = None
    elif reached and not told and until is not None:
        # Where there is something to wait for it is a stop, and one that came meanwhile waits with it.
        if not wait_ms and not _stop_waits(conn, lease):
            due_at = until
        due_at = max(at, min(due_at, until))
    settle_peer(
        conn,
        lease,
        at=at,
        due_at=due_at,
        reached=reached,
        carries=line.carries,
        told_to_wait=told_to_wait,
        only_stops_until=until,
    )


def _stop_waits(conn: Connection, lease: PeerLease) -> bool:
    lock_peer(conn, lease.agency)
    return has_queued(conn, lease.agency, STOPS)


def _new_waits(conn: Connection, lease: PeerLease, known: Collection[str]) -> bool:
    """Whether more is queued than went under the lease, or was passed over: it is new, and waits for nothing.

    By name and not by place in the queue: of two that hand in at once the later one may be seen first.
    """
    lock_peer(conn, lease.agency)
    return queued_but(conn, lease.agency, known)
