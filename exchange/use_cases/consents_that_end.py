"""Consents that are about to end: the agency's system is told of each open referral, 14 days before and once.

Rules:

* What is told is the change `consent-ends-soon`. The referral itself stays as it was, and so does everything held.
* A renewal to a later end is another end: it is told of again when that one is near.
* Where she stopped sharing, or the referral has ended, nothing more would be sent under it, and nobody is told.
* Looked for once an hour: it reads every open referral, and nothing hangs on the minute.
"""

from __future__ import annotations

from typing import Final

from exchange.limits import HOUR_MS
from exchange.storage.consents import load_consent
from exchange.storage.database import Connection
from exchange.storage.due import ENDS_SOON, ENDS_SOON_MS, was_told
from exchange.storage.referrals import add_change, lock_referral
from exchange.storage.transaction import signal
from exchange.use_cases.node import Node
from exchange.use_cases.row_by_row import PAGE, Failures, pages_due

_LOOK_EVERY_MS: Final = HOUR_MS


async def tell_of_consents_that_end(node: Node) -> None:
    """Tell of those that nobody was told of yet.

    Raises:
        PartlyFailedError: some rows have failed; everything else is done.
        StorageUnavailableError: the database is away; repeat.
    """
    at, failures, found = node.clock(), Failures(), 0
    # In either direction: what a clock that was ahead has put off is not put off.
    if abs(at - node.consent_ends_looked_at) < _LOOK_EVERY_MS:
        return
    async for page in pages_due(node, ENDS_SOON, failures):
        found += len(page)
        for record in page:
            with failures.kept(ENDS_SOON):
                await node.database.write(lambda conn, one=record.id: _tell(conn, one, at))  # type: ignore[misc]
    if found < PAGE:
        node.consent_ends_looked_at = at
    failures.raise_kept()


def _tell(conn: Connection, referral: str, at: int) -> None:
    """Once: the row is held while another process looks, and whoever comes second finds it told."""
    record = lock_referral(conn, referral)
    if record is None or record.closed_at is not None or record.sharing_stopped_at is not None:
        return
    consent = load_consent(conn, record.consent_id or "")
    # She may have renewed it since it was found.
    since = consent.expires_at - ENDS_SOON_MS if consent is not None else at + 1
    if since <= at and not was_told(conn, referral, ENDS_SOON, since=since):
        add_change(conn, referral, ENDS_SOON, at)
        signal(conn, "changes")
