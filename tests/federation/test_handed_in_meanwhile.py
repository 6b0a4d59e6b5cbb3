"""On PostgreSQL a hand-in may still be open while a courier gives its lease back: it is not left to the next hurry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
from support.federation import Federation
from support.people import referral_request
from support.stories import begin, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.courier import Courier
from exchange.storage.database import Database


@asynccontextmanager
async def nobody_writes_audit(url: str) -> AsyncIterator[None]:
    """A hand-in has written its envelope by then, and stays open."""
    async with await psycopg.AsyncConnection.connect(url) as lock:
        await lock.execute("LOCK TABLE audit IN SHARE MODE")
        yield


async def waits_for_audit(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as eye:
        query = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass"
        while await (await eye.execute(query)).fetchone() is None:  # noqa: ASYNC110 - a lock gives no signal
            await asyncio.sleep(0.02)


async def test_what_commits_after_the_lease_is_given_back_is_due_at_once(on_both: Federation) -> None:
    """The shelter does not know the contract yet, and takes the first offer `later`; another is handed in meanwhile."""
    helpline = on_both[HELPLINE]
    node = helpline.node
    if node.database.dialect != "postgresql":
        return
    adoptions = on_both[SHELTER].node.world().roster.contracts
    await on_both.new_roster(contracts=(), known_to=[SHELTER])
    await on_both.new_roster(contracts=adoptions, known_to=[HELPLINE])
    for path in (on_both[SHELTER].home / "contracts").glob("*.yaml"):
        path.unlink()
    await on_both[SHELTER].node.refresh_world()
    first = await begin(on_both, travel=False)
    url = node.database._write_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    there = Database.open(url)
    try:
        courier = Courier(replace(node, database=there), helpline.courier._transport)
        async with asyncio.timeout(30), nobody_writes_audit(url):
            request = referral_request(SHELTER.agency, first.consent)
            handing_in = asyncio.create_task(first.asks.referrals.send(request))
            await waits_for_audit(url)
            delivering = asyncio.create_task(courier.run_once())
            await asyncio.wait({delivering}, timeout=3)
            assert not handing_in.done()
        second = await handing_in
        await delivering
        assert {one.header.referral for one in travelled(on_both)} == {first.id, second.id}
    finally:
        await there.close()
