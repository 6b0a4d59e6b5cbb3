"""A peer that answers as it should not: a bare HTTP/1.1 server on a socket, in front of a real node.

Each request to `/federation/v1/envelopes` meets the misbehaviour of the moment; everything else, and everything once
there is none, is answered by the node behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

ENVELOPES = "/federation/v1/envelopes"

Forward = Callable[[], Awaitable[bytes]]
"""Asks the node behind and returns the body of its answer."""
Misbehaviour = Callable[[asyncio.StreamWriter, Forward], Awaitable[None]]


@dataclass(slots=True)
class MisbehavingPeer:
    """The server, and what it does next."""

    node: httpx2.AsyncBaseTransport
    base_url: str
    port: int = 0
    misbehaviour: Misbehaviour | None = None
    asked: int = 0
    """How many batches came."""
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self.connections.add(writer)
        try:
            while (request := await _read_request(reader)) is not None:
                method, path, headers, body = request
                forward = self._forward(method, path, headers, body)
                if path == ENVELOPES:
                    self.asked += 1
                    if self.misbehaviour is not None:
                        await self.misbehaviour(writer, forward)
                        await writer.drain()
                        break
                await self._pass_on(writer, method, path, headers, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Forward:
        async def forward() -> bytes:
            return (await self._ask(method, path, headers, body)).content

        return forward

    async def _pass_on(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        answer = await self._ask(method, path, headers, body)
        write_answer(writer, answer.status_code, answer.content, content_type=answer.headers["content-type"])
        await writer.drain()

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx2.Response:
        kept = {name: headers[name] for name in ("authorization", "content-type") if name in headers}
        async with httpx2.AsyncClient(transport=self.node) as http:
            return await http.request(method, self.base_url + path, content=body, headers=kept)


def write_answer(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    *,
    content_type: str = "application/json",
    length: int | None = None,
    more: str = "",
) -> None:
    """An answer as bytes; `length` is what it claims."""
    head = f"HTTP/1.1 {status} Any\r\ncontent-type: {content_type}\r\n{more}"
    writer.write(f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers = {}
    while (header := (await reader.readline()).decode().strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return method, path, headers, await reader.readexactly(int(headers.get("content-length", "0")))


@asynccontextmanager
async def misbehaving_peer(node: httpx2.AsyncBaseTransport, base_url: str) -> AsyncIterator[MisbehavingPeer]:
    """A peer in front of a node that is reached over `node` under `base_url`."""
    peer = MisbehavingPeer(node, base_url)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer in list(peer.connections):
            writer.close()
        await server.wait_closed()
