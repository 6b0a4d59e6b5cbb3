"""Envelopes on their way out. Whose turn it is stands in `exchange.storage.peer_leases`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    update,
)

from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_unless_there, where_listed, where_not_listed
from exchange.storage.tables import OUTBOX, PEER, REFERRAL


class OutgoingRecord(NamedTuple):
    """An outbox row without its sequence number and settlement, but for what was signed for it before."""

    id: str
    referral: str
    peer: str
    kind: str
    status: str
    digest: str
    created_at: int
    expires_at: int
    sealed_header: bytes | None
    wrapped_key: bytes | None
    ciphertext: bytes | None
    signature: bytes | None
    release: bytes | None = None
    consent_receipt: str | None = None
    release_mark: str | None = None
    receipt: bytes | None = None
    """Of a stop that goes again: it has arrived before."""


class MarkedRelease(NamedTuple):
    """A signed release statement, and what proves that it was written here."""

    statement: bytes
    mark: str


class SentRecord(NamedTuple):
    """An envelope, and what has become of it."""

    kind: str
    status: str
    created_at: int
    settled_at: int | None


class Settlement(NamedTuple):
    """What became of one envelope."""

    id: str
    status: str
    """`delivered` or `refused`."""
    receipt: bytes | None = None
    problem: str | None = None
    keep_body: bool = False


_NAMES = OutgoingRecord._fields
_COLUMNS = [OUTBOX.c[name] for name in _NAMES]
_NO_BODY = dict.fromkeys(["sealed_header", "wrapped_key", "ciphertext", "signature", "release", "release_mark"])
_ENQUEUE = Prepared(insert(OUTBOX), columns=_NAMES)
_KNOW_PEER = Prepared(insert_unless_there(PEER), columns=["agency", "due_at"])
IS_QUEUED = text("outbox.status = 'queued'")
"""As it stands in the index, like `_NOT_GONE`."""
# Locked, so that what is queued stays so to the end of the transaction. The dialect of SQLite leaves FOR UPDATE out.
_QUEUED = Prepared(
    where_listed(
        select(OUTBOX.c.id).where(OUTBOX.c.status == "queued").order_by(OUTBOX.c.id).with_for_update(), OUTBOX.c.id
    )
)
_QUEUED_AMONG = Prepared(where_listed(select(OUTBOX.c.id).where(OUTBOX.c.status == "queued"), OUTBOX.c.id))
_SETTLING = (
    update(OUTBOX)
    .where(OUTBOX.c.id == bindparam("the_id"), OUTBOX.c.status == "queued")
    .values({name: bindparam(name) for name in ("status", "settled_at", "receipt", "problem")})
)
_SETTLE = Prepared(_SETTLING)
_SETTLE_AND_WIPE = Prepared(_SETTLING.values(dict.fromkeys(_NO_BODY, null())))
_IDS_OUT = Prepared(where_listed(select(OUTBOX.c.referral, OUTBOX.c.id), OUTBOX.c.id))
_QUEUED_FOR_PEER = (
    select(OUTBOX.c.seq, *_COLUMNS)
    .where(OUTBOX.c.peer == bindparam("the_peer"), IS_QUEUED, OUTBOX.c.seq > bindparam("after"))
    .order_by(OUTBOX.c.seq)
    .limit(bindparam("most", type_=Integer()))
)
_BATCH = Prepared(_QUEUED_FOR_PEER)
_QUEUED_OF_KINDS = where_listed(_QUEUED_FOR_PEER, OUTBOX.c.kind)
_BATCH_OF_KINDS = Prepared(_QUEUED_OF_KINDS)
_BATCH_BUT = Prepared(where_not_listed(_QUEUED_FOR_PEER, OUTBOX.c.id, name="the_others"))
_BATCH_OF_KINDS_BUT = Prepared(where_not_listed(_QUEUED_OF_KINDS, OUTBOX.c.id, name="the_others"))
_QUEUED_BUT = Prepared(
    where_not_listed(
        select(OUTBOX.c.id).where(OUTBOX.c.peer == bindparam("the_peer"), IS_QUEUED).limit(literal_column("1")),
        OUTBOX.c.id,
    )
)
_ANY_OF_KINDS = Prepared(
    where_listed(
        select(OUTBOX.c.id).where(OUTBOX.c.peer == bindparam("the_peer"), IS_QUEUED).limit(literal_column("1")),
        OUTBOX.c.kind,
    )
)
_NOT_GONE = text("status IN ('queued', 'held')")
"""As it stands in the index: SQLite finds the index by these words, and reads the whole table where they are bound."""
_SENT_STOP = text("status = 'delivered' AND signature IS NOT NULL")
_WAITED_FOR = Prepared(select(OUTBOX.c.peer).where(_NOT_GONE).distinct())
_HELD_HERE = and_(OUTBOX.c.referral == bindparam("the_referral"), OUTBOX.c.status == "held")
_HELD_OF = Prepared(select(*_COLUMNS).where(_HELD_HERE))
_DELETE_HELD = Prepared(delete(OUTBOX).where(_HELD_HERE))
_DELETE_QUEUED = Prepared(
    where_listed(
        delete(OUTBOX)
        .where(OUTBOX.c.referral == bindparam("the_referral"), _NOT_GONE)
        .returning(OUTBOX.c.digest, OUTBOX.c.attempted_at),
        OUTBOX.c.kind,
    )
)
_DELETE_WAITING = Prepared(delete(OUTBOX).where(OUTBOX.c.id == bindparam("the_id"), IS_QUEUED))
_GIVING_UP = (
    update(OUTBOX)
    .where(IS_QUEUED)
    .values({"status": "deleted", "settled_at": bindparam("settled_at"), **dict.fromkeys(_NO_BODY, null())})
)
_OF_REFERRAL = OUTBOX.c.referral == bindparam("the_referral")
_GIVE_UP = Prepared(where_listed(_GIVING_UP.where(_OF_REFERRAL), OUTBOX.c.kind))
_DISOWNING = _GIVING_UP.values(consent_receipt=null())
_DISOWN = Prepared(where_listed(_DISOWNING.where(_OF_REFERRAL), OUTBOX.c.kind))
_DISOWN_WAITING = Prepared(_DISOWNING.where(OUTBOX.c.id == bindparam("the_id")))
_HOLD_BACK = Prepared(
    where_listed(
        delete(OUTBOX)
        .where(
            OUTBOX.c.referral == bindparam("the_referral"),
            OUTBOX.c.kind == bindparam("the_kind"),
            IS_QUEUED,
            OUTBOX.c.attempted_at.is_(None),
        )
        .returning(OUTBOX.c.digest, OUTBOX.c.id, OUTBOX.c.sealed_header),
        OUTBOX.c.digest,
    )
)
_EXPIRED = Prepared(
    select(OUTBOX.c.id)
    .where(_NOT_GONE, OUTBOX.c.expires_at <= bindparam("the_time"))
    .limit(bindparam("most", type_=Integer()))
)
_EXPIRE = Prepared(
    where_listed(
        update(OUTBOX)
        .where(_NOT_GONE, OUTBOX.c.expires_at <= bindparam("the_time"))
        .values(status=literal_column("'expired'"), settled_at=bindparam("the_time"), **dict.fromkeys(_NO_BODY, null()))
        .returning(OUTBOX.c.referral, OUTBOX.c.kind, OUTBOX.c.digest, OUTBOX.c.attempted_at),
        OUTBOX.c.id,
    )
)


def enqueue(conn: Connection, items: Sequence[OutgoingRecord]) -> None:
    """Store envelopes in this order, as `queued` or `held`, and make sure the courier knows their peers."""
    _ENQUEUE.run_each(conn, items)
    # What is held follows an offer, which was queued for the same peer. In one order everywhere, for PostgreSQL.
    peers = sorted({item.peer for item in items if item.status == "queued"})
    _KNOW_PEER.run_each(conn, [{"agency": peer, "due_at": 0} for peer in peers])


def release_held(conn: Connection, envelope_id: str, release: MarkedRelease, *, expires_at: int) -> bool:
    """Queue a held disclosure behind everything queued before; returns whether it was still held."""
    moved = select(func.coalesce(func.max(OUTBOX.c.seq), 0) + 1).scalar_subquery()
    done = conn.execute(
        update(OUTBOX)
        .where(OUTBOX.c.id == envelope_id, OUTBOX.c.status == "held")
        .values(
            status="queued",
            release=release.statement,
            release_mark=release.mark,
            expires_at=expires_at,
            seq=moved if conn.dialect.name == "sqlite" else func.nextval("outbox_seq_seq"),
        )
    )
    return done.rowcount == 1


def change_release(conn: Connection, envelope_id: str, release: MarkedRelease) -> None:
    """A disclosure that is still queued goes with this release statement."""
    waits = OUTBOX.c.id == envelope_id, OUTBOX.c.status == "queued"
    conn.execute(update(OUTBOX).where(*waits).values(release=release.statement, release_mark=release.mark))


def made_among(conn: Connection, envelopes: Iterable[str]) -> list[tuple[str, str]]:
    """(referral, envelope id) of those of these envelopes that were made here."""
    return [(referral, envelope) for referral, envelope in _IDS_OUT.rows(conn, {"the_ids": list(envelopes)})]


def digests_out(conn: Connection, ids: Iterable[str]) -> dict[str, str]:
    """The digests of those of these envelopes that were made here, by id."""
    query = select(OUTBOX.c.id, OUTBOX.c.digest).where(OUTBOX.c.id.in_(list(ids)))
    return {row.id: row.digest for row in conn.execute(query)}


def came_to_nothing(conn: Connection, referral: str, digests: Iterable[str]) -> frozenset[str]:
    """Those of these envelopes of a referral that were destroyed before they were signed for, or refused for good."""
    query = select(OUTBOX.c.digest).where(OUTBOX.c.referral == referral, OUTBOX.c.digest.in_(list(digests)))
    return frozenset(conn.execute(query.where(OUTBOX.c.status.in_(["deleted", "refused"]))).scalars())


def was_lost(conn: Connection, referral: str, kinds: Iterable[str]) -> bool:
    """Whether something of these kinds was given up or expired before it was signed for, or was refused for good."""
    query = select(OUTBOX.c.id).where(OUTBOX.c.referral == referral, OUTBOX.c.kind.in_(list(kinds)))
    lost = OUTBOX.c.status.in_(["deleted", "expired", "refused"])
    return conn.execute(query.where(lost).limit(1)).first() is not None


def refused_later(conn: Connection, referral: str, envelope: str, kinds: Iterable[str], problem: str) -> bool:
    """The peer has signed for an envelope of these kinds, and cannot use it; whether it says so for the first time."""
    asked = OUTBOX.c.referral == referral, OUTBOX.c.id == envelope, OUTBOX.c.kind.in_(list(kinds))
    signed_for = update(OUTBOX).where(*asked, OUTBOX.c.status == "delivered")
    return conn.execute(signed_for.values(status="refused", problem=problem)).rowcount == 1


def never_arrived(conn: Connection, referral: str, kind: str, digests: Iterable[str]) -> frozenset[str]:
    """Those of these envelopes of a kind that were refused for good, or destroyed before they were put on their way."""
    query = select(OUTBOX.c.digest).where(OUTBOX.c.referral == referral, OUTBOX.c.digest.in_(list(digests)))
    query = query.where(OUTBOX.c.kind == kind)
    destroyed = and_(OUTBOX.c.status == "deleted", OUTBOX.c.attempted_at.is_(None))
    return frozenset(conn.execute(query.where(or_(OUTBOX.c.status == "refused", destroyed))).scalars())


def is_of_kind(conn: Connection, referral: str, kind: str, digest: str) -> bool:
    """Whether this was made for a referral as an envelope of this kind, whatever became of it."""
    query = select(OUTBOX.c.id).where(OUTBOX.c.referral == referral, OUTBOX.c.kind == kind, OUTBOX.c.digest == digest)
    return conn.execute(query).first() is not None


def may_have_arrived(conn: Connection, referral: str, digest: str) -> int | None:
    """Since when an envelope that was destroyed may have arrived; of kinds that `mark_attempted` is told of."""
    query = select(OUTBOX.c.attempted_at).where(OUTBOX.c.referral == referral, OUTBOX.c.digest == digest)
    return conn.execute(query.where(OUTBOX.c.status == "deleted")).scalar_one_or_none()


def held_of(conn: Connection, referral: str) -> OutgoingRecord | None:
    """The disclosure that waits for this referral's acceptance."""
    row = _HELD_OF.row(conn, {"the_referral": referral})
    return OutgoingRecord(*row) if row else None


