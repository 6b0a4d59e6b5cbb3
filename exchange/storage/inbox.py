"""Envelopes that arrived, were verified and signed for; and the memory that answers repeats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    or_,
    select,
    text,
    tuple_,
    update,
)

from exchange.storage.prepared import Prepared
from exchange.storage.referrals import in_sight
from exchange.storage.statements import (
    FORGOTTEN_AT_ONCE,
    Both,
    delete_expired,
    end_of_slice,
    select_in_sight,
    select_listed,
    where_listed,
)
from exchange.storage.tables import INBOX, REFERRAL, SEEN_ENVELOPE
from exchange.storage.visibility import is_beyond


class ArrivedRecord(NamedTuple):
    """An inbox row without sequence number and lease."""

    id: str
    referral: str
    sender: str
    kind: str
    event: str | None
    digest: str
    status: str
    received_at: int
    respond_by: int | None
    sealed_header: bytes | None
    rewrapped_key: bytes | None
    wrapped_key: bytes | None
    ciphertext: bytes | None
    signature: bytes | None
    release: bytes | None
    opened_at: int | None = None
    lease_until: int = 0
    consent_live_at: int | None = None
    consent_ended_at: int | None = None
    part_digests: bytes | None = None


class ListedRecord(NamedTuple):
    """What the list shows of an inbox row: nothing of what is inside is read for it."""

    id: str
    referral: str
    sender: str
    kind: str
    event: str | None
    status: str
    received_at: int
    respond_by: int | None
    lease_until: int
    sealed_header: bytes | None


class ArrivedHead(NamedTuple):
    """What stands of an inbox row beside its body."""

    id: str
    kind: str
    sealed_header: bytes | None
    release: bytes | None


class Standing(NamedTuple):
    """How the referral stands that an item is about, as far as the list and an open ask."""

    sector: str
    state: str
    blocked_at: int | None
    destroyed_at: int | None
    exercise: bool | None


_COLUMNS = [INBOX.c[name] for name in ArrivedRecord._fields]
_HEAD = [INBOX.c[name] for name in ArrivedHead._fields]
_NO_BODY = dict.fromkeys(
    ["sealed_header", "rewrapped_key", "wrapped_key", "ciphertext", "signature", "part_digests", "release"]
)
_ID_PLACE = 1 + _COLUMNS.index(INBOX.c.id)
_ROWS = select(INBOX.c.seq, *_COLUMNS)
_ROWS_IN_SIGHT = _ROWS.join(REFERRAL, REFERRAL.c.id == INBOX.c.referral).where(in_sight(bindparam("the_unit")))
_LISTED = select(INBOX.c.seq, *[INBOX.c[name] for name in ListedRecord._fields])
_LISTED_IN_SIGHT = _LISTED.join(REFERRAL, REFERRAL.c.id == INBOX.c.referral).where(in_sight(bindparam("the_unit")))
_STANDING = select(REFERRAL.c.id, *[REFERRAL.c[name] for name in Standing._fields])
_STANDINGS = Prepared(where_listed(_STANDING, REFERRAL.c.id))
_STANDINGS_IN_SIGHT = Prepared(where_listed(_STANDING.where(in_sight(bindparam("the_unit"))), REFERRAL.c.id))
_LOAD = Prepared(where_listed(_ROWS, INBOX.c.id))
_LOAD_IN_SIGHT = Prepared(where_listed(_ROWS_IN_SIGHT, INBOX.c.id))
_ANSWERS = Prepared(
    where_listed(
        select(SEEN_ENVELOPE.c.id, SEEN_ENVELOPE.c.digest, SEEN_ENVELOPE.c.answer).where(
            SEEN_ENVELOPE.c.sender == bindparam("the_sender")
        ),
        SEEN_ENVELOPE.c.id,
    )
)
_OF_OTHERS = Prepared(where_listed(select(INBOX.c.id).where(INBOX.c.sender != bindparam("the_sender")), INBOX.c.id))
_IDS_IN = Prepared(where_listed(select(INBOX.c.referral, INBOX.c.id), INBOX.c.id))
_MARK_OPENED = Prepared(
    where_listed(update(INBOX).where(INBOX.c.opened_at.is_(None)).values(opened_at=bindparam("opened_at")), INBOX.c.id)
)

_FORGET_ANSWERS = Prepared(delete_expired(SEEN_ENVELOPE))


def _page(status: str | None, *, branch: bool, one: bool, urgent: bool = False) -> Both[Select[Any]]:
    """A page of the list, or of one referral. The status stands in the statement, so that its own index serves it."""
    page = _LISTED_IN_SIGHT if branch else _LISTED
    conditions = [text(f"inbox.status = '{status}'")] if status is not None else []
    if one:
        # Not by the index of the status, which has those of all other referrals as well.
        conditions = [text(f"inbox.status || '' = '{status}'")] if status is not None else []
        page = page.where(INBOX.c.referral == bindparam("the_referral"))
    elif branch and not urgent:
        return select_in_sight(page, INBOX, *conditions)
    page = page.where(*conditions)
    if urgent:
        page = page if branch else page.join(REFERRAL, REFERRAL.c.id == INBOX.c.referral)
        place = tuple_(bindparam("the_due", type_=BigInteger()), bindparam("after", type_=BigInteger()))
        page = page.where(REFERRAL.c.closed_at.is_(None), tuple_(INBOX.c.respond_by, INBOX.c.seq) > place)
        page = page.order_by(INBOX.c.respond_by, INBOX.c.seq).limit(bindparam("most", type_=Integer()))
        return Both(page, page)
    return select_listed(page, INBOX)


_STATUSES: Final = (None, "new", "acknowledged", "destroyed")
_BOTH: Final = (False, True)
_PAGES: Final = {
    (status, branch, one): Prepared(_page(status, branch=branch, one=one))
    for status in _STATUSES
    for branch in _BOTH
    for one in _BOTH
}
_ENDS: Final = {
    status: Prepared(end_of_slice(INBOX, *([text(f"inbox.status = '{status}'")] if status is not None else [])))
    for status in _STATUSES
}
_URGENT: Final = {
    (branch, one): Prepared(_page("new", branch=branch, one=one, urgent=True)) for branch in _BOTH for one in _BOTH
}


def recall_answers(conn: Connection, sender: str, ids: Iterable[str]) -> dict[str, tuple[str, bytes]]:
    """What was answered before, as digest and bytes, by envelope id."""
    rows = _ANSWERS.rows(conn, {"the_sender": sender, "the_ids": list(ids)})
    return {envelope: (digest, answer) for envelope, digest, answer in rows}


def ids_of_others(conn: Connection, sender: str, ids: Iterable[str]) -> frozenset[str]:
    """Those of the ids under which another sender's envelope lies here."""
    rows = _OF_OTHERS.rows(conn, {"the_sender": sender, "the_ids": list(ids)})
    return frozenset(envelope for (envelope,) in rows)


