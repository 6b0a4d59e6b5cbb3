"""How a worker names an item or a referral on the command line: whole, or by how the id of an item ends.

Rules:

* The last characters of an item's id are enough, four at least and as long as they are one item's only: what cannot be
  taken back should not follow from a slip of one key. (The first ones say when it was made, and much is made
  at the same moment.)
* A referral may be named by its whole id, or so by an item that belongs to it. A whole id is taken as it is, without
  looking into the inbox: her no goes out from a machine that may not read there.
* What fits nothing, or more than one, is refused with a sentence, and nothing is sent.
"""

from __future__ import annotations

import re
from typing import Final

from exchange.cli.console import SET_UP_WRONG, fail
from exchange.cli.sheet import tell_unreadable
from exchange.client import AgencyClient
from exchange.schemas.inbox import InboxItem

_WHOLE: Final = re.compile(r"[0-9a-f]{32}")
_LEAST: Final = 4


async def item_named(client: AgencyClient, name: str) -> str:
    """The whole id of the item."""
    return name if _WHOLE.fullmatch(name) else (await listed_item(client, name)).id


async def listed_item(client: AgencyClient, name: str) -> InboxItem:
    """The one item whose id ends so."""
    if len(name) < _LEAST:
        fail(f"Type {_LEAST} characters of the id at least: `exchange inbox list` shows them. Nothing was done.")
    found = await _ending(client, name)
    if len(found) != 1:
        fail("No item ends so." if not found else "Several items end so: type more of the id.")
    return found[0]


async def referral_named(client: AgencyClient, name: str) -> str:
    """The whole id of the referral: given so, or as the end of the id of an item that belongs to it."""
    if _WHOLE.fullmatch(name):
        return name
    found = {item.referral for item in await _ending(client, name)} if len(name) >= _LEAST else set()
    if len(found) > 1:
        fail("Several referrals have an item that ends so: type more of the id. Nothing was sent.", code=SET_UP_WRONG)
    if not found:
        fail(
            f"No item in the inbox ends so ({_LEAST} characters or more), and a referral's id has 32 characters, 0-9 "
            "and a-f. Nothing was sent. Whole ids: `exchange referrals watch --once`, `inbox show ITEM --json`.",
            code=SET_UP_WRONG,
        )
    return found.pop()


def consent_named(name: str) -> str:
    """The id of the consent, which only its whole id names."""
    if not _WHOLE.fullmatch(name):
        fail(
            "A consent's id has 32 characters, 0-9 and a-f. `exchange consent record` printed it. Nothing was sent.",
            code=SET_UP_WRONG,
        )
    return name


async def _ending(client: AgencyClient, name: str) -> list[InboxItem]:
    unreadable: list[str] = []
    found = [item async for item in client.inbox.pages(unreadable=unreadable.append) if item.id.endswith(name)]
    for one in unreadable:
        if one.endswith(name):
            tell_unreadable(one)
    return found
