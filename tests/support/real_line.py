"""A node of a federation in this process, served over real HTTP, and clients that hang up whenever they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from support.federation import Federation, TestNode

from exchange.telemetry import UVICORN_OPTIONS

_READ_BYTES = 65536


@dataclass(slots=True)
class RealLine:
    """What was asked over it, and how it was answered."""

    port: int
    statuses: list[int] = field(default_factory=list)
    """Of every answer that the application began."""
    raised: list[str] = field(default_factory=list)
    """What came out of the application."""
    working: int = 0

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a whole request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body

    async def break_off(self, request: bytes, *, reads: int = 0) -> None:
        """Send this much, read so many bytes of the answer, and hang up without a word; returns when nobody works."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        await writer.drain()
        if reads:
            await reader.readexactly(reads)
        writer.transport.abort()
        await asyncio.sleep(0.02)
        await _until(lambda: not self.working)


async def _until(so: Callable[[], bool]) -> None:
    for _ in range(4000):
        if so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It did not come to that.")


@asynccontextmanager
async def real_line(together: Federation, node: TestNode) -> AsyncIterator[RealLine]:
    """Serve this node on a port of its own."""
    app: Any = together.network.apps[node.port].app
    # Named as TCP, as one is that a process inherits: asyncio sends at once on no other.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        line = RealLine(listener.getsockname()[1])

        async def heard(scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    line.statuses.append(message["status"])
                await send(message)

            line.working += 1
            try:
                await app(scope, receive, sent)
            except Exception as error:
                line.raised.append(type(error).__name__)
                raise
            finally:
                line.working -= 1

        server = uvicorn.Server(uvicorn.Config(heard, lifespan="off", **UVICORN_OPTIONS))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _until(lambda: server.started)
            yield line
        finally:
            server.should_exit = True
            await serving


def as_bytes(request: httpx2.Request, body: bytes) -> tuple[bytes, bytes]:
    """Head and body of a request that ends its connection, as they travel."""
    lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    lines += [
        f"{name}: {value}" for name, value in request.headers.items() if name not in ("connection", "accept-encoding")
    ]
    return ("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode(), body