def list_arrived(
    conn: Connection, *, after: int, limit: int, status: str | None, unit: str | None, referral: str | None = None
) -> Sequence[tuple[int, ListedRecord]]:
    """Items behind the one with this sequence number, oldest first; of one referral only, where it is named.

    For a branch only so many are looked at, up to `end_of_look`.
    """
    page = _PAGES[status, unit is not None, referral is not None]
    rows = page.rows(conn, {"after": after, "most": limit, "the_unit": unit, "the_referral": referral})
    return [(row[0], ListedRecord(*row[1:])) for row in rows]


def end_of_look(conn: Connection, *, after: int, status: str | None) -> int | None:
    """Up to which item `list_arrived` has looked for a branch; nothing where it has come to the end."""
    row = _ENDS[status].row(conn, {"after": after})
    return None if row is None else row[0]


def is_no_cursor(conn: Connection, seq: int) -> bool:
    """Whether no item ever had a number as high as this."""
    return is_beyond(conn, INBOX, seq)


def list_urgent(
    conn: Connection, *, behind: tuple[int, int], limit: int, unit: str | None, referral: str | None = None
) -> Sequence[tuple[int, ListedRecord]]:
    """New items of referrals that have not ended, the one that has to be answered first on top.

    Args:
        conn: the transaction.
        behind: when the item has to be answered behind which the list goes on, and its sequence number.
        limit: at most so many.
        unit: narrow to what this branch may see.
        referral: narrow to this one.
    """
    page = _URGENT[unit is not None, referral is not None]
    due, after = behind
    asked = {"the_due": due, "after": after, "most": limit, "the_unit": unit, "the_referral": referral}
    rows = page.rows(conn, asked)
    return [(row[0], ListedRecord(*row[1:])) for row in rows]


def standings(conn: Connection, referrals: Iterable[str], unit: str | None = None) -> dict[str, Standing]:
    """How those of the referrals stand that exist, by id; for a branch, those that it may see.

    What a branch may not see is not read: that takes as long as what does not exist.
    """
    asked = {"the_ids": list(referrals)}
    rows = _STANDINGS.rows(conn, asked) if unit is None else _STANDINGS_IN_SIGHT.rows(conn, {**asked, "the_unit": unit})
    return {row[0]: Standing(*row[1:]) for row in rows}


