"""The inbox: a list with cursor, long-poll, lease and acknowledgement. Listing shows no content.

Rules:

* The cursor never skips an item whose transaction commits late. One that is ahead of every item is refused.
* The most urgent first are offers that nobody has taken over, of referrals that have not ended, and whose time to
  answer has not been over for a day. They have a cursor of their own, so that no member hides the others' behind many
  of its own: it names when the last of a page has to be answered, and its number. The last page has none.
* A long-poll answers as soon as something is there, and at its end, or when the node stops, with an empty page.
* Two pollers never both handle an item: it is leased, and a lease that was lost cannot acknowledge.
* What an item is, is looked at after the attempt to take it: another process may be faster at any moment before.
* A lease that ends later than any may was given by a clock that was ahead; it is over.
* An item whose header cannot be read here is listed without what stands in it: it holds up none behind it, and whoever
  opens it hears why it does not open.
* One of which a row has a word of a later version is left out: there is no word for it in this version's list, and the
  log says so. The cursor passes it, and a page that would be empty for it goes on behind it: an empty page is the end.
  When it can be read again it is on the pages from the oldest item on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from contracts.vocabulary import Sector
from exchange.limits import LIMITS, SECOND_MS
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import InboxItem, InboxPage, Lease
from exchange.schemas.problems import ProblemField
from exchange.schemas.shapes import from_millis
from exchange.storage import inbox
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord, ListedRecord, Standing
from exchange.storage.referrals import ReferralRecord, save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.branches import taken_over
from exchange.use_cases.cases import again, audit, find_item
from exchange.use_cases.errors import ConflictError, InvalidError
from exchange.use_cases.headers import header_members
from exchange.use_cases.looking import look_through
from exchange.use_cases.node import Node
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable

_CURSOR: Final = ProblemField(path="query.cursor", code="bad-cursor", sentence="This is not a cursor of this list.")
_NOT_NEW: Final[Mapping[str, str]] = {
    "acknowledged": "This item was taken over already. Nothing has to be leased.",
    "destroyed": "The content of this item was destroyed. Nothing has to be leased.",
}
Rows = Sequence[tuple[int, ListedRecord, Standing | None]]


async def list_inbox(
    node: Node,
    *,
    cursor: str | None = None,
    limit: int = 50,
    wait: float = 0,
    status: str | None = None,
    order: Literal["arrival", "urgent"] = "arrival",
    unit: str | None = None,
    referral: str | None = None,
) -> InboxPage:
    """Items after the cursor.

    Args:
        node: the node.
        cursor: `next_cursor` of an earlier page; nothing starts at the oldest item.
        limit: at most 100.
        wait: seconds to wait for the first item, at most 25.
        status: `new`, `acknowledged` or `destroyed`; nothing for all.
        order: `urgent` lists new offers, the one that has to be answered first on top. Its cursor is its own, and
            status does not count.
        unit: narrow to one branch: its own, and what nobody has taken over yet.
        referral: narrow to what came for one referral. One that may not be seen has nothing, as one that is not there.

    Raises:
        InvalidError: `bad-cursor`.
    """
    urgent = order == "urgent"
    due, after = _read_urgent_cursor(cursor) if urgent else (0, read_cursor(cursor))
    limit = max(1, min(limit, node.limits.page_items))
    sliced = unit is not None and referral is None and not urgent

    def look(conn: Connection, at: int, most: int) -> tuple[Rows, int | None]:
        rows = (
            inbox.list_urgent(
                conn, behind=max((due, at), _first_to_answer(node)), limit=most, unit=unit, referral=referral
            )
            if urgent
            else inbox.list_arrived(conn, after=at, limit=most, status=status, unit=unit, referral=referral)
        )
        if not rows and inbox.is_no_cursor(conn, at):
            raise bad_cursor()
        found = inbox.standings(conn, {item.referral for _, item in rows}) if rows else {}
        end = inbox.end_of_look(conn, after=at, status=status) if sliced and len(rows) < most else None
        return [(seq, item, found.get(item.referral)) for seq, item in rows], end

    deadline = time.monotonic() + max(0.0, min(wait, node.limits.wait_longest_s))
    most = limit
    while True:
        mark = node.database.wake.mark("inbox")
        # One more than is listed of the most urgent says whether there is a next page.
        rows, passed = await look_through(node, look, after, most + 1 if urgent else most)
        goes_on, rows = len(rows) > most, rows[:most]
        items = _shown(node, rows)
        left_out = len(rows) - len(items)
        if goes_on and most < limit + left_out:
            # What is left out hides nothing that has to be answered: the page is filled with those behind.
            most = limit + left_out
            await asyncio.sleep(0)
            continue
        if not urgent and left_out and not items:
            after = rows[-1][0]
            await asyncio.sleep(0)
            continue
        if status is None:
            # What is not in this state may come to be.
            after = passed
        left = deadline - time.monotonic()
        if items or left <= 0 or node.database.wake.ending:
            break
        # On PostgreSQL a late committer may hide a row for a moment without a further signal.
        await node.database.wake.wait("inbox", min(left, 1.0), since=mark)
    if urgent:
        return InboxPage(items=items, next_cursor=_urgent_cursor(rows) if goes_on else None)
    return InboxPage(items=items, next_cursor=str(rows[-1][0] if rows else after))


def _first_to_answer(node: Node) -> tuple[int, int]:
    """The place behind which the most urgent begin: what had to be answered before has expired, or was answered."""
    return node.clock() - LIMITS.offer_after_respond_by_ms + 1, 0


def _urgent_cursor(rows: Rows) -> str:
    seq, last, _ = rows[-1]
    return f"{last.respond_by}-{seq}"


def _shown(node: Node, rows: Rows) -> tuple[InboxItem, ...]:
    """The items of these rows, without those that are left out."""
    items = []
    for seq, item, referral in rows:
        with contextlib.suppress(ValueError):  # the log has heard of it
            items.append(item_view(node, seq, item, referral))
    return tuple(items)


def read_cursor(cursor: str | None) -> int:
    """The sequence number in a cursor.

    Raises:
        InvalidError: `bad-cursor`.
    """
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:  # noqa: PLR2004  # fits 64 bits
        raise bad_cursor()
    return int(cursor)


def _read_urgent_cursor(cursor: str | None) -> tuple[int, int]:
    """When the offer has to be answered that a cursor of the most urgent names, and its sequence number.

    Raises:
        InvalidError: `bad-cursor`.
    """
    if cursor is None:
        return 0, 0
    due, dash, seq = cursor.partition("-")
    if not dash:
        raise bad_cursor()
    return read_cursor(due), read_cursor(seq)


def bad_cursor() -> InvalidError:
    """It is none, or of another list: whoever goes on with it would hear nothing and believe that nothing comes."""
    sentence = "Use the `next_cursor` of an earlier page of this list, or leave the cursor out."
    return InvalidError("bad-cursor", sentence, fields=(_CURSOR,))


def item_view(
    node: Node, seq: int, item: ArrivedRecord | ListedRecord, referral: ReferralRecord | Standing | None
) -> InboxItem:
    """An item without content; where its header cannot be read, without what stands there.

    Raises:
        ValueError: its rows have a word of a later version; the log says so.
    """
    try:
        return item_with(node, seq, item, referral, header_members(node, item))
    except UNREADABLE as error:
        tell_unreadable(node, "inbox", item.id, error)
        return item_with(node, seq, item, referral, {})


def item_with(
    node: Node,
    seq: int,
    item: ArrivedRecord | ListedRecord,
    referral: ReferralRecord | Standing | None,
    header: Mapping[str, Any],
) -> InboxItem:
    """As `item_view`, where the members of the header are read already."""
    return InboxItem.model_validate(
        {
            "id": item.id,
            "cursor": str(seq),
            "referral": item.referral,
            "sender": item.sender,
            "kind": item.kind,
            "event": item.event,
            "purpose": header.get("purpose"),
            "sector": referral.sector if referral is not None else Sector.OTHER,
            "priority": header.get("priority"),
            "state": referral.state if referral is not None else State.WITHDRAWN,
            "status": item.status,
            "received_at": from_millis(item.received_at),
            "respond_by": from_millis(item.respond_by) if item.respond_by is not None else None,
            "exercise": referral.exercise if referral is not None else None,
            "leased_until": from_millis(item.lease_until)
            if 0 < item.lease_until - node.clock() <= _longest_ms(node)
            else None,
        }
    )


def _longest_ms(node: Node) -> int:
    """How far ahead the end of a lease may lie; a process with a clock that differs a little may have given it."""
    return node.limits.lease_longest_s * SECOND_MS + node.limits.skew_ms


async def lease_item(node: Node, acting: Acting, item: str, seconds: int) -> Lease:
    """Take an item for a while.

    Raises:
        NotFoundError: there is no such item.
        ConflictError: `leased` already, or `not-new`.
    """
    at = node.clock()
    until = at + seconds * SECOND_MS
    token = node.fresh_id()

    def commit(conn: Connection) -> bool:
        find_item(conn, item, acting.unit)
        taken = inbox.lease(conn, item, token=token, at=at, until=until, longest_ms=_longest_ms(node))
        if taken:
            audit(conn, node, acting, "leased", [item])
        elif (status := find_item(conn, item, acting.unit)[1].status) != "new":
            raise ConflictError("not-new", _NOT_NEW[status])
        return taken

    taken = await node.database.write(commit)
    if not taken:
        raise ConflictError("leased", "This item is leased already. Take another one, or wait until the lease ends.")
    return Lease(token=token, until=from_millis(until))


async def acknowledge_item(node: Node, acting: Acting, item: str, lease: str | None) -> InboxItem:
    """The agency's own system has taken the item over. Saying it again changes nothing.

    Raises:
        NotFoundError: there is no such item.
        ConflictError: `leased`, and not under this token.
    """

    def commit(conn: Connection) -> tuple[int, ArrivedRecord, ReferralRecord]:
        _, _, referral = find_item(conn, item, acting.unit)
        if inbox.acknowledge(conn, item, token=lease, at=node.clock(), longest_ms=_longest_ms(node)):
            mine = taken_over(referral, acting.unit)
            if mine is not referral:
                save_referral(conn, mine)
            audit(conn, node, acting, "acknowledged", [item])
        found = find_item(conn, item, acting.unit)
        if found[1].status == "new":
            raise _leased(lease)
        return found

    seq, row, referral = await again(lambda: node.database.write(commit))
    return item_view(node, seq, row, referral)


def _leased(lease: str | None) -> ConflictError:
    if lease is None:
        sentence = "This item is leased. Send the token of your lease in `lease`, or wait until the lease ends."
        code, place = "lease-needed", "The item is leased, and no token of a lease was sent."
    else:
        sentence = (
            "This item is leased, and not under the token that was sent: your lease has ended, or the token is "
            "another's. Wait until the lease ends."
        )
        code, place = "not-the-lease", "This is not the token of the lease under which the item is held."
    return ConflictError("leased", sentence, fields=(ProblemField(path="lease", code=code, sentence=place),))