def of_kind(conn: Connection, referral: str, kind: str) -> list[OutgoingRecord]:
    """Every envelope of this kind that was made for a referral."""
    query = select(*_COLUMNS).where(OUTBOX.c.referral == referral, OUTBOX.c.kind == kind)
    return [OutgoingRecord(*row) for row in conn.execute(query)]


def queued_of(conn: Connection, referral: str) -> list[OutgoingRecord]:
    """Everything about a referral that waits to leave; it does so to the end of the transaction."""
    queued = select(*_COLUMNS).where(OUTBOX.c.referral == referral, OUTBOX.c.status == "queued")
    return [OutgoingRecord(*row) for row in conn.execute(queued.order_by(OUTBOX.c.id).with_for_update())]


def sent_of(conn: Connection, referral: str, kinds: Iterable[str]) -> list[SentRecord]:
    """What was made of these kinds for a referral, oldest first."""
    columns = OUTBOX.c.kind, OUTBOX.c.status, OUTBOX.c.created_at, OUTBOX.c.settled_at
    query = select(*columns).where(OUTBOX.c.referral == referral, OUTBOX.c.kind.in_(list(kinds)))
    return [SentRecord(*row) for row in conn.execute(query.order_by(OUTBOX.c.seq))]


def peers_waited_for(conn: Connection) -> frozenset[str]:
    """Every peer for which something lies here: held until it accepts, or queued until it is there."""
    return frozenset(agency for (agency,) in _WAITED_FOR.rows(conn, {}))


