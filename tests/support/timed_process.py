"""Delivers envelopes and asks for news one after the other, from a process of its own, and says how long each took.

Usage: python -m support.timed_process, with one JSON object on the first line of standard input: `deliver` and `poll`,
an address and headers each; it answers "ready". Every other line is a folder of batches, and is answered with a line:
`deliver` and `poll`, milliseconds each, and `told`, how often each status came.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from exchange.federation.http_connections import HTTPConnections

PAUSE_S = 0.01
_ANSWER_BYTES = 1 << 20


async def timed(connections: HTTPConnections, ways: dict[str, Any], bodies: list[bytes]) -> dict[str, Any]:
    """Each batch once, and a poll after each."""
    took: dict[str, list[float]] = {"deliver": [], "poll": []}
    told: Counter[str] = Counter()
    for body in bodies:
        for name, method, sent in (("deliver", "POST", body), ("poll", "GET", b"")):
            url, headers = ways[name]
            begun = time.perf_counter()
            answer = await connections.ask(method, url, headers=headers, body=sent, most_bytes=_ANSWER_BYTES)
            took[name].append((time.perf_counter() - begun) * 1000)
            told[str(answer.status)] += 1
            await asyncio.sleep(PAUSE_S)
    return {**took, "told": told}


def _read(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


def say(answer: Any) -> None:
    """A line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Until standard input ends."""
    connections = HTTPConnections()
    ways = json.loads(sys.stdin.readline())
    say("ready")
    while folder := sys.stdin.readline().strip():
        say(await timed(connections, ways, _read(folder)))
    await connections.close()


if __name__ == "__main__":
    asyncio.run(main())
