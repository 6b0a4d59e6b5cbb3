"""Consent status: which consent a receipt was cut from, and the last word that a receiver has about each item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from exchange.storage.prepared import Prepared
from exchange.storage.statements import where_listed
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL

_ENDED = Prepared(where_listed(select(INBOX.c.id).where(INBOX.c.consent_ended_at.is_not(None)), INBOX.c.id))


@dataclass(frozen=True, slots=True)
class CutFor:
    """The referral for which a receipt was cut, as far as the consent's status depends on it."""

    referral: str
    state: str
    consent_id: str | None
    sharing_stopped: bool
    gone: bool
    """Blocked or destroyed."""
    by_time: bool
    """Destroyed, and never blocked: at the end of its time, unless its state says otherwise."""
    sealed_facts: bytes | None


def receipts_of(conn: Connection, recipient: str, receipts: Iterable[str]) -> dict[str, list[CutFor]]:
    """Those of the receipts that were cut for this recipient; another's look like none.

    Of each the referrals, once each: an agency's own software may have cut one for several.
    """
    c = REFERRAL.c
    query = (
        select(
            OUTBOX.c.consent_receipt,
            c.id,
            c.state,
            c.consent_id,
            c.sharing_stopped_at,
            c.blocked_at,
            c.destroyed_at,
            c.sealed_facts,
        )
        .join(REFERRAL, c.id == OUTBOX.c.referral)
        .where(OUTBOX.c.consent_receipt.in_(list(receipts)), OUTBOX.c.peer == recipient)
    )
    found: dict[str, dict[str, CutFor]] = defaultdict(dict)
    for row in conn.execute(query):
        found[row.consent_receipt][row.id] = CutFor(
            row.id,
            row.state,
            row.consent_id,
            row.sharing_stopped_at is not None,
            row.blocked_at is not None or row.destroyed_at is not None,
            row.blocked_at is None and row.destroyed_at is not None,
            row.sealed_facts,
        )
    return {receipt: list(cut.values()) for receipt, cut in found.items()}


def ended_among(conn: Connection, items: Iterable[str]) -> frozenset[str]:
    """Those of these inbox items of which the sender's node has said that the consent ended."""
    return frozenset(item for (item,) in _ENDED.rows(conn, {"the_ids": list(items)}))


def record_words(conn: Connection, *, live: Iterable[str], ended: Iterable[str], stated_at: int) -> None:
    """What the sender's node has said about these inbox items. An end stays an end."""
    live, ended = list(live), list(ended)
    if live:
        conn.execute(
            update(INBOX)
            .where(INBOX.c.id.in_(live), INBOX.c.consent_ended_at.is_(None))
            .values(consent_live_at=stated_at)
        )
    if ended:
        conn.execute(
            update(INBOX)
            .where(INBOX.c.id.in_(ended), INBOX.c.consent_ended_at.is_(None))
            .values(consent_ended_at=stated_at)
        )