def delete_held(conn: Connection, referral: str) -> int:
    """Delete what was held: its row and its bytes. Returns how many envelopes that were."""
    return _DELETE_HELD.run(conn, {"the_referral": referral})


def delete_queued(conn: Connection, referral: str, kinds: Iterable[str]) -> list[str]:
    """Her no stops what has not left yet. Returns the digests of those that certainly never left.

    Only of kinds that `mark_attempted` is told of that is known; others are all returned.
    """
    rows = _DELETE_QUEUED.rows(conn, {"the_referral": referral, "the_ids": list(kinds)})
    return [digest for digest, attempted_at in rows if attempted_at is None]


def delete_waiting(conn: Connection, envelope_id: str) -> bool:
    """Delete one envelope that is queued and must not leave, or not as it is; returns whether it still was."""
    return _DELETE_WAITING.run(conn, {"the_id": envelope_id}) == 1


def give_up(conn: Connection, referral: str, kinds: Iterable[str], at: int) -> None:
    """What is queued of these kinds does not leave any more: its bodies are destroyed.

    The ids stay: it may have arrived although no receipt came, and what replies to it is no stranger.
    """
    _GIVE_UP.run(conn, {"the_referral": referral, "settled_at": at, "the_ids": list(kinds)})


def disown(conn: Connection, referral: str, kinds: Iterable[str], at: int) -> int:
    """As `give_up`, for good: if it has arrived, nobody stands behind it any more, and its receipt is unknown here.

    Returns how many envelopes that were.
    """
    return _DISOWN.run(conn, {"the_referral": referral, "settled_at": at, "the_ids": list(kinds)})


