"""What two linked nodes with nothing to do say to each other, and what waiting for news costs.

Between the nodes it is counted for half a minute after they have read each other's cards, and extrapolated to a day.
To that is added what comes seldom: a start's greetings and cards, taken as once a week; the hourly question for each
other's card is not. A client that long-polls is
counted apart: it speaks to its own agency's node.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.nodes import Pair, made_pair
from benchmarks.relay import Between, relayed
from benchmarks.telling import tell
from benchmarks.wire import cards_fetched

MEASURED_S: Final = 30
DAY_S: Final = 86_400
CARD_EVERY_DAYS: Final = 7
"""Weeks begin once a week: no card has news more often."""


def measure_idle(folder: Path) -> dict[str, Any]:
    """Bytes a day between two nodes, and of a client that waits; processor time of both nodes meanwhile."""
    with made_pair(folder / "nodes", apart=True) as pair, relayed(pair.helpline, pair.shelter) as between:
        pair.start()
        found = asyncio.run(_measure(pair, between))
    tell(f"idle: {found['between_nodes_bytes_a_day']} bytes a day; a waiting client {found['client_bytes_a_day']}")
    return found


async def _measure(pair: Pair, between: Between) -> dict[str, Any]:
    await cards_fetched(between)
    cards = between.counted().both_ways
    cpu, began = pair.cpu_seconds(), time.monotonic()
    await asyncio.sleep(MEASURED_S)
    after = pair.cpu_seconds()
    passed, took = between.counted().both_ways - cards, time.monotonic() - began
    load = Load(pair)
    await load.sign_in()
    poll = await load.bytes_of_a_poll()
    load.close()
    return {
        "measured_s": round(took),
        "passed_meanwhile_bytes": passed,
        "at_start_bytes": cards,
        "between_nodes_bytes_a_day": round(passed / took * DAY_S + cards / CARD_EVERY_DAYS),
        "client_bytes_a_day": round(poll * DAY_S / 25),
        "cpu_percent": {name: round((after[name] - cpu[name]) / took * 100, 1) for name in after if name != "client"},
    }
