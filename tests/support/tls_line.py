"""Nodes of a federation in this process behind real TLS, and what passes on the line to them, in bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from support.bare_server import certificate
from support.federation import Clock, Federation

from exchange.federation.http_connections import HTTPAnswer, HTTPConnections
from exchange.telemetry import UVICORN_OPTIONS

_READ_BYTES = 65536


class TLSLine:
    """`exchange.federation.http_connections.Network`, of one node, to others that are served here."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], relays: Mapping[int, int], carried: Counter[int]) -> None:
        self._connections = HTTPConnections(tls)
        self._relays = relays
        self._carried = carried
        self.asked: Counter[int] = Counter()
        """How often, by the port in the roster."""
        self.public: list[bool] = []
        """Of each question, whether it might have a short hello."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        most_bytes: int,
        public: bool = False,
        until: float | None = None,
    ) -> HTTPAnswer:
        """Ask once."""
        parts = urlsplit(url)
        assert parts.port is not None
        self.asked[parts.port] += 1
        self.public.append(public)
        there = parts._replace(scheme="https", netloc=f"localhost:{self._relays[parts.port]}").geturl()
        return await self._connections.ask(
            method, there, headers=headers, body=body, most_bytes=most_bytes, public=public, until=until
        )

    @property
    def carried(self) -> int:
        """Bytes that passed on all lines of this federation, both ways, TLS included."""
        return self._carried.total()

    async def close(self) -> None:
        """Hang up."""
        await self._connections.close()


class TLSLines:
    """Every node of a federation, served."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls
        self.relays: dict[int, int] = {}
        self.carried: Counter[int] = Counter()
        """By the port in the roster of the node that was asked."""

    def line(self) -> TLSLine:
        """A node's way to the others."""
        return TLSLine(self._tls, self.relays, self.carried)


@asynccontextmanager
async def tls_lines(together: Federation, folder: Path) -> AsyncIterator[TLSLines]:
    """Serve every node over TLS, each behind a relay that counts."""
    _, authority = certificate(folder, "localhost")
    lines = TLSLines(lambda: ssl.create_default_context(cafile=str(authority)))
    async with AsyncExitStack() as stack:
        for node in together.nodes.values():
            app: Any = together.network.apps[node.port].app
            behind = await stack.enter_async_context(_served(_dated(app, together.clock), folder))
            lines.relays[node.port] = await stack.enter_async_context(_relayed(behind, node.port, lines.carried))
        yield lines


def _dated(app: Any, clock: Clock) -> Any:
    """Answers have the federation's time: a peer that says another one than ours is not believed."""

    async def dated(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                date = (b"date", formatdate(clock() / 1000, usegmt=True).encode())
                message = {**message, "headers": [*message["headers"], date]}
            await send(message)

        await app(scope, receive, sent)

    return dated


@asynccontextmanager
async def _served(app: Any, folder: Path) -> AsyncIterator[int]:
    files = {"ssl_certfile": folder / "localhost.pem", "ssl_keyfile": folder / "localhost.key"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", date_header=False, **files, **UVICORN_OPTIONS))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def _relayed(behind: int, name: int, carried: Counter[int]) -> AsyncIterator[int]:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_READ_BYTES):
            carried[name] += len(data)
            writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer), return_exceptions=True)

    relay = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with relay:
        yield relay.sockets[0].getsockname()[1]
