"""The node's clocks: what becomes due without anybody calling. Run by the courier, safe to run in several processes.

Every step is idempotent and in a transaction of its own, so that a crash repeats it and two couriers do it once.
Destruction stands apart: until its bytes are gone from the files it may have to wait, and nothing else waits for it.
"""

from __future__ import annotations

from exchange.envelope.kinds import Kind
from exchange.storage import outbox, referrals
from exchange.storage.access import forget_used
from exchange.storage.database import Connection
from exchange.storage.epochs import forget_own_epochs, forget_peer_epochs, forget_revocations
from exchange.storage.inbox import forget_answers, forget_items
from exchange.storage.referrals import ReferralRecord, StaleReferralError
from exchange.storage.used_roster import UsedRoster, remember_roster, used_roster
from exchange.use_cases.change_referral import change_by_id, change_referral
from exchange.use_cases.destroy import destroy_due
from exchange.use_cases.node import Node
from exchange.use_cases.own_epochs import publish_own_epochs
from exchange.use_cases.release_disclosure import release_due


async def maintain(node: Node) -> None:
    """Every clock of the node, once, except `destroy_ended`."""
    await release_due(node)
    await _mark(node, "overdue")
    await _mark(node, "undelivered")
    await _mark(node, "expired")
    await _expire_envelopes(node)
    await _forget(node)
    await publish_own_epochs(node)
    await remember_used_roster(node)


async def destroy_ended(node: Node) -> None:
    """Destroy the referrals and the weeks that have ended, and what an earlier call or process only began to.

    Raises:
        StorageUnavailableError: it is not certain that the bytes are gone; repeat.
    """
    await destroy_due(node)
    await node.key_store.destroy_ended_epochs(node.clock())
    await node.key_store.finish()


async def remember_used_roster(node: Node) -> None:
    """A roster that counts here goes on counting after the next start, unless a newer one does."""
    roster = node.world().roster
    using = UsedRoster(roster.version, roster.digest)

    def commit(conn: Connection) -> None:
        remember_roster(conn, using)

    used = await node.database.read(used_roster)
    if used is None or used.version < using.version:
        await node.database.write(commit)


async def _mark(node: Node, what: str) -> None:
    at = node.clock()
    for record in await node.database.read(lambda conn: referrals.due_for(conn, what, at)):
        try:
            await node.database.write(lambda conn, found=record: _marked(node, conn, found, what, at))  # type: ignore[misc]
        except StaleReferralError:
            continue  # it changed meanwhile; the next round looks again


def _marked(node: Node, conn: Connection, record: ReferralRecord, what: str, at: int) -> None:
    def adjust(read: ReferralRecord) -> ReferralRecord:
        if what == "overdue":
            return read._replace(overdue_at=at)
        return read._replace(undeliverable=True) if what == "undelivered" else read

    change_referral(node, conn, record, what=what, adjust=adjust)


async def _expire_envelopes(node: Node) -> None:
    """What did not leave in time is destroyed, and told."""
    at = node.clock()

    def commit(conn: Connection) -> None:
        for _, referral, kind in outbox.expire_queued(conn, at):
            if kind == Kind.DISCLOSURE:
                change_by_id(node, conn, referral, what="disclosure-expired", adjust=_awaiting)
            else:
                change_by_id(node, conn, referral, what=f"{kind}-expired", adjust=_undeliverable)

    if await node.database.read(lambda conn: outbox.has_expired(conn, at)):
        await node.database.write(commit)


def _awaiting(record: ReferralRecord) -> ReferralRecord:
    return record._replace(hold="awaiting-disclosure") if record.hold != "deleted" else record


def _undeliverable(record: ReferralRecord) -> ReferralRecord:
    return record._replace(undeliverable=True)


async def _forget(node: Node) -> None:
    at = node.clock()
    for record in await node.database.read(lambda conn: referrals.due_for(conn, "forget", at)):

        def commit(conn: Connection, referral: str = record.id) -> None:
            forget_items(conn, referral)
            outbox.forget_envelopes(conn, referral)
            referrals.forget_referral(conn, referral)

        await node.database.write(commit)

    def drop(conn: Connection) -> None:
        forget_used(conn, at)
        forget_answers(conn, at)
        # A disclosure that was sealed to a key of a past week may still be released, and its key is looked at then; and
        # its agency may revoke it.
        forget_own_epochs(conn, at - node.limits.epoch_release_ms)
        forget_peer_epochs(conn, at - node.limits.epoch_release_ms)
        forget_revocations(conn, at)

    await node.database.write(drop)
