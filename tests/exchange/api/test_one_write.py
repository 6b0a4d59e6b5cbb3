"""Head and body leave together, and nothing of an answer is lost or held for long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import uvicorn

from exchange.api.one_write import OneWrite
from exchange.telemetry import UVICORN_OPTIONS

BODY: Final = b"a body"
TEXT: Final = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
ASK: Final = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
PATIENCE_S: Final = 10


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(part: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": part, "more_body": more}


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a real server in front of this application."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", http=OneWrite, **UVICORN_OPTIONS))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


async def test_head_and_body_come_in_one_piece() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(*TEXT))
        await send(body(BODY))

    async with served(app) as (reader, writer):
        for _ in range(20):
            writer.write(ASK)
            piece = await reader.read(65536)
            assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
            assert piece.endswith(b"\r\n\r\n" + BODY)


async def test_a_head_does_not_wait_for_a_body_that_takes_time() -> None:
    told = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(*TEXT))
        await told.wait()
        await send(body(BODY))

    async with served(app) as (reader, writer):
        writer.write(ASK)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        told.set()
        assert await reader.readexactly(len(BODY)) == BODY


async def test_a_body_that_looks_like_a_head_comes_whole() -> None:
    parts = [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.1 100 Continue\r\n\r\n", b"the end"]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"%d" % len(b"".join(parts)))))
        for part in parts:
            await send(body(part, more=True))
        await send(body(b""))

    async with served(app) as (reader, writer):
        writer.write(ASK)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(b"".join(parts))) == b"".join(parts)


@pytest.mark.parametrize("chunked", [True, False], ids=["in chunks", "of a length"])
async def test_what_breaks_off_shows_how_far_it_came(*, chunked: bool) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(*([] if chunked else TEXT)))
        raise RuntimeError

    async with served(app) as (reader, writer):
        writer.write(ASK)
        assert (await reader.read()).endswith(b"\r\n\r\n")


async def test_who_asks_before_sending_a_body_is_told_to_go_on() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start(*TEXT))
        await send(body(BODY))

    async with served(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(BODY)).startswith(b"HTTP/1.1 200")
