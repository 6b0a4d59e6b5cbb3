"""The courier's database half: which peer is due, what goes into a batch, what its answers mean.

Rules:

* An envelope leaves the queue only when the peer's node key has signed for exactly its digest. A receipt that does not
  verify is no answer. The key is the one that the roster lists when the answer is here: it may have been replaced while
  that was on its way, and who has the old one could end her no.
* `refused` is final and is told to this agency's system; but no refusal of a stop is: her no goes again until it is
  acknowledged. Nor is `wrong-recipient`: another node answers where this node's roster says that the receiver is, which
  itself has said nothing. `later` leaves the envelope where it is, and lets the ones behind it pass, those too that are
  handed in while the lease is given back.
* When an envelope leaves it is looked at once more whether it may (`use_cases.leaving`): days may have passed since the
  gate. What may not go is destroyed here, and told. Stops go to everybody. If the process stands still after that look,
  or the line takes its time, or roster or contracts are others by then, it is looked at anew before anything leaves
  (`Batch.until`, `Batch.world`).
* While a peer puts us off (429 or 503 with Retry-After) her stops still go, alone and in requests small enough for the
  reserve that a receiver keeps. Once it puts off these too, they wait as long as it says.
* A peer that refuses a disclosure may have read it: the record goes on saying that she was disclosed to it.
* What a peer does not take because this agency's key was replaced is signed anew, or destroyed and told
  (`use_cases.signed_before`).
* What cannot be read here is passed over: it is neither sent nor destroyed, and the peer is not called for it alone. It
  is looked at again with whatever is new, and after a while. So is what the peer itself fails at
  (`use_cases.passed_over`).
* The bodies of delivered forwards and answers are destroyed here; stops keep theirs, they carry nothing about anyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.elapsed import elapsed_s
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.format import WIRE_BYTES
from exchange.envelope.kinds import STOPS, Kind
from exchange.envelope.statements import DeliveryReceipt, parse_statement
from exchange.envelope.wire import base64url, from_base64url
from exchange.limits import LIMITS, SECOND_MS
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.stops import TAKES_BACK
from exchange.storage.database import Connection
from exchange.storage.outbox import (
    OutgoingRecord,
    Settlement,
    has_queued,
    load_batch,
    lock_queued,
    mark_attempted,
    queued_among,
    queued_but,
)
from exchange.storage.outbox import settle as settle_envelopes
from exchange.storage.peer_leases import Longest, PeerLease, claim_peer, lock_peer, next_due, renew_lease, settle_peer
from exchange.storage.referrals import ReferralRecord, hold_referrals, load_referrals
from exchange.telemetry.logs import get_logger
from exchange.use_cases.barring import bar
from exchange.use_cases.change_referral import change_by_id, change_each
from exchange.use_cases.clock_jumps import clock_jumped
from exchange.use_cases.leaving import headers_leaving
from exchange.use_cases.line import LOOK_HOLDS_S, Line
from exchange.use_cases.node import Node, World
from exchange.use_cases.peer_cards import read_card_of_whom_a_key_is_lost
from exchange.use_cases.readable import TogetherOrApart
from exchange.use_cases.refused_by_peer import kept_code
from exchange.use_cases.signed_before import signed_anew
from exchange.use_cases.unheard import heard_again

_HELD_BACK_BY_HER_NO: Final = frozenset(
    kind.value for kind in (Kind.DISCLOSURE, Kind.PROGRESS, Kind.INFORMATION_REQUEST)
)
_LATER_AT_LEAST_MS: Final = SECOND_MS
_LATER_AT_MOST_MS: Final = 3600 * SECOND_MS
"""As long as the transport lets a peer put us off as well."""
_RECEIPTS_AT_A_TIME: Final = 8
"""Checking one takes a twentieth of a millisecond."""
_KEY_IS_LOST: Final = "cannot-unwrap"
_UNREADABLE_AGAIN_MS: Final = 60 * SECOND_MS
"""Somebody has to mend it first."""
_STOPS_AGAIN_MS: Final = 3 * SECOND_MS
"""The same, at a peer that has put off all but stops: it is not called for a new one before."""
_UNUSABLE_AGAIN_MS: Final = 3 * SECOND_MS
"""A peer that answered too little, or signed for something else, is asked again after this long."""


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
        wait_ms=max(schedule_ms, _LATER_AT_MOST_MS) + limits.skew_ms,
    )


async def next_wait_ms(node: Node, longest: int) -> int:
    """How long nothing is due, at most `longest`."""
    due = await node.database.read(lambda conn: next_due(conn, at=node.clock(), longest=_longest(node)))
    return longest if due is None else max(0, min(longest, due - node.clock()))


async def renew(node: Node, lease: PeerLease) -> bool:
    """Hold a peer while a slow line works; returns whether it was still held."""
    until = node.clock() + node.limits.lease_default_s * SECOND_MS
    return await node.database.write(lambda conn: renew_lease(conn, lease, until=until), durable=False)


async def load_next(node: Node, lease: PeerLease, line: Line, after: int) -> Batch | None:
    """The next batch for a leased peer, as large as the line carries, or nothing."""
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


async def settle(
    node: Node, lease: PeerLease, batch: Batch, answer: BatchAnswer, *, last: Last | None = None
) -> int | None:
    """Write down what the peer answered, all of it in one transaction, and after the last batch give the lease back.

    Returns:
        After how many milliseconds something may go again that the peer did not take, if there is any.
    """
    at, peer = node.clock(), node.world().roster.members.get(lease.agency)
    # A peer that answers too few has not answered the rest; they go again.
    answered = list(zip(batch.items, answer.answers, strict=False))
    receipts = {}
    for done, (item, given) in enumerate(answered, start=1):
        receipts[item.id] = _receipt(item, given, peer)
        if done % _RECEIPTS_AT_A_TIME == 0:
            # The next batch goes out meanwhile, and must not wait for the signatures of fifty receipts.
            await asyncio.sleep(0)
    anew = {item.id: step for item, given in answered if (step := signed_anew(node, item, given)) is not None}
    settlements = [
        one
        for item, given in answered
        if item.id not in anew and (one := _settlement(item, given, receipts[item.id])) is not None
    ]
    retry_after_ms = _pause(node, batch, answered, receipts, at)

    parts = TogetherOrApart(node, lease.agency)

    def change(conn: Connection, referrals: Collection[str]) -> None:
        going = {item.id: item for item, _ in answered if item.referral in referrals}
        hold_referrals(conn, referrals)
        settled = settle_envelopes(conn, [one for one in settlements if one.id in going], at)
        items = [item for item in going.values() if item.id in settled]
        arrived = [item for item in items if receipts[item.id] is not None]
        offers = [item.referral for item in arrived if item.kind == Kind.OFFER]
        change_each(node, conn, offers, what="delivered", adjust=lambda record: _reached(record, at))
        stopped = _stopped(conn, [item for item in arrived if item.kind in TAKES_BACK])
        change_each(node, conn, stopped, what="stop-delivered", adjust=lambda record: heard_again(conn, record))
        _refused(node, conn, [item for item in items if receipts[item.id] is None])
        for envelope, step in anew.items():
            if envelope in going:
                step(conn)

    def commit(conn: Connection) -> None:
        parts.change(conn, {item.referral for item, _ in answered}, change)
        if last is not None:
            wait_ms = max(retry_after_ms or 0, last.retry_after_ms or 0)
            _end_lease(conn, lease, last, at=at, wait_ms=wait_ms or (_UNREADABLE_AGAIN_MS if parts.left else 0))

    await parts.write(commit)
    lost = any(given.problem is not None and given.problem.code == _KEY_IS_LOST for _, given in answered)
    if lost and peer is not None:
        await read_card_of_whom_a_key_is_lost(node, peer)
    for item, _ in answered:
        if receipts[item.id] is not None and item.referral not in parts.left:
            node.measurements.delivered(kind=item.kind, latency_ms=at - item.created_at)
    return retry_after_ms or (_UNREADABLE_AGAIN_MS if parts.left else None)


def _pause(
    node: Node,
    batch: Batch,
    answered: Sequence[tuple[OutgoingRecord, ItemAnswer]],
    receipts: Mapping[str, bytes | None],
    at: int,
) -> int | None:
    """How long what stays in the queue waits, if anything does."""
    waits = [
        max(_LATER_AT_LEAST_MS, min(_LATER_AT_MOST_MS, (given.retry_after or 0) * SECOND_MS))
        for _, given in answered
        if given.result == "later"
    ]
    waits += [
        node.limits.retry_after_ms(at - item.created_at)
        for item, given in answered
        if given.result == "refused" and not _is_final(item, given)
    ]
    unusable = sum(given.result == "accepted" and receipts[item.id] is None for item, given in answered)
    if unusable:
        get_logger().warning("receipt-refused", peer=batch.items[0].peer, count=unusable)
    if unusable or len(answered) < len(batch.items):
        waits.append(_UNUSABLE_AGAIN_MS)
    return max(waits, default=None)


def _receipt(item: OutgoingRecord, given: ItemAnswer, peer: Member | None) -> bytes | None:
    """The receipt's bytes, if the peer's node key signed for exactly this envelope."""
    if given.result != "accepted" or given.receipt is None or peer is None:
        return None
    try:
        raw = from_base64url(given.receipt, member="receipt", longest=LIMITS.statement_bytes)
        receipt = parse_statement(DeliveryReceipt, raw).verify(peer.node_key)
    except EnvelopeError:
        return None
    return raw if (receipt.envelope, receipt.digest, receipt.recipient) == (item.id, item.digest, peer.agency) else None


def _settlement(item: OutgoingRecord, given: ItemAnswer, receipt: bytes | None) -> Settlement | None:
    """What the answer makes of the envelope; nothing where it stays in the queue."""
    if receipt is not None:
        return Settlement(item.id, "delivered", receipt=receipt, keep_body=item.kind in STOPS)
    if given.result != "refused" or not _is_final(item, given):
        return None
    code = given.problem.code if given.problem is not None else None
    return Settlement(item.id, "refused", problem=kept_code(code))


def _is_final(item: OutgoingRecord, given: ItemAnswer) -> bool:
    """Whether a refusal ends it."""
    answered_by_another = given.problem is not None and given.problem.code == "wrong-recipient"
    return item.kind not in STOPS and not answered_by_another


def _reached(record: ReferralRecord, at: int) -> ReferralRecord:
    return record._replace(delivered_at=record.delivered_at or at, undeliverable=False)


def _stopped(conn: Connection, stops: Sequence[OutgoingRecord]) -> set[str]:
    """Referrals of which it is news that a stop has arrived.

    Of one that had arrived before, and went again because its receiver asked for it, it is none, unless somebody is to
    telephone no more: a peer that signs for it and asks again would make the change list longer each time.
    """
    again = load_referrals(conn, {stop.referral for stop in stops if stop.receipt is not None})
    news = {referral for referral, record in again.items() if heard_again(conn, record) != record}
    return news | {stop.referral for stop in stops if stop.receipt is None}


def _refused(node: Node, conn: Connection, items: Iterable[OutgoingRecord]) -> None:
    for item in items:

        def adjust(record: ReferralRecord, kind: str = item.kind) -> ReferralRecord:
            if kind == Kind.DISCLOSURE:
                return record._replace(hold="awaiting-disclosure")
            return record._replace(undeliverable=True)

        change_by_id(node, conn, item.referral, what=f"{item.kind}-refused", adjust=adjust)


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
    await node.database.write(lambda conn: _end_lease(conn, lease, last, at=at, wait_ms=last.retry_after_ms or 0))


def _end_lease(conn: Connection, lease: PeerLease, last: Last, *, at: int, wait_ms: int) -> None:
    turns = last.line.turns
    if not wait_ms and turns.passed:
        wait_ms = _UNREADABLE_AGAIN_MS if lease.only_stops_until is None else _STOPS_AGAIN_MS
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
    told_to_wait = told or until is not None
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
