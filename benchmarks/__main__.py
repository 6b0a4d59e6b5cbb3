"""`python -m benchmarks [PART …]`: what this project does in a second, beside what this machine could.

Rules:

* Everything runs on loopback, in processes and folders of its own, bounded in count and time, and is gone at the end.
* Without a part all of them run, in the order of `PARTS`.
* The last line is one JSON object, with a member for each part; before it stand the same figures as tables.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.badline import measure_bad_line
from benchmarks.idle import measure_idle
from benchmarks.latency import measure_latency
from benchmarks.poll import measure_poll
from benchmarks.postgres import create_database, running_server
from benchmarks.pure import measure_pure
from benchmarks.recovery import measure_recovery
from benchmarks.report import markdown
from benchmarks.telling import tell
from benchmarks.throughput import measure_throughput
from benchmarks.wire import measure_bytes
from exchange.demo.federation import NewDatabase


def measure_on_postgresql(folder: Path) -> dict[str, Any]:
    """What depends on the database, on a PostgreSQL that is started for it."""
    with running_server() as server:

        def made(part: str) -> NewDatabase:
            (folder / part).mkdir()
            return lambda name: create_database(server, f"{part}-{name}")

        return {
            "end_to_end": measure_throughput(folder / "end-to-end", "PostgreSQL", made("end-to-end")),
            "latency": measure_latency(folder / "latency", made("latency")),
            "poll": measure_poll(folder / "poll", made("poll")),
            "recovery": measure_recovery(folder / "recovery", made("recovery")),
        }


PARTS: Final[dict[str, Callable[[Path], dict[str, Any]]]] = {
    "pure": lambda _: measure_pure(),
    "end-to-end": measure_throughput,
    "postgresql": measure_on_postgresql,
    "latency": measure_latency,
    "poll": measure_poll,
    "recovery": measure_recovery,
    "bytes": measure_bytes,
    "idle": measure_idle,
}
ALONE: Final[dict[str, Callable[[Path], dict[str, Any]]]] = {"badline": measure_bad_line}
"""Run only when they are named: mostly waiting."""


def main() -> None:
    """Measure, show, and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all, or some of: {', '.join([*PARTS, *ALONE])}")
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - PARTS.keys() - ALONE.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    # Told to stop, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found: dict[str, Any] = {"cores": os.cpu_count(), "python": " ".join(sys.version.split())}
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        for part in wanted:
            tell(f"{part} …")
            place = Path(folder) / part
            place.mkdir()
            found[part.replace("-", "_")] = (PARTS | ALONE)[part](place)
    print(markdown(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
