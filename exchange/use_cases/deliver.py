"""What of a peer's queue goes next, in one request.

Rules:

* When an envelope leaves it is looked at once more whether it may (`use_cases.leaving`): days may have passed since the
  gate. What may not go is destroyed here, and told. Stops go to everybody. If the process stands still after that look,
  or the line takes its time, or roster or contracts are others by then, it is looked at anew before anything leaves
  (`Batch.until`, `Batch.world`).
* To a peer that puts us off only her stops go, in requests small enough for the reserve that a receiver keeps.
* What cannot be read here is passed over: it is neither sent nor destroyed, and the peer is not called for it alone. It
  is looked at again with whatever is new, and after a while. So is what the peer itself fails at
  (`use_cases.passed_over`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.elapsed import elapsed_s
from exchange.envelope.format import WIRE_BYTES
from exchange.envelope.kinds import STOPS, Kind
from exchange.envelope.wire import base64url
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, load_batch, lock_queued, mark_attempted, queued_among
from exchange.storage.peer_leases import PeerLease
from exchange.storage.referrals import hold_referrals
from exchange.use_cases.barring import bar
from exchange.use_cases.clock_jumps import clock_jumped
from exchange.use_cases.leaving import headers_leaving
from exchange.use_cases.line import LOOK_HOLDS_S, Line
from exchange.use_cases.node import Node, World
from exchange.use_cases.readable import TogetherOrApart

_HELD_BACK_BY_HER_NO: Final = frozenset(
    kind.value for kind in (Kind.DISCLOSURE, Kind.PROGRESS, Kind.INFORMATION_REQUEST)
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes to a peer in one request."""

    items: Sequence[OutgoingRecord]
    last_seq: int
    body: bytes
    looked_at: float
    """When it was begun to look whether all of it may leave, by a clock that nobody sets (`elapsed_s`)."""
    world: World
    """By which roster and contracts it was looked at. Under others it does not leave without another look."""

    @property
    def until(self) -> float:
        """From this time of `elapsed_s` on it does not leave without another look."""
        return self.looked_at + LOOK_HOLDS_S


async def load_next(node: Node, lease: PeerLease, line: Line) -> Batch | None:
    """The next batch for a leased peer, as large as the line carries, or nothing. Behind what went in this turn."""
    after = line.turns.after
    while rows := await _load_rows(node, lease, line, after):
        after, world = rows[-1][0], node.world()
        found = line.turns.free([item for _, item in rows])
        headers, unreadable = await headers_leaving(node, world, lease.agency, found)
        line.turns.unreadable |= unreadable
        if barred := [item for item in found if item.id not in headers and item.id not in unreadable]:
            if await clock_jumped(node):
                return None  # it is destroyed, and told, when the time is confirmed; nothing reaches a peer before
            line.turns.unreadable |= await _bar_each(node, lease, barred)
        items, looked_at = await _on_their_way(node, [item for item in found if item.id in headers])
        if items:
            wires = [_wire(item, headers[item.id]) for item in items]
            return Batch(items, after, b'{"envelopes":[' + b",".join(wires) + b"]}", looked_at, world)
    return None


async def _load_rows(node: Node, lease: PeerLease, line: Line, after: int) -> Sequence[tuple[int, OutgoingRecord]]:
    most, size, but = line.envelopes, line.carries, line.turns.done
    kinds = STOPS if line.turns.stops_first or lease.only_stops_until is not None else None
    if lease.only_stops_until is not None:
        size = min(size, node.limits.small_request_bytes)
    return await node.database.read(
        lambda conn: load_batch(conn, lease.agency, after=after, limit=most, max_bytes=size, kinds=kinds, but=but)
    )


async def _bar_each(node: Node, lease: PeerLease, barred: Sequence[OutgoingRecord]) -> set[str]:
    """Destroy what may not leave any more, and tell; returns what stays, since its row cannot be changed."""
    parts, concerned = TogetherOrApart(node, lease.agency), {item.referral for item in barred}
    await parts.write(lambda conn: parts.change(conn, concerned, lambda conn, some: _bar(node, conn, barred, some)))
    return {item.id for item in barred if item.referral in parts.left}


def _bar(node: Node, conn: Connection, items: Iterable[OutgoingRecord], referrals: Collection[str]) -> None:
    """Of those that still wait: another courier may have delivered one, or her no deleted it, since they were read."""
    barred = [item for item in items if item.referral in referrals]
    hold_referrals(conn, referrals)
    waiting = lock_queued(conn, [item.id for item in barred])
    bar(node, conn, [item for item in barred if item.id in waiting])


async def _on_their_way(node: Node, items: list[OutgoingRecord]) -> tuple[list[OutgoingRecord], float]:
    """Write down what may arrive from now on and her no could hold back; what it has deleted meanwhile is not sent.

    Returns:
        What is sent, and since when that may be out of date.
    """
    if marked := {item.id: item.referral for item in items if item.kind in _HELD_BACK_BY_HER_NO}:
        at = node.clock()

        def mark(conn: Connection) -> None:
            hold_referrals(conn, set(marked.values()))
            mark_attempted(conn, marked, at)

        await node.database.write(mark)
    # Last of all, and of the others too: since they were read somebody may have waited for the database.
    looked_at, may_be_deleted = elapsed_s(), [item.id for item in items if item.kind not in STOPS]
    if not may_be_deleted:
        return items, looked_at
    going = await node.database.read(lambda conn: queued_among(conn, may_be_deleted))
    return [item for item in items if item.kind in STOPS or item.id in going], looked_at


def _wire(item: OutgoingRecord, header: bytes) -> bytes:
    """Canonical JSON, then spaces: every member is base64url and needs no escape, and no kind is told by its length."""
    members = [(b"ciphertext", item.ciphertext), (b"header", header)]
    if item.release is not None:
        members.append((b"release", item.release))
    members += [(b"signature", item.signature), (b"wrapped_key", item.wrapped_key)]
    text = b"{" + b",".join([b'"%b":"%b"' % (name, base64url(value or b"")) for name, value in members]) + b"}"
    return text.ljust(WIRE_BYTES.get(len(item.ciphertext or b""), 0))
