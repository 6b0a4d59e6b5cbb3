"""`make badline`: two real nodes over 32 kbit/s, two seconds each way, every tenth packet lost.

Rules:

* The line is a relay on loopback: rate and latency as they are, loss as TCP shows it (a packet comes a round trip later
  for each time it was lost, and counts again). The network of the machine is left alone.
* Bytes are those of TCP's streams, both ways, repeats included: cards, tokens, headers, receipts. TLS and the headers
  of TCP and IP are not among them.
* The agencies' own systems are at their own nodes, and not on the line.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.nodes import Pair, made_pair
from benchmarks.relay import Between, Shape, relayed
from benchmarks.telling import tell
from benchmarks.wire import CONNECTION_RESTS_S, cards_fetched

LINE: Final = Shape(bytes_a_s=32_000 / 8, one_way_s=2.0, loss=0.1)
MANY: Final = 30
LONGEST_S: Final = 500


def measure_bad_line(folder: Path) -> dict[str, Any]:
    """Bytes and seconds of a whole referral, and of many that had waited."""
    with made_pair(folder / "nodes", apart=True) as pair, relayed(pair.helpline, pair.shelter) as between:
        pair.start()
        return asyncio.run(_measure(pair, between))


async def _measure(pair: Pair, between: Between) -> dict[str, Any]:
    await cards_fetched(between)
    cards = between.counted().both_ways
    load = Load(pair)
    await load.sign_in()
    for relay in (between.to_shelter, between.to_helpline):
        relay.shape = LINE
    await asyncio.sleep(CONNECTION_RESTS_S)  # what was connected before goes over the good line
    before, started = between.counted(), time.monotonic()
    async with asyncio.timeout(LONGEST_S):
        await load.whole()
    whole = {
        "bytes": (between.counted() - before).both_ways,
        "bytes_with_greetings_and_cards": (between.counted() - before).both_ways + cards,
        "seconds": round(time.monotonic() - started, 1),
    }
    tell(f"a whole referral: {json.dumps(whole)}")
    with pair.helpline.without_courier():
        await load.hand_in_many(MANY, 4)
    before, started = between.counted(), time.monotonic()
    async with asyncio.timeout(LONGEST_S):
        while len(load.arrivals()) < MANY:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(1)
    took, passed = time.monotonic() - started, (between.counted() - before).both_ways
    load.close()
    many = {"referrals": MANY, "seconds": round(took, 1), "bytes_each": round(passed / MANY)}
    tell(f"what had waited: {json.dumps(many)}")
    return {"whole_referral": whole, "waiting": many}
