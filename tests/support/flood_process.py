"""Posts the same batches over and over, from a process of its own, until its standard input ends; then says what came.

Usage: python -m support.flood_process URL FOLDER, with the token on the first line of standard input. It says "ready"
on a line, and begins.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from exchange.federation.http_connections import HTTPConnections, NoAnswerError

AT_ONCE = 4


async def flood(url: str, bodies: list[bytes], token: str) -> Counter[str]:
    """Status codes, those that say when to come back apart, and how often each came."""
    told: Counter[str] = Counter()
    connections = HTTPConnections()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def post(mine: list[bytes]) -> None:
        while True:
            for body in mine:
                if over.done():
                    return
                try:
                    answer = await connections.ask("POST", url, headers=headers, body=body, most_bytes=1 << 20)
                    told[str(answer.status) + " with retry-after" * ("retry-after" in answer.headers)] += 1
                except NoAnswerError:
                    told["none"] += 1

    await asyncio.gather(*(post(bodies[start::AT_ONCE]) for start in range(AT_ONCE)))
    await connections.close()
    return told


if __name__ == "__main__":
    read = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
    token = sys.stdin.readline().strip()
    sys.stdout.write('"ready"\n')
    sys.stdout.flush()
    sys.stdout.write(json.dumps(asyncio.run(flood(sys.argv[1], read, token))))
