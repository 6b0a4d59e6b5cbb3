"""A peer lost what it held since some time: stops go again, and this agency's system is asked to send the rest again.

The sender's own case system is the source: bodies of delivered forwards and answers are not kept here. A peer that asks
again changes nothing, and writes nothing, until it has signed for stops that were queued for it: however often it asks,
it can cost no more than what it takes. Nor does what it takes again and again make a list longer: that a stop has
arrived once more is no change, and that it asked for stops stands in the audit list once a day. What it had signed for
stays on record until it signs again, and a stop that is over does not go again: its receiver would refuse it, and it
would be told as not arrived.

Stops are queued in a commit of their own, before anything else is looked at: no referral that cannot be read, or
changed, holds up her no. Such a referral is left as it is and not counted; the others are marked.
"""

from __future__ import annotations

from collections.abc import Collection

from exchange.envelope.kinds import STOPS
from exchange.limits import DAY_MS
from exchange.schemas.federation import ResyncAnswer, ResyncRequest
from exchange.schemas.shapes import to_millis
from exchange.storage.access import add_audit
from exchange.storage.database import Connection
from exchange.storage.lost_data import Loss, remember_loss
from exchange.storage.outbox import requeue_stops, to_send_again
from exchange.storage.transaction import signal
from exchange.use_cases.cases import again
from exchange.use_cases.change_referral import change_by_id
from exchange.use_cases.node import Node
from exchange.use_cases.readable import TogetherOrApart


async def resync(node: Node, peer: str, request: ResyncRequest) -> ResyncAnswer:
    """Queue every stop again, and mark the open referrals of which anything was delivered since then, each once.

    The peer says the time by its clock, and what was delivered when is on record by this node's: what is sooner by the
    skew counts too. What the peer has still is a repeat to it.
    """
    since = to_millis(request.since) - node.limits.skew_ms
    at = node.clock()
    # A peer signs for them and asks again as often as it likes; by a clock that was ahead nothing is left out.
    noted = 0 <= at - node.stops_asked_again.get(peer, 0) < DAY_MS
    stops = await node.database.write(lambda conn: _queue_stops(conn, peer, since, at, noted=noted))
    if stops and not noted:
        node.stops_asked_again[peer] = at
    parts = TogetherOrApart(node, peer)

    def change(conn: Connection, referrals: Collection[str]) -> None:
        for referral in referrals:
            change_by_id(node, conn, referral, what="resend", adjust=lambda read: read._replace(resend=True))

    def mark(conn: Connection) -> int:
        concerned = to_send_again(conn, peer, since)
        parts.change(conn, concerned, change)
        marked = len(concerned) - len(parts.left)
        # One line for each question that marked anything; of stops alone, one a day.
        if marked and (noted or not stops):
            add_audit(conn, at=node.clock(), action="resync", subject_id=peer)
        return marked

    return ResyncAnswer(stops_queued=stops, referrals_marked=await again(lambda: parts.write(mark)))


def _queue_stops(conn: Connection, peer: str, since: int, at: int, *, noted: bool) -> int:
    stops = requeue_stops(conn, peer, since, STOPS, at)
    if stops:
        if not noted:
            add_audit(conn, at=at, action="resync", subject_id=peer)
        signal(conn, "outbox")
    return stops


async def note_loss(node: Node, since: int) -> None:
    """This node was restored: of what was made since then and is unknown it says nothing any more."""
    loss = Loss(since, node.clock())
    await node.database.write(lambda conn: remember_loss(conn, loss))
