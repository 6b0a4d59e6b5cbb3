"""What the answers of a peer mean: one transaction for each batch.

Rules:

* An envelope leaves the queue only when the peer's node key has signed for exactly its digest. A receipt that does not
  verify is no answer. The key is the one that the roster lists when the answer is here: it may have been replaced while
  that was on its way, and who has the old one could end her no.
* `refused` is final and is told to this agency's system; but no refusal of a stop is: her no goes again until it is
  acknowledged. Nor is `wrong-recipient`: another node answers where this node's roster says that the receiver is, which
  itself has said nothing. `later` leaves the envelope where it is, and lets the ones behind it pass.
* A peer that refuses a disclosure may have read it: the record goes on saying that she was disclosed to it.
* What a peer does not take because this agency's key was replaced is signed anew, or destroyed and told
  (`use_cases.signed_before`).
* The bodies of delivered forwards and answers are destroyed here; stops keep theirs, they carry nothing about anyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from exchange.envelope.errors import EnvelopeError
from exchange.envelope.kinds import STOPS, Kind
from exchange.envelope.statements import DeliveryReceipt, parse_statement
from exchange.envelope.wire import from_base64url
from exchange.limits import LIMITS, SECOND_MS
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.stops import TAKES_BACK
from exchange.storage.database import Connection
from exchange.storage.outbox import OutgoingRecord, Settlement
from exchange.storage.outbox import settle as settle_envelopes
from exchange.storage.peer_leases import PeerLease
from exchange.storage.referrals import ReferralRecord, hold_referrals, load_referrals
from exchange.telemetry.logs import get_logger
from exchange.use_cases.change_referral import change_by_id, change_each
from exchange.use_cases.deliver import Batch
from exchange.use_cases.leasing import PUT_OFF_AT_MOST_MS, UNREADABLE_AGAIN_MS, Last, end_lease_within
from exchange.use_cases.node import Node
from exchange.use_cases.peer_cards import read_card_of_whom_a_key_is_lost
from exchange.use_cases.readable import TogetherOrApart
from exchange.use_cases.refused_by_peer import kept_code
from exchange.use_cases.signed_before import signed_anew
from exchange.use_cases.unheard import heard_again

_LATER_AT_LEAST_MS: Final = SECOND_MS
_RECEIPTS_AT_A_TIME: Final = 8
"""Checking one takes a twentieth of a millisecond."""
_KEY_IS_LOST: Final = "cannot-unwrap"
_UNUSABLE_AGAIN_MS: Final = 3 * SECOND_MS
"""A peer that answered too little, or signed for something else, is asked again after this long."""


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
            end_lease_within(conn, lease, last, at=at, wait_ms=wait_ms or (UNREADABLE_AGAIN_MS if parts.left else 0))

    await parts.write(commit)
    lost = any(given.problem is not None and given.problem.code == _KEY_IS_LOST for _, given in answered)
    if lost and peer is not None:
        await read_card_of_whom_a_key_is_lost(node, peer)
    for item, _ in answered:
        if receipts[item.id] is not None and item.referral not in parts.left:
            node.measurements.delivered(kind=item.kind, latency_ms=at - item.created_at)
    return retry_after_ms or (UNREADABLE_AGAIN_MS if parts.left else None)


def _pause(
    node: Node,
    batch: Batch,
    answered: Sequence[tuple[OutgoingRecord, ItemAnswer]],
    receipts: Mapping[str, bytes | None],
    at: int,
) -> int | None:
    """How long what stays in the queue waits, if anything does."""
    waits = [
        max(_LATER_AT_LEAST_MS, min(PUT_OFF_AT_MOST_MS, (given.retry_after or 0) * SECOND_MS))
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
