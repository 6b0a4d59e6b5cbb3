"""Whether something newer may have come than what is shown: an older number or meeting point is what she has replaced.

Rules:

* Here is known in which order things came, and not in which they were said: a plan that was made earlier can come
  later, where a clock was wrong or the line lost one. So which plan counts is said by `inbox advice` alone.
* It is said of the last one too: it may be the one that counts no more.
"""

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
    if opened.id not in ids or len(ids) == 1:
        return
    place = ids.index(opened.id)
    later, earlier = _named(listed, ids[place + 1 :]), _named(listed, ids[:place])
    counts = f"Where they differ about how she is reached, what counts is: exchange inbox advice {shortened(opened)}"
    if later:
        advise(f"Not the newest: later came {later}. Read it. {counts}", style="bold red")
    else:
        advise(f"Before it came {earlier}. {counts}")


def _named(listed: list[InboxItem], ids: list[str]) -> str:
    return ", ".join(f"{shortened(one)} ({one.kind})" for one in listed if one.id in ids)
