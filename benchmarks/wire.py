"""Bytes a referral: between the nodes, and in each node's databases. On SQLite.

Rules:

* On the wire everything counts that TCP carries between the nodes, both ways: card, tokens, headers, receipts.
* A whole referral is an offer, its acceptance, and the disclosure that the acceptance releases.
* At rest is what the database files grew by, free pages taken off.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.nodes import Pair, made_pair
from benchmarks.pure import envelope_bytes
from benchmarks.relay import Between, relayed
from benchmarks.telling import tell

MANY: Final = 200
QUIET_S: Final = 1.0
"""Nothing passes for so long: everything that was to be said is said."""
CONNECTION_RESTS_S: Final = 32
"""A courier gives a connection back that rested for 30 s."""


def measure_bytes(folder: Path) -> dict[str, Any]:
    """On the wire and at rest."""
    with made_pair(folder / "nodes", apart=True) as pair, relayed(pair.helpline, pair.shelter) as between:
        pair.start()
        found = {"envelope_by_bucket": envelope_bytes()} | asyncio.run(_measure(pair, between))
    wire = found["on_the_wire"]
    tell(f"bytes a referral on the wire: first ever {wire['first_ever']}, whole {wire['whole']}")
    return found


async def _measure(pair: Pair, between: Between) -> dict[str, Any]:
    load = Load(pair)
    # Nothing but the cards has passed since both nodes started; their own systems sign in afterwards.
    await cards_fetched(between)
    wire = {"cards_of_both": between.counted().both_ways}
    await load.sign_in()
    wire["first_ever"] = await _passed(between, load.whole) + wire["cards_of_both"]
    wire["whole"] = await _passed(between, load.whole)
    wire["offer_alone"] = await _passed(between, load.offer)
    await asyncio.sleep(CONNECTION_RESTS_S)
    wire["offer_alone_on_a_new_connection"] = await _passed(between, load.offer)
    before = _at_rest(pair)
    with pair.helpline.without_courier():
        await load.hand_in_many(MANY, 16)
    wire["offer_in_full_batches"] = round(await _passed(between, lambda: load.delivered(MANY)) / MANY)
    after = _at_rest(pair)
    load.close()
    rest = {name: round((after[name] - before[name]) / MANY) for name in after}
    return {"on_the_wire": wire, "at_rest_offer_delivered": rest}


async def _passed(between: Between, work: Any) -> int:
    """Bytes both ways that this took, and what followed from it."""
    before = between.counted()
    await work()
    await until_quiet(between)
    return (between.counted() - before).both_ways


async def cards_fetched(between: Between) -> None:
    """Return when both nodes have asked each other for their cards, and nothing passes any more."""
    relays = (between.to_shelter, between.to_helpline)
    while not all(relay.counted().both_ways for relay in relays):  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.1)
    await until_quiet(between)


async def until_quiet(between: Between) -> None:
    """Return when nothing has passed for a while."""
    last, since = between.counted(), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        await asyncio.sleep(0.05)
        if (now := between.counted()) != last:
            last, since = now, time.monotonic()


def _at_rest(pair: Pair) -> dict[str, int]:
    return {
        f"{name}_{which}": _used(url)
        for name, node in (("sender", pair.helpline), ("receiver", pair.shelter))
        for which, url in (("main", node.main_database), ("keys", node.key_database))
    }


def _used(url: str) -> int:
    conn = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        pages, free, size = (
            conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)
    finally:
        conn.close()
