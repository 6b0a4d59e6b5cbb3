"""The node's clocks: what becomes due without anybody calling. Run by the courier, safe to run in several processes.

Rules:

* Every step is idempotent and in a transaction of its own, so that a crash repeats it and two couriers do it once.
* Every step is done whatever an earlier one raised, and every row of it whatever another one did: one row that cannot
  be read would otherwise stop all clocks, and the weekly keys, for as long as it lies there.
* By a clock that has jumped ahead nothing ends and nothing is destroyed (`use_cases.clock_jumps`).
* What has piled up while the node was off is done in slices: whoever else writes waits for one of them at most.
* Destruction stands apart: until its bytes are gone from the files it may have to wait, and nothing else waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from exchange.envelope.kinds import Kind
from exchange.storage import outbox, referrals
from exchange.storage.access import forget_used
from exchange.storage.database import Connection
from exchange.storage.due import STOP_UNDELIVERED
from exchange.storage.epochs import forget_own_epochs, forget_peer_epochs, forget_revocations
from exchange.storage.inbox import forget_answers, forget_items
from exchange.storage.referrals import ReferralRecord, StaleReferralError
from exchange.storage.used_roster import UsedRoster, remember_roster, used_roster
from exchange.use_cases.barring import bar_what_followed
from exchange.use_cases.change_referral import change_by_id, change_referral
from exchange.use_cases.clock_jumps import ending_time
from exchange.use_cases.consents_that_end import tell_of_consents_that_end
from exchange.use_cases.destroy import destroy_due
from exchange.use_cases.node import Node
from exchange.use_cases.own_epochs import publish_own_epochs
from exchange.use_cases.release_disclosure import release_due
from exchange.use_cases.row_by_row import AT_ONCE, Failures, pages_due
from exchange.use_cases.storage_lost import as_outage
from exchange.use_cases.taking_back import never_disclosed, took_back


async def maintain(node: Node) -> None:
    """Every clock of the node, once, except `destroy_ended`.

    Raises:
        PartlyFailedError: some rows or steps have failed; everything else is done.
        StorageUnavailableError: a database is away; repeat.
    """
    failures = Failures()
    # First: whoever gets a place by it goes in this round.
    with failures.kept("untold"):
        await _mark(node, "untold")
    with failures.kept("release"):
        await release_due(node)
    for what in ("overdue", "undelivered", STOP_UNDELIVERED, "expired"):
        with failures.kept(what):
            await _mark(node, what)
    with failures.kept("consents"):
        await tell_of_consents_that_end(node)
    with failures.kept("envelopes"):
        await _expire_envelopes(node)
    with failures.kept("forget"):
        await _forget(node)
    with failures.kept("epochs"):
        await publish_own_epochs(node)
    with failures.kept("roster"):
        await remember_used_roster(node)
    failures.raise_kept()


async def destroy_ended(node: Node) -> None:
    """Destroy the referrals and the weeks that have ended, and what an earlier call or process only began to.

    Raises:
        PartlyFailedError: some rows have failed; everything else is done.
        StorageUnavailableError: it is not certain that the bytes are gone; repeat.
    """
    failures = Failures()
    with failures.kept("destroy"):
        await destroy_due(node)
    with failures.kept("epochs"):
        await node.key_store.destroy_ended_epochs(await ending_time(node))
    with failures.kept("keys"):
        await node.key_store.finish()
    failures.raise_kept()


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
    at, failures = node.clock(), Failures()
    async for page in pages_due(node, what, failures):
        for record in page:
            # Where it changed meanwhile the next round looks again.
            with failures.kept(what), contextlib.suppress(StaleReferralError):
                await node.database.write(lambda conn, found=record: _marked(node, conn, found, what, at))  # type: ignore[misc]
    failures.raise_kept()


def _marked(node: Node, conn: Connection, record: ReferralRecord, what: str, at: int) -> None:
    def adjust(read: ReferralRecord) -> ReferralRecord:
        if what == "overdue":
            return read._replace(overdue_at=at)
        if what == "untold":
            return read._replace(unserved_until=None)
        return _undeliverable(read) if what in {"undelivered", STOP_UNDELIVERED} else read

    change_referral(node, conn, record, what=what, adjust=adjust)


async def _expire_envelopes(node: Node) -> None:
    """What did not leave in time is destroyed, and told: after a long time away so much that it is done in slices."""
    at, failures, failed = await ending_time(node), Failures(), set[str]()

    def commit(conn: Connection, envelopes: Sequence[str]) -> None:
        referrals.hold_referrals(conn, {referral for referral, _ in outbox.made_among(conn, envelopes)})
        for late in outbox.expire_queued(conn, at, envelopes):
            if late.kind == Kind.DISCLOSURE:
                _disclosure_expired(node, conn, late)
            else:
                change_by_id(node, conn, late.referral, what=f"{late.kind}-expired", adjust=_undeliverable)

    while True:
        most = AT_ONCE + len(failed)
        found = await node.database.read(lambda conn, most=most: outbox.expired_ids(conn, at, most))  # type: ignore[misc]
        late = [envelope for envelope in found if envelope not in failed]
        if not late:
            break
        try:
            await node.database.write(lambda conn, late=late: commit(conn, late))  # type: ignore[misc]
        except Exception as error:
            if as_outage(error) is not None:
                raise
            for envelope in late:
                with failures.kept("envelopes"):
                    await node.database.write(lambda conn, one=envelope: commit(conn, [one]))  # type: ignore[misc]
            failed.update(late)
    failures.raise_kept()


def _disclosure_expired(node: Node, conn: Connection, late: outbox.Expired) -> None:
    """Of one that was released and never left the release is taken back, and what waits behind it goes too."""
    never_told = late.attempted_at is None and took_back(conn, late.referral, [late.digest])
    adjust = never_disclosed if never_told else _awaiting
    change_by_id(node, conn, late.referral, what="disclosure-expired", adjust=adjust)
    if never_told:
        bar_what_followed(node, conn, late.referral)


def _awaiting(record: ReferralRecord) -> ReferralRecord:
    return record._replace(hold="awaiting-disclosure") if record.hold != "deleted" else record


def _undeliverable(record: ReferralRecord) -> ReferralRecord:
    return record._replace(undeliverable=True)


async def _forget(node: Node) -> None:
    at, failures = await ending_time(node), Failures()
    async for page in pages_due(node, "forget", failures):
        for record in page:

            def commit(conn: Connection, found: ReferralRecord = record) -> None:
                # Since it was read her no may have been said of it, here or there.
                referrals.guard_versions(conn, {found.id: found.version})
                forget_items(conn, found.id)
                outbox.forget_envelopes(conn, found.id)
                referrals.forget_referral(conn, found.id)

            with failures.kept("forget"), contextlib.suppress(StaleReferralError):
                await node.database.write(commit)

    def drop(conn: Connection) -> bool:
        more = forget_used(conn, at), forget_answers(conn, at)
        # A disclosure that was sealed to a key of a past week may still be released, and its key is looked at then; and
        # its agency may revoke it.
        forget_own_epochs(conn, at - node.limits.epoch_release_ms)
        forget_peer_epochs(conn, at - node.limits.epoch_release_ms)
        forget_revocations(conn, at)
        return any(more)

    while await node.database.write(drop):
        pass
    failures.raise_kept()
