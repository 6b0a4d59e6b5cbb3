"""Polling an inbox as an iteration: each new item once, leased, until it is acknowledged.

Rules:

* An item is handed out only after its lease was won; two pollers never both handle it.
* Leaving the `async with` block acknowledges the item; an exception inside does not, and the lease runs out. Then the
  item comes again, here or at another poller: a crash loses nothing.
* Between items the node is long-polled, so that a new item arrives at once and an idle poller costs nearly nothing.
* Once the lease time has passed the list is read again from its beginning, for items that somebody leased and did not
  finish, however often something new comes. It is read to its end before: items that always fail hold up no others.
* What this software cannot read, as of a later version of the node, holds up no other item. It is neither leased nor
  acknowledged, and told once; it stays new, and comes again with every reading of the list, also to newer software.
* A node that is away or busy is asked again for as long as it takes: an update of the node ends no watch. What waiting
  does not mend ends it: a client that was revoked, a right that is missing, another program in the node's place.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from exchange.client.errors import ProblemError, UnreadableItemWarning
from exchange.client.inbox_page import ReadPage
from exchange.client.patience import patiently
from exchange.schemas.inbox import InboxItem, Lease, OpenedItem

if TYPE_CHECKING:
    from exchange.client.inbox import Inbox

_TAKEN: Final = frozenset({404, 409, 410})
_NO_CURSOR: Final = "bad-cursor"


class HeldItem:
    """An item that this poller has leased. `async with item:` acknowledges it at the end."""

    def __init__(self, inbox: Inbox, item: InboxItem, lease: Lease) -> None:
        self._inbox = inbox
        self.item = item
        self.lease = lease

    async def open(self) -> OpenedItem:
        """The verified content. Opening is on record under the actor's id."""
        return await self._inbox.open(self.item.id)

    async def acknowledge(self) -> InboxItem:
        """The item is taken over into the agency's own system."""
        return await self._inbox.acknowledge(self.item.id, self.lease.token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.acknowledge()


def warn_of_unreadable(item: str) -> None:  # noqa: ARG001 - no id is written where nobody asked for it
    """Say on standard error, as Python warns, that there is such an item."""
    warnings.warn("An item in the inbox cannot be read: update this software.", UnreadableItemWarning, stacklevel=2)


async def watch_inbox(
    inbox: Inbox,
    *,
    wait_s: float,
    lease_s: int,
    unreadable: Callable[[str], None] = warn_of_unreadable,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[HeldItem]:
    """Every new item, leased, without end.

    Args:
        inbox: whose items.
        wait_s: how long one long-poll may take, at most 25 seconds.
        lease_s: how long an item may be worked on before another poller may take it over.
        unreadable: hears, once, the id of each item that this software cannot read.
        clock: seconds, for the time between two readings of the whole list.
    """
    cursor: str | None = None
    began = clock()
    told: set[str] = set()
    while True:
        # No waiting for news then: where these never stop, no wait would ever end without any.
        wait = 0 if clock() - began >= lease_s else wait_s
        page = await patiently(lambda: _page(inbox, cursor, wait))  # noqa: B023 - awaited here
        for one in page.unreadable:
            if one not in told:
                told.add(one)
                unreadable(one)
        for item in page.items:
            lease = await patiently(lambda: _win(inbox, item.id, lease_s))  # noqa: B023 - awaited here
            if lease is not None:
                yield HeldItem(inbox, item, lease)
        cursor = page.next_cursor or cursor
        if not (page.items or page.unreadable) and clock() - began >= lease_s:
            cursor, began = None, clock()


async def _page(inbox: Inbox, cursor: str | None, wait_s: float) -> ReadPage:
    """New items after the cursor; from the beginning, where the node's numbers went back with a restored backup."""
    try:
        return await inbox.list(cursor, status="new", wait_s=wait_s)
    except ProblemError as refused:
        if cursor is None or refused.problem.code != _NO_CURSOR:
            raise
        return await inbox.list(status="new", wait_s=wait_s)


async def _win(inbox: Inbox, item: str, lease_s: int) -> Lease | None:
    """The lease, or nothing when somebody else has the item, has finished it, or it was destroyed meanwhile."""
    try:
        return await inbox.lease(item, lease_s)
    except ProblemError as refused:
        if refused.problem.status in _TAKEN:
            return None
        raise
