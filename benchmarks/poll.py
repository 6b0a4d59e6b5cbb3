"""What a poll costs, however much lies in the inbox: a thousand items, a hundred thousand, a million."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.filling import fill_inbox
from benchmarks.load import Load, percentiles
from benchmarks.nodes import Pair, running_pair
from benchmarks.telling import tell
from exchange.demo.federation import NewDatabase

SIZES: Final = (1_000, 100_000, 1_000_000)
POLLS: Final = 200
WARM_UP: Final = 10


def polls(size: int) -> dict[str, str]:
    """What is asked, in pages that the smallest inbox fills too. The usual poll finds nothing new."""
    return {
        "end": f"cursor={size}&limit=50",
        "middle": f"cursor={size // 2}&limit=50",
        "middle_new": f"cursor={size // 2}&state=new&limit=5",
        "middle_acknowledged": f"cursor={size // 2}&state=acknowledged&limit=50",
        "urgent_first": "order=urgent&limit=5",
    }


def measure_poll(folder: Path, new_database: NewDatabase | None = None) -> dict[str, Any]:
    """Percentiles of each kind of poll, by size of the inbox, and how much the median grew from least to most."""
    with running_pair(folder / "nodes", new_database=new_database) as pair:
        found = asyncio.run(_measure(pair))
    least, most = found[str(SIZES[0])], found[str(SIZES[-1])]
    grew = {name: round(most[name]["p50_ms"] / least[name]["p50_ms"], 2) for name in least}
    return {"items": found, "p50_grew_times": grew}


async def _measure(pair: Pair) -> dict[str, Any]:
    load = Load(pair)
    await load.prepare()
    found = {}
    for size in SIZES:
        started = time.monotonic()
        fill_inbox(pair.shelter, size)
        filled = time.monotonic() - started
        taken: dict[str, list[float]] = {}
        for number in range(WARM_UP + POLLS):
            for name, query in polls(size).items():
                began = time.perf_counter()
                await load.receiver_get(f"/v1/inbox?{query}")
                if number >= WARM_UP:
                    taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        found[str(size)] = {
            name: {percentile: round(value, 2) for percentile, value in percentiles(times).items()}
            for name, times in taken.items()
        }
        told = ", ".join(f"{name} {one['p50_ms']}/{one['p99_ms']}" for name, one in found[str(size)].items())
        tell(f"poll of {size} items, p50/p99 ms: {told} (filled in {filled:.0f} s)")
    load.close()
    return found