def load_arrived(conn: Connection, ids: Iterable[str], unit: str | None = None) -> dict[str, tuple[int, ArrivedRecord]]:
    """Those of the items that exist, with their sequence numbers, by id; for a branch, those that it may see.

    What a branch may not see is not read: that takes as long as what does not exist.
    """
    asked = {"the_ids": list(ids)}
    rows = _LOAD.rows(conn, asked) if unit is None else _LOAD_IN_SIGHT.rows(conn, {**asked, "the_unit": unit})
    return {row[_ID_PLACE]: (row[0], ArrivedRecord(*row[1:])) for row in rows}


def heads_of(conn: Connection, referral: str, kinds: Iterable[str]) -> list[ArrivedHead]:
    """The items of these kinds of a referral, oldest first.

    No body is read: of one referral a peer may send as much as of all together.
    """
    query = select(*_HEAD).where(INBOX.c.referral == referral, INBOX.c.kind.in_(list(kinds))).order_by(INBOX.c.seq)
    return [ArrivedHead(*row) for row in conn.execute(query)]


def arrived_among(conn: Connection, envelopes: Iterable[str]) -> list[tuple[str, str]]:
    """(referral, envelope id) of those of these envelopes that arrived."""
    return [(referral, envelope) for referral, envelope in _IDS_IN.rows(conn, {"the_ids": list(envelopes)})]


def _is_over(at: int, longest_ms: int) -> ColumnElement[bool]:
    """A lease that ends later than any may was given by a clock that was ahead, and holds nobody up."""
    return or_(INBOX.c.lease_until <= at, INBOX.c.lease_until > at + longest_ms)


def lease(conn: Connection, item: str, *, token: str, at: int, until: int, longest_ms: int) -> bool:
    """Take an item that nobody holds, as no lease does that ends after `longest_ms`; returns whether it was free."""
    done = conn.execute(
        update(INBOX)
        .where(INBOX.c.id == item, INBOX.c.status == "new", _is_over(at, longest_ms))
        .values(lease_token=token, lease_until=until)
    )
    return done.rowcount == 1


def acknowledge(conn: Connection, item: str, *, token: str | None, at: int, longest_ms: int) -> bool:
    """Taken over. A lease that another poller holds now is respected; returns whether the item was taken over."""
    free = or_(_is_over(at, longest_ms), INBOX.c.lease_token.is_(None))
    mine = or_(free, INBOX.c.lease_token == token) if token is not None else free
    done = conn.execute(
        update(INBOX)
        .where(INBOX.c.id == item, INBOX.c.status == "new", mine)
        .values(status="acknowledged", acknowledged_at=at, lease_token=None, lease_until=0)
    )
    return done.rowcount == 1


def mark_opened(conn: Connection, items: Iterable[str], at: int) -> None:
    """The first open is remembered."""
    _MARK_OPENED.run(conn, {"the_ids": list(items), "opened_at": at})


def drop_wrapped_key(conn: Connection, item: str) -> None:
    """The agency's own software keeps the key from now on."""
    conn.execute(update(INBOX).where(INBOX.c.id == item).values(wrapped_key=None))


def wipe_item(conn: Connection, item: str) -> None:
    """Destroy the sealed body of one item that the agency's own software has refused, unless it was taken over."""
    gone = {"status": "destroyed", "lease_token": None, "lease_until": 0}
    conn.execute(update(INBOX).where(INBOX.c.id == item, INBOX.c.wrapped_key.is_not(None)).values(**gone, **_NO_BODY))


def wipe_items(conn: Connection, referral: str, *, but: Iterable[str]) -> None:
    """Destroy every sealed body of a referral; what remains are ids, digests and times, and the refusal of repeats.

    Args:
        conn: the transaction.
        referral: whose items.
        but: kinds that stay as they are: her no has nothing inside, and the agency has still to hear of it.
    """
    conn.execute(
        update(INBOX)
        .where(INBOX.c.referral == referral, INBOX.c.kind.not_in(list(but)))
        .values(status="destroyed", lease_token=None, lease_until=0, **_NO_BODY)
    )


def forget_items(conn: Connection, referral: str) -> None:
    """The tombstone ends."""
    conn.execute(INBOX.delete().where(INBOX.c.referral == referral))


def forget_answers(conn: Connection, at: int) -> bool:
    """Drop memories of deliveries that can no longer be repeated, some at once; returns whether there may be more."""
    return _FORGET_ANSWERS.run(conn, {"the_time": at}) >= FORGOTTEN_AT_ONCE