def disown_waiting(conn: Connection, envelope_id: str, at: int) -> bool:
    """As `disown`, of one envelope; returns whether it was still queued."""
    return _DISOWN_WAITING.run(conn, {"the_id": envelope_id, "settled_at": at}) == 1


class HeldBack(NamedTuple):
    """An envelope that was deleted before it left: what its header said, sealed for its row."""

    digest: str
    id: str
    sealed_header: bytes


def hold_back(conn: Connection, referral: str, kind: str, digests: Iterable[str]) -> list[HeldBack]:
    """Delete those of these envelopes that certainly never left, of a kind that `mark_attempted` is told of."""
    which = {"the_referral": referral, "the_kind": kind, "the_ids": list(digests)}
    return [HeldBack(*row) for row in _HOLD_BACK.rows(conn, which)]


def mark_attempted(conn: Connection, ids: Iterable[str], at: int) -> None:
    """Those of these envelopes that are still queued go on their way now."""
    conn.execute(
        update(OUTBOX)
        .where(OUTBOX.c.id.in_(list(ids)), OUTBOX.c.status == "queued")
        .values(attempted_at=func.coalesce(OUTBOX.c.attempted_at, at))
    )


def queued_among(conn: Connection, ids: Iterable[str]) -> frozenset[str]:
    """Those of these envelopes that are still queued; the others must not be sent."""
    return frozenset(envelope for (envelope,) in _QUEUED_AMONG.rows(conn, {"the_ids": list(ids)}))


