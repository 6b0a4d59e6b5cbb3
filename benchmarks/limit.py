"""The sending side of the limit: so many a second go, and not more, whatever this project does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bare import Shelf, bare_seal
from benchmarks.plain_http import HTTPFailedError, Lines

CONTENT = os.urandom(2048)


@contextmanager
def bare_server(folder: Path) -> Iterator[str]:
    """The address of the bare receiving side."""
    listener = socket.socket()
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", str(listener.fileno()), str(folder / "receiving.db")],
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
        )
    finally:
        listener.close()
    try:
        yield url
    finally:
        process.terminate()
        process.wait(10)


async def measure_limit(url: str, shelf: Shelf, count: int, in_flight: int) -> float:
    """Payloads a second: sealed, committed here, posted, opened and committed there."""
    lines = Lines(url)
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            body = bare_seal(CONTENT)
            await shelf.keep(body)
            await lines.ask("POST", "/", body)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(in_flight)))  # connections, caches
        left = iter(range(count))
        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        took = time.perf_counter() - started
    lines.close()
    return count / took


__all__ = ["CONTENT", "HTTPFailedError", "Shelf", "bare_server", "measure_limit"]
