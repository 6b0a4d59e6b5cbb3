"""Which referrals a clock has run out for, or wait for a word: what the courier looks for in its rounds.

Conditions stand as in their indexes: SQLite finds a partial index by its words, and not where they are bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, Connection, Integer, and_, bindparam, exists, literal_column, or_, select, text

from contracts.vocabulary import PRIORITY_UNDELIVERED_AFTER_S, Priority
from exchange.limits import DAY_MS, LIMITS, SECOND_MS
from exchange.stops import TAKES_BACK
from exchange.storage.clock_look import ends_by
from exchange.storage.prepared import Prepared
from exchange.storage.referrals import ReferralRecord
from exchange.storage.tables import CHANGE, CONSENT, EVENT, OUTBOX, REFERRAL

_ROWS: Final = select(*(REFERRAL.c[name] for name in ReferralRecord._fields))
_OPEN_OFFER = text("referral.closed_at IS NULL AND referral.state IN ('sent', 'received', 'information-requested')")
_AT = bindparam("the_time", type_=BigInteger())
ENDS_SOON: Final = "consent-ends-soon"
"""The change by which the referring agency is told that her consent is about to end."""
ENDS_SOON_MS: Final = 14 * DAY_MS
_WARNED_FROM = CONSENT.c.expires_at - literal_column(str(ENDS_SOON_MS))
_ENDS_SOON = (
    select(CONSENT.c.id)
    .where(
        CONSENT.c.id == REFERRAL.c.consent_id,
        text("consent.state IN ('given', 'renewed')"),
        CONSENT.c.expires_at > _AT,
        _WARNED_FROM <= _AT,
        ~select(CHANGE.c.seq)
        .where(
            CHANGE.c.referral == REFERRAL.c.id,
            CHANGE.c.what == literal_column(f"'{ENDS_SOON}'"),
            CHANGE.c.at >= _WARNED_FROM,
        )
        .correlate(REFERRAL, CONSENT)
        .exists(),
    )
    .correlate(REFERRAL)
    .exists()
)
STOP_UNDELIVERED: Final = "stop-undelivered"
"""The change by which an agency is told that her no, a recall or an error has not arrived for hours."""
_STOP_UNDELIVERED_MS: Final = PRIORITY_UNDELIVERED_AFTER_S[Priority.URGENT] * SECOND_MS
# A stop lives longer than anything else by a year, and so the index on the ends of what waits finds it.
_OLD_STOP = OUTBOX.c.expires_at <= _AT + literal_column(str(LIMITS.stop_expires_ms - _STOP_UNDELIVERED_MS))
# A peer that has it go again and signs for it would else have it told, and told again, in each round.
_WAITS_AGAIN_AS_LONG = or_(
    OUTBOX.c.settled_at.is_(None), OUTBOX.c.settled_at <= _AT - literal_column(str(_STOP_UNDELIVERED_MS))
)
_OLD_STOPS = select(OUTBOX.c.referral).where(
    text("outbox.status IN ('queued', 'held')"),
    OUTBOX.c.expires_at > _AT + literal_column(str(30 * DAY_MS)),
    _OLD_STOP,
    _WAITS_AGAIN_AS_LONG,
    OUTBOX.c.kind.in_([literal_column(f"'{kind.value}'") for kind in TAKES_BACK]),
)
# Her no has to arrive however long the peer is away; it lies there for thirteen months at most.
_STOP_WAITS = (
    select(OUTBOX.c.seq)
    .where(
        OUTBOX.c.referral == REFERRAL.c.id,
        text("outbox.status IN ('queued', 'held')"),
        OUTBOX.c.kind.in_([literal_column(f"'{kind.value}'") for kind in TAKES_BACK]),
    )
    .correlate(REFERRAL)
    .exists()
)
# Where something else is undeliverable already, the flag says nothing new. The receiving side has no list of changes.
_STOP_UNTOLD = and_(
    text("referral.side = 'referring'"),
    _OLD_STOPS.where(
        OUTBOX.c.referral == REFERRAL.c.id,
        ~select(CHANGE.c.seq)
        .where(
            CHANGE.c.referral == OUTBOX.c.referral,
            CHANGE.c.what == literal_column(f"'{STOP_UNDELIVERED}'"),
            CHANGE.c.at >= OUTBOX.c.created_at,
        )
        .correlate(OUTBOX)
        .exists(),
    )
    .correlate(REFERRAL)
    .exists(),
)
_DUE_FOR: Final[Mapping[str, Prepared]] = {
    what: Prepared(_ROWS.where(*conditions).limit(bindparam("most", type_=Integer())))
    for what, conditions in {
        "overdue": (_OPEN_OFFER, REFERRAL.c.respond_by <= _AT, REFERRAL.c.overdue_at.is_(None)),
        "undelivered": (
            REFERRAL.c.closed_at.is_(None),
            REFERRAL.c.undelivered_at <= _AT,
            REFERRAL.c.delivered_at.is_(None),
            REFERRAL.c.undeliverable.is_(False),
        ),
        STOP_UNDELIVERED: (REFERRAL.c.id.in_(_OLD_STOPS), or_(REFERRAL.c.undeliverable.is_(False), _STOP_UNTOLD)),
        "expired": (_OPEN_OFFER, REFERRAL.c.respond_by <= _AT - literal_column(str(DAY_MS))),
        "destroy": (REFERRAL.c.destroy_at <= _AT, REFERRAL.c.destroyed_at.is_(None)),
        "forget": (REFERRAL.c.forget_at <= _AT, ~_STOP_WAITS),
        "release": (text("referral.hold = 'release-due'"),),
        # A name whose receiver may not tell that it serves has counted for long enough.
        "untold": (text("referral.unserved_until IS NOT NULL"), REFERRAL.c.unserved_until <= _AT),
        ENDS_SOON: (text("referral.closed_at IS NULL"), REFERRAL.c.sharing_stopped_at.is_(None), _ENDS_SOON),
    }.items()
}
# Asked only while the clock is in doubt.
_TO_ERASE = Prepared(
    _ROWS.where(
        REFERRAL.c.destroy_at > _AT,
        REFERRAL.c.destroy_at <= bindparam("the_now", type_=BigInteger()),
        REFERRAL.c.destroyed_at.is_(None),
        exists().where(EVENT.c.referral == REFERRAL.c.id, EVENT.c.side == "referring", EVENT.c.name == "erase"),
    ).limit(bindparam("most", type_=Integer()))
)


def due_for(conn: Connection, what: str, at: int, limit: int = 200) -> list[ReferralRecord]:
    """Referrals for which a clock has run out, or that wait for a word: one of those of `_DUE_FOR`.

    By a clock that has jumped (`exchange.storage.clock_look`) nothing is due; but what she wants erased, said by the
    recording agency, is to `destroy` at once.
    """
    ends = ends_by(conn, at)
    rows = _DUE_FOR[what].rows(conn, {"the_time": ends, "most": limit})
    if what == "destroy" and ends < at:
        rows += _TO_ERASE.rows(conn, {"the_time": ends, "the_now": at, "most": limit})
    return [ReferralRecord(*row) for row in rows]


def was_told(conn: Connection, referral: str, what: str, *, since: int) -> bool:
    """Whether this change of it is on the list, not older than this."""
    c = CHANGE.c
    found = select(c.seq).where(c.referral == referral, c.what == what, c.at >= since).limit(1)
    return conn.execute(found).first() is not None
