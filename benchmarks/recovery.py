"""How soon all is well after a peer was away: the receiver's node stopped for 30 s while referrals are handed in."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load import LONGEST_S, Load
from benchmarks.nodes import Pair, running_pair
from benchmarks.telling import tell
from exchange.demo.federation import NewDatabase

AWAY_S: Final = 30
COUNT: Final = 300


def measure_recovery(folder: Path, new_database: NewDatabase | None = None) -> dict[str, Any]:
    """Seconds from the receiver's first readiness to the first referral opened, and to all delivered."""
    with running_pair(folder / "nodes", new_database=new_database) as pair:
        found = asyncio.run(_measure(pair))
    tell(
        f"away for {AWAY_S} s with {COUNT} handed in: first opened after {found['first_opened_s']} s, "
        f"all delivered after {found['all_delivered_s']} s"
    )
    return found


async def _measure(pair: Pair) -> dict[str, Any]:
    load = Load(pair)
    await load.prepare()
    pair.shelter.stop()
    stopped = time.monotonic()
    for _ in range(COUNT):
        await load.hand_in()
        await asyncio.sleep(AWAY_S / COUNT / 2)
    await asyncio.sleep(max(0.0, AWAY_S - (time.monotonic() - stopped)))
    pair.shelter.start()
    await asyncio.to_thread(pair.shelter.wait_until_ready)
    ready = time.monotonic()
    done = len(await _first(load))
    first = time.monotonic() - ready
    async with asyncio.timeout(LONGEST_S):
        while done + len(load.arrivals()) < COUNT:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)
    everything = time.monotonic() - ready
    load.close()
    return {
        "away_s": AWAY_S,
        "referrals": COUNT,
        "first_opened_s": round(first, 2),
        "all_delivered_s": round(everything, 2),
    }


async def _first(load: Load) -> list[str]:
    async with asyncio.timeout(LONGEST_S):
        while not (opened := await load.open_some(wait_s=10)):
            pass
    return opened
