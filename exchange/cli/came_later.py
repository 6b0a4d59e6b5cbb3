"""Whether something newer has come than what is shown: an older number or meeting point is what she has replaced."""

from __future__ import annotations

from typing import Final

from exchange.cli.console import advise
from exchange.cli.sheet import shortened, tell_unreadable
from exchange.client import AgencyClient, ClientError
from exchange.envelope.kinds import Kind
from exchange.schemas.inbox import InboxItem

_MAY_REPLACE: Final = frozenset({Kind.DISCLOSURE, Kind.UPDATE, Kind.INFORMATION})
"""What may say anew how she is reached, or where she comes."""


async def tell_what_came_later(client: AgencyClient, opened: InboxItem) -> None:
    """Name it: who reads the older one here would call or drive there."""
    if opened.kind not in _MAY_REPLACE:
        return
    try:
        of_hers = client.inbox.pages(referral=opened.referral, unreadable=tell_unreadable)
        listed = [one async for one in of_hers if one.kind in _MAY_REPLACE]
    except ClientError:
        advise("Whether something newer has come for this referral could not be asked: exchange inbox list")
        return
    ids = [one.id for one in listed if one.status != "destroyed"]
    if opened.id in ids[:-1]:
        later = ", ".join(
            f"{shortened(one)} ({one.kind})" for one in listed if one.id in ids[ids.index(opened.id) + 1 :]
        )
        advise(f"Not the newest: later came {later}. What is said there counts.", style="bold red")
