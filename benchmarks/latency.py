"""How long a referral takes from handed in to opened when there is time: five a second, for a minute."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.nodes import Pair, running_pair
from benchmarks.telling import tell
from exchange.demo.federation import NewDatabase

A_SECOND: Final = 5
COUNT: Final = 300
"""A 99th percentile of fewer would be their slowest one."""


def measure_latency(folder: Path, new_database: NewDatabase | None = None) -> dict[str, Any]:
    """Percentiles, and the processor time that each process spent on a referral."""
    with running_pair(folder / "nodes", new_database=new_database) as pair:
        found = asyncio.run(_measure(pair))
    tell(f"latency at {A_SECOND}/s: p50 {found['p50_ms']} ms, p95 {found['p95_ms']} ms, p99 {found['p99_ms']} ms")
    return found


async def _measure(pair: Pair) -> dict[str, Any]:
    load = Load(pair)
    await load.prepare()
    await load.end_to_end(50, 4)
    before = pair.cpu_seconds()
    found = await load.at_a_rate(COUNT, A_SECOND)
    after = pair.cpu_seconds()
    load.close()
    spent = {name: round((after[name] - before[name]) / COUNT * 1000, 2) for name in before}
    return {
        "referrals": COUNT,
        "per_s": A_SECOND,
        **{name: round(value, 1) for name, value in found.items()},
        "cpu_ms_per_referral": spent,
    }
