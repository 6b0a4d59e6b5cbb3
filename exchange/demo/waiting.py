"""Waiting until a node shows what another one sent. A person would simply look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from exchange.client import AgencyClient
from exchange.schemas.inbox import InboxItem
from exchange.schemas.referrals import ReferralView

PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.05

T = TypeVar("T")


class TooLateError(AssertionError):
    """It did not happen in time."""


async def until(ask: Callable[[], Awaitable[T | None]], what: str) -> T:
    """The first answer that is not nothing.

    Raises:
        TooLateError: none came within 15 seconds.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (answer := await ask()) is not None:
            return answer
        await asyncio.sleep(_PAUSE_S)
    raise TooLateError(f"Waited for {what}; it did not come.")


async def item_of(client: AgencyClient, referral: str, kind: str) -> InboxItem:
    """The item of this kind that arrived for a referral."""

    async def look() -> InboxItem | None:
        return next(iter(await items_of(client, referral, kind)), None)

    return await until(look, f"an item of kind {kind}")


async def items_of(client: AgencyClient, referral: str, kind: str | None = None) -> list[InboxItem]:
    """What has arrived for a referral so far."""
    items = [item async for item in client.inbox.pages(referral=referral)]
    return [item for item in items if kind is None or item.kind == kind]


async def referral_that(
    client: AgencyClient, referral: str, test: Callable[[ReferralView], bool], what: str
) -> ReferralView:
    """The referral, once it is as the test says."""

    async def look() -> ReferralView | None:
        view = await client.referrals.read(referral)
        return view if test(view) else None

    return await until(look, what)
