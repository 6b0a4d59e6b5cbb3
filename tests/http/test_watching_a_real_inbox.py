"""The SDK's `async for` against a real node: two pollers, every item once, leased, opened and taken over."""

from __future__ import annotations

import asyncio

import pytest
from support.http_world import HttpWorld

from exchange.client import AgencyClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
OFFERS = 6


async def work(client: AgencyClient, handled: list[str], done: asyncio.Event, *, fails: bool = False) -> None:
    async for held in client.inbox.watch(wait_s=1, lease_s=10):
        if fails:
            return  # leaves without acknowledging: the lease runs out
        async with held:
            opened = await held.open()
            assert opened.content is not None
            await asyncio.sleep(0.01)  # the other one has its turn
        handled.append(held.item.id)
        if len(handled) == OFFERS:
            done.set()
        if done.is_set():
            return


async def test_two_pollers_handle_every_item_once(world: HttpWorld) -> None:
    """A third one crashed with an item in hand; it comes again when its lease has run out."""
    sent = [(await world.sent())[1].id for _ in range(OFFERS)]
    await work(world.system(world.shelter, None), [], asyncio.Event(), fails=True)
    world.together.clock.pass_by(seconds=11)
    done = asyncio.Event()
    first: list[str] = []
    pollers = [world.system(world.shelter, unit) for unit in (None, "north")]
    tasks = [asyncio.create_task(work(one, first, done)) for one in pollers]
    async with asyncio.timeout(20):
        await done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(first) == sorted(sent)
    listed = await pollers[0].inbox.list(status="acknowledged")
    assert {item.id for item in listed.items} == set(sent)
