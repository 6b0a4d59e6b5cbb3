"""How many referrals a second, beside the limit of this machine: handed in, delivered, opened, and end to end.

Rules:

* End to end: handed in over the API with all gates on, opened by the receiver's client, durable on both sides; so many
  in flight that the next is handed in when one is opened. By callers: so many systems, and each hands in its next one
  when it is answered.
* The limit is measured between the measurements, so that both saw the same machine; every figure is a median.
* On PostgreSQL the limit is the same one, on SQLite files.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.limit import Shelf, bare_server, measure_limit
from benchmarks.load import Load
from benchmarks.nodes import Pair, running_pair
from benchmarks.telling import tell
from exchange.demo.federation import NewDatabase

ROUNDS: Final = 3
COUNT: Final = 1000
END_TO_END: Final = 2500
"""Long enough that the beginning and the end, with fewer in flight, do not count."""
LIMIT_COUNT: Final = 2000
IN_FLIGHT: Final = 64
FEWER: Final = {16: 400, 1: 60}
"""In flight → how many referrals: the same with less going on."""
LONGEST_S: Final = 60
"""No round of a database starts later than this."""


@dataclass(slots=True)
class Figures:
    """The rounds of one database, and the limits measured between them."""

    handed_in: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    end_to_end: dict[int, list[float]] = field(default_factory=dict)
    ways: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    by_callers: list[float] = field(default_factory=list)
    callers_ways: list[dict[str, float]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    cpu_ms: list[dict[str, float]] = field(default_factory=list)
    resident_mib: dict[str, dict[str, float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The medians."""
        limit, end_to_end = statistics.median(self.limits), statistics.median(self.end_to_end[IN_FLIGHT])
        delivered, by_callers = statistics.median(self.delivered), statistics.median(self.by_callers)
        return {
            "rounds": len(self.delivered),
            "handed_in_per_s": round(statistics.median(self.handed_in)),
            "delivery_per_s": round(delivered),
            "opened_per_s": round(statistics.median(self.opened)),
            "end_to_end_per_s": round(end_to_end),
            "limit_per_s": round(limit),
            "ratio_end_to_end": round(end_to_end / limit, 3),
            "ratio_delivery": round(delivered / limit, 3),
            "callers": {"per_s": round(by_callers), "ratio": round(by_callers / limit, 3)} | medians(self.callers_ways),
            "in_flight": {
                str(number): {"per_s": round(statistics.median(self.end_to_end[number]))} | medians(self.ways[number])
                for number in sorted(self.end_to_end)
            },
            "cpu_ms_per_referral": medians(self.cpu_ms, 2),
            "resident_mib": self.resident_mib,
        }


def medians(rounds: list[dict[str, float]], digits: int = 1) -> dict[str, float]:
    """The median of every member."""
    return {name: round(statistics.median(one[name] for one in rounds), digits) for name in rounds[0]}


def measure_throughput(
    folder: Path, database: str = "SQLite", new_database: NewDatabase | None = None
) -> dict[str, Any]:
    """All of it, on SQLite files unless another database is named and made."""
    figures = Figures()
    with ExitStack() as stack:
        limit_url = stack.enter_context(bare_server(folder))
        shelf = Shelf(folder / "sending.db")
        stack.callback(shelf.close)
        tell(f"{database}: two nodes start")
        pair = stack.enter_context(running_pair(folder / "nodes", new_database=new_database))
        figures.resident_mib["at_start"] = _rounded(pair.resident_mib())
        asyncio.run(_rounds(database, figures, pair, lambda: measure_limit(limit_url, shelf, LIMIT_COUNT, IN_FLIGHT)))
        figures.resident_mib["after_load"] = _rounded(pair.resident_mib())
    return figures.summary()


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value) for name, value in figures.items()}


async def _rounds(database: str, figures: Figures, pair: Pair, limit: Callable[[], Any]) -> None:
    load = Load(pair)
    await load.prepare()
    await load.end_to_end(300, IN_FLIGHT)  # connections, caches
    started = time.monotonic()
    for number in range(1, ROUNDS + 1):
        if number > 1 and time.monotonic() - started > LONGEST_S:
            tell(f"{database}: no further round, this machine is busy")
            break
        figures.limits.append(await limit())
        with pair.helpline.without_courier():
            figures.handed_in.append(await load.hand_in_many(COUNT, IN_FLIGHT))
        figures.delivered.append(await load.delivered(COUNT))
        figures.opened.append(await load.open_many(COUNT))
        figures.limits.append(await limit())
        before = pair.cpu_seconds()
        await _end_to_end(figures, load, END_TO_END, IN_FLIGHT)
        after = pair.cpu_seconds()
        figures.cpu_ms.append({name: (after[name] - before[name]) / END_TO_END * 1000 for name in before})
        figures.limits.append(await limit())
        per_second, ways = await load.by_callers(END_TO_END, IN_FLIGHT)
        figures.by_callers.append(per_second)
        figures.callers_ways.append(ways)
        for in_flight, count in FEWER.items():
            await _end_to_end(figures, load, count, in_flight)
        tell(
            f"{database} {number}/{ROUNDS}: {figures.handed_in[-1]:.0f} handed in/s, "
            f"{figures.delivered[-1]:.0f} delivered/s, {figures.opened[-1]:.0f} opened/s, "
            f"{figures.end_to_end[IN_FLIGHT][-1]:.0f} end to end/s, {per_second:.0f} by callers; "
            f"limit {' '.join(f'{one:.0f}' for one in figures.limits[-3:])}/s"
        )
    load.close()


async def _end_to_end(figures: Figures, load: Load, count: int, in_flight: int) -> None:
    per_second, ways = await load.end_to_end(count, in_flight)
    figures.end_to_end.setdefault(in_flight, []).append(per_second)
    figures.ways.setdefault(in_flight, []).append(ways)