def wipe_bodies(conn: Connection, referral: str, *, but: Iterable[str]) -> None:
    """Destroy every sealed body of the referral that has not still to travel.

    Args:
        conn: the transaction.
        referral: whose envelopes.
        but: kinds that stay as they are: stops have nothing inside, and go again to a peer that lost its data.
    """
    conn.execute(
        update(OUTBOX)
        .where(OUTBOX.c.referral == referral, OUTBOX.c.status != "queued", OUTBOX.c.kind.not_in(list(but)))
        .values(**_NO_BODY)
    )


def load_batch(
    conn: Connection,
    peer: str,
    *,
    after: int,
    limit: int,
    max_bytes: int,
    kinds: Iterable[str] | None = None,
    but: Iterable[str] = (),
) -> Sequence[tuple[int, OutgoingRecord]]:
    """Queued envelopes for a peer in order, filled by bytes; of these kinds only, if any are given, and not these."""
    batch: list[tuple[int, OutgoingRecord]] = []
    size = 0
    asked: dict[str, Any] = {"the_peer": peer, "after": after, "most": limit}
    if others := list(but):
        asked["the_others"] = others
    statement = _BATCH_BUT if others else _BATCH
    if kinds is not None:
        asked["the_ids"] = list(kinds)
        statement = _BATCH_OF_KINDS_BUT if others else _BATCH_OF_KINDS
    for row in statement.rows(conn, asked):
        item = OutgoingRecord(*row[1:])
        # base64 makes four characters of three bytes; 1 KiB covers header, signature and punctuation.
        size += (len(item.ciphertext or b"") + len(item.release or b"")) * 4 // 3 + 4096
        if batch and size > max_bytes:
            break
        batch.append((row[0], item))
    return batch


def has_queued(conn: Connection, peer: str, kinds: Iterable[str]) -> bool:
    """Whether an envelope of one of these kinds waits for this peer."""
    return _ANY_OF_KINDS.row(conn, {"the_peer": peer, "the_ids": list(kinds)}) is not None


