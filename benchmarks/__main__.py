"""`python -m benchmarks` (or `make bench`): what this project does in a second, beside what this machine could.

Rules:

* Everything runs on loopback, in processes and folders of its own, bounded in count and time, and is gone at the end.
* Limits are measured between the measurements, so that both saw the same machine; every figure is a median.
* The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.limit import Shelf, bare_server, measure_limit
from benchmarks.load import Load
from benchmarks.postgres import create_database, running_server
from benchmarks.pure import measure_pure
from exchange.demo.federation import HELPLINE, SHELTER, running_federation

ROUNDS: Final = 3
COUNT: Final = 1000
LIMIT_COUNT: Final = 2000
IN_FLIGHT: Final = 64
SLOW_COUNT: Final = 20
LONGEST_S: Final = 60
"""No round of a database starts later than this."""
# One client and one peer make more requests here than a node usually allows.
SETTINGS: Final = {
    "EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "10000000",
    "EXCHANGE_PEER_REQUESTS_PER_MINUTE": "10000000",
    "EXCHANGE_LOG_LEVEL": "warning",
}
STARTED: Final = time.monotonic()


def tell(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - STARTED:5.0f} s, load {os.getloadavg()[0]:.1f}] {text}", flush=True)


@dataclass(slots=True)
class Figures:
    """The rounds of one database, and the limits measured between them."""

    database: str
    handed_in: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    end_to_end: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    ways: list[dict[str, float]] = field(default_factory=list)
    cpu_us: list[dict[str, float]] = field(default_factory=list)
    quiet: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The medians."""
        limit, end_to_end = statistics.median(self.limits), statistics.median(self.end_to_end)
        delivered = statistics.median(self.delivered)
        return {
            "rounds": len(self.end_to_end),
            "handed_in_per_s": round(statistics.median(self.handed_in)),
            "delivery_per_s": round(delivered),
            "opened_per_s": round(statistics.median(self.opened)),
            "end_to_end_per_s": round(end_to_end),
            "limit_per_s": round(limit),
            "ratio_end_to_end": round(end_to_end / limit, 3),
            "ratio_delivery": round(delivered / limit, 3),
            "end_to_end_ms": _medians(self.ways, 1),
            "quiet_way_ms": {name: round(value, 1) for name, value in self.quiet.items()},
            "cpu_us_per_referral": _medians(self.cpu_us, 0),
        }


def _medians(rounds: list[dict[str, float]], digits: int) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in rounds), digits or None) for name in rounds[0]}


def measure(database: str, folder: Path, new_database: Callable[[str], str], limit_url: str, shelf: Shelf) -> Figures:
    """Everything about one kind of database."""
    figures = Figures(database)
    urls: dict[str, str] = {}

    def make(name: str) -> str:
        urls[name] = new_database(name)
        return urls[name]

    tell(f"{database}: two nodes start")
    with running_federation(
        folder / database, (HELPLINE, SHELTER), new_database=make, variables=SETTINGS
    ) as federation:
        load = Load(federation, urls[f"{SHELTER.agency}-main"])
        asyncio.run(_rounds(figures, load, limit_url, shelf))
    return figures


async def _rounds(figures: Figures, load: Load, limit_url: str, shelf: Shelf) -> None:
    await load.prepare()
    await load.end_to_end(300, IN_FLIGHT)  # connections, caches, each other's keys
    started = time.monotonic()
    for number in range(1, ROUNDS + 1):
        if number > 1 and time.monotonic() - started > LONGEST_S:
            tell(f"{figures.database}: no further round, this machine is busy")
            break
        figures.limits.append(await measure_limit(limit_url, shelf, count=LIMIT_COUNT, in_flight=IN_FLIGHT))
        async with load.nothing_delivered():
            figures.handed_in.append(await load.hand_in_many(COUNT, IN_FLIGHT))
        figures.delivered.append(await load.delivered(COUNT))
        figures.opened.append(await load.open_many(COUNT))
        figures.limits.append(await measure_limit(limit_url, shelf, count=LIMIT_COUNT, in_flight=IN_FLIGHT))
        before = load.cpu_seconds()
        per_second, ways = await load.end_to_end(COUNT, IN_FLIGHT)
        after = load.cpu_seconds()
        figures.end_to_end.append(per_second)
        figures.ways.append(ways)
        figures.cpu_us.append({name: (after[name] - before[name]) / COUNT * 1e6 for name in before})
        tell(
            f"{figures.database} {number}/{ROUNDS}: {figures.handed_in[-1]:.0f} handed in/s, "
            f"{figures.delivered[-1]:.0f} delivered/s, {figures.opened[-1]:.0f} opened/s, "
            f"{per_second:.0f} end to end/s; limit {figures.limits[-2]:.0f} and {figures.limits[-1]:.0f}/s"
        )
    figures.quiet = await load.one_by_one(SLOW_COUNT, a_second=5)
    tell(f"{figures.database}: one by one {figures.quiet['p50_ms']:.0f} ms from handed in to opened")
    load.close()


def main() -> None:
    """Measure, show, and print the result."""
    # Told to stop, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pure = measure_pure()
    tell(
        f"seal {pure['seal_us']:.0f} us, open {pure['open_us']:.0f} us (2 KiB); "
        f"{pure['decisions_per_s']:.0f} decisions/s; gate {pure['gate_us']:.0f} us"
    )
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exchange-bench-")))
        limit_url = stack.enter_context(bare_server(folder))
        shelf = Shelf(folder / "sending.db")
        stack.callback(shelf.close)
        found["sqlite"] = measure(
            "sqlite", folder, lambda name: f"sqlite:///{folder / name}.db", limit_url, shelf
        ).summary()
        server = stack.enter_context(running_server())
        found["postgresql"] = measure(
            "postgresql", folder, lambda name: create_database(server, name), limit_url, shelf
        ).summary()
    lite = found["sqlite"]
    result = {name: round(value, 1) for name, value in pure.items()}
    result |= {
        name: lite[name]
        for name in ("end_to_end_per_s", "delivery_per_s", "limit_per_s", "ratio_end_to_end", "ratio_delivery")
    }
    print(json.dumps(result | {"in_flight": IN_FLIGHT, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