def queued_but(conn: Connection, peer: str, known: Iterable[str]) -> bool:
    """Whether another envelope than these waits for this peer."""
    return _QUEUED_BUT.row(conn, {"the_peer": peer, "the_ids": list(known)}) is not None


def lock_queued(conn: Connection, ids: Iterable[str]) -> frozenset[str]:
    """As `queued_among`; they stay so to the end of the transaction."""
    return frozenset(envelope for (envelope,) in _QUEUED.rows(conn, {"the_ids": list(ids)}))


def settle(conn: Connection, settlements: Iterable[Settlement], at: int) -> frozenset[str]:
    """The peer has answered for these envelopes. Returns those that were still queued; the others stay as they are."""
    by_id = {one.id: one for one in settlements}
    queued = lock_queued(conn, by_id)
    for statement, keeping in ((_SETTLE, True), (_SETTLE_AND_WIPE, False)):
        rows = [
            {"the_id": one.id, "status": one.status, "settled_at": at, "receipt": one.receipt, "problem": one.problem}
            for one in by_id.values()
            if one.id in queued and one.keep_body is keeping
        ]
        statement.run_each(conn, rows)
    return queued


class Expired(NamedTuple):
    """An envelope that did not leave in time."""

    referral: str
    kind: str
    digest: str
    attempted_at: int | None
    """Since when it may have arrived all the same; of kinds that `mark_attempted` is told of."""


def expire_queued(conn: Connection, at: int, envelopes: Iterable[str]) -> list[Expired]:
    """Those of these envelopes that did not leave in time; their bodies are destroyed."""
    return [Expired(*row) for row in _EXPIRE.rows(conn, {"the_time": at, "the_ids": list(envelopes)})]


def expired_ids(conn: Connection, at: int, limit: int) -> list[str]:
    """Some of what `expire_queued` would take."""
    return [envelope for (envelope,) in _EXPIRED.rows(conn, {"the_time": at, "most": limit})]


def forget_envelopes(conn: Connection, referral: str) -> None:
    """The tombstone ends."""
    conn.execute(OUTBOX.delete().where(OUTBOX.c.referral == referral))


def queue_depth(conn: Connection) -> int:
    """How many envelopes wait to be delivered."""
    return conn.execute(select(func.count()).select_from(OUTBOX).where(IS_QUEUED)).scalar_one()


def requeue_stops(conn: Connection, peer: str, since: int, stops: Iterable[str], at: int) -> int:
    """A peer lost its data: every stop that was delivered since, and is not over, goes again.

    What the peer has signed for it stays until it signs again: it is the only proof that it had arrived. Since when it
    waits again is written down, by which alone it may be told as not arrived.
    """
    done = conn.execute(
        update(OUTBOX)
        .where(
            OUTBOX.c.peer == peer,
            _SENT_STOP,
            OUTBOX.c.kind.in_(list(stops)),
            OUTBOX.c.settled_at >= since,
            OUTBOX.c.expires_at > at,
        )
        .values(status="queued", settled_at=at)
    )
    return done.rowcount


def to_send_again(conn: Connection, peer: str, since: int) -> list[str]:
    """Open referrals to this peer of which something was delivered since then, and which are not marked yet."""
    delivered = exists().where(
        OUTBOX.c.referral == REFERRAL.c.id,
        OUTBOX.c.peer == peer,
        OUTBOX.c.status == "delivered",
        OUTBOX.c.settled_at >= since,
    )
    query = select(REFERRAL.c.id).where(
        REFERRAL.c.peer == peer,
        REFERRAL.c.side == "referring",
        REFERRAL.c.closed_at.is_(None),
        REFERRAL.c.resend.is_(False),
        delivered,
    )
    return list(conn.execute(query).scalars())
