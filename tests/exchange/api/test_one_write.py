"""Head and body leave together, nothing of an answer is lost or held for long, and no body is read as a request."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
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


class Heard:
    """An application that answers everything at once, and keeps what it was asked."""

    def __init__(self, *, waits: bool = False) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        if not waits:
            self.may_answer.set()

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        self.headers.append(dict(scope["headers"]))
        self.began.set()
        await self.may_answer.wait()
        await send(start(*TEXT))
        await send(body(BODY))


INNER: Final = b"POST /release HTTP/1.1\r\nhost: here\r\n\r\n"
JSON: Final = b'{"seconds":30}'
POST: Final = b"POST / HTTP/1.1\r\nhost: here\r\n"
CHUNKED: Final = POST + b"transfer-encoding: chunked\r\n"


def of(length: int) -> bytes:
    return b"content-length: %d\r\n\r\n" % length


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that still comes. The server reads nothing behind a refusal, so the line may break instead of ending."""
    came = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            came += piece
    return came


UPGRADES: Final = [
    pytest.param(b"POST / HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: h2c\r\n", id="h2c"),
    pytest.param(
        b"POST / HTTP/1.1\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
        id="h2c as Java offers it",
    ),
    pytest.param(b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n", id="websocket"),
    pytest.param(b"POST / HTTP/1.1\r\nconnection: a, upgrade\r\nupgrade: any\r\n", id="any"),
    pytest.param(b"POST / HTTP/1.1\r\nproxy-connection: upgrade\r\nupgrade: any\r\n", id="by Proxy-Connection"),
    pytest.param(b"POST / HTTP/1.0\r\nconnection: keep-alive, upgrade\r\nupgrade: any\r\n", id="HTTP/1.0"),
    pytest.param(b"CONNECT here:80 HTTP/1.1\r\n", id="CONNECT"),
]


@pytest.mark.parametrize("content", [INNER, JSON], ids=["a request as body", "JSON as body"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "in one write"])
@pytest.mark.parametrize("head", UPGRADES)
async def test_another_protocol_is_refused_with_its_body(head: bytes, content: bytes, *, apart: bool) -> None:
    app = Heard()
    async with served(app) as (reader, writer):
        writer.write(head + of(len(content)) + (b"" if apart else content))
        said = await to_the_end(reader)
        writer.write(content + ASK)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["code"] == "unreadable-request"
    assert app.asked == []


async def test_a_refusal_is_a_problem_document_and_repeats_nothing() -> None:
    async with served(Heard()) as (reader, writer):
        writer.write(b"POST /canary HTTP/1.1\r\nhost: canary\r\nconnection: upgrade\r\nupgrade: canary\r\n\r\n")
        head, _, document = (await reader.read()).partition(b"\r\n\r\n")
    said = {
        b"content-length: %d" % len(document),
        b"content-type: application/problem+json",
        b"cache-control: no-store",
    }
    assert said <= set(head.split(b"\r\n"))
    assert (json.loads(document)["code"], json.loads(document)["status"]) == ("unreadable-request", 400)
    assert b"canary" not in head + document


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"connection: upgrade\r\n", id="Connection alone"),
        pytest.param(b"upgrade: h2c\r\n", id="Upgrade alone"),
        pytest.param(b"connection: upgrade\r\nupgrade: \r\n", id="an empty Upgrade"),
    ],
)
async def test_what_is_no_upgrade_ends_where_its_length_says(head: bytes) -> None:
    app = Heard()
    async with served(app) as (reader, writer):
        writer.write(POST + head + of(len(INNER)))
        await reader.readuntil(BODY)
        writer.write(INNER)
        writer.write(b"GET /next HTTP/1.1\r\nhost: here\r\n\r\n")
        assert (await reader.readuntil(BODY)).startswith(b"HTTP/1.1 200")
    assert app.asked == ["POST /", "GET /next"]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n", id="two ways to end"),
        pytest.param(POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="the other way"),
        pytest.param(POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}", id="a length twice"),
        pytest.param(POST + b"content-length: 2, 2\r\n\r\n{}", id="two lengths"),
        pytest.param(POST + b"content-length: +2\r\n\r\n{}", id="a sign"),
        pytest.param(POST + b"content-length : 2\r\n\r\n{}", id="a space before the colon"),
        pytest.param(POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="not chunked last"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n , identity\r\n\r\n0\r\n\r\n", id="a folded coding"),
        pytest.param(POST + b"a: b\r\n content-length: 2\r\n\r\n{}", id="a folded line"),
        pytest.param(POST + b"a: b\ncontent-length: 2\r\n\r\n{}", id="LF alone"),
        pytest.param(POST + b"a: b\rcontent-length: 2\r\n\r\n{}", id="CR alone"),
        pytest.param(POST + b"content-length: 2\r\n\n{}", id="a head that ends with LF"),
        pytest.param(CHUNKED + b"\r\n2\n{}\r\n0\r\n\r\n", id="a chunk's size that ends with LF"),
        pytest.param(CHUNKED + b"\r\n0\r\ncontent-length: 5\r\n\r\n", id="a length behind the body"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 without asking"),
    ],
)
async def test_what_has_two_readings_has_none(request_: bytes) -> None:
    app = Heard(waits=True)
    async with served(app) as (reader, writer):
        writer.write(request_ + INNER)
        said = await to_the_end(reader)
        app.may_answer.set()
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"HTTP/1.1 200" not in said
    assert "POST /release" not in app.asked


async def test_who_waits_for_an_answer_does_not_get_the_refusal_of_what_came_after_it() -> None:
    app = Heard(waits=True)
    async with served(app) as (reader, writer):
        writer.write(ASK)
        await app.began.wait()
        writer.write(POST + b"connection: upgrade\r\nupgrade: any\r\n" + of(len(INNER)) + INNER)
        assert await to_the_end(reader) == b""
        app.may_answer.set()
    assert app.asked == ["GET /"]


async def test_a_body_that_breaks_after_its_answer_gets_no_second_one() -> None:
    async with served(Heard()) as (reader, writer):
        writer.write(CHUNKED + b"\r\n")
        await reader.readuntil(BODY)
        writer.write(b"no size\r\n")
        assert await to_the_end(reader) == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_after_the_last_request_nothing_is_read(version: bytes) -> None:
    """One connection's last request, by HTTP/1.0 or by what it says itself."""
    app = Heard()
    close = b"keep-alive" if version == b"1.0" else b"close"
    async with served(app) as (reader, writer):
        writer.write(b"GET / HTTP/%b\r\nconnection: %b\r\n\r\n" % (version, close) + INNER)
        assert (await to_the_end(reader)).count(b"HTTP/1.1 200") == 1
    assert app.asked == ["GET /"]


async def test_who_was_not_told_to_go_on_is_not_waited_for() -> None:
    """It may leave out the body: what comes next would be read as that."""
    async with served(Heard()) as (reader, writer):
        writer.write(POST + b"expect: 100-continue\r\n" + of(len(INNER)))
        said = await reader.read()
    assert said.startswith(b"HTTP/1.1 200")
    assert b"connection: close\r\n" in said


async def test_what_stands_behind_a_body_is_no_header() -> None:
    app = Heard()
    async with served(app) as (reader, writer):
        writer.write(CHUNKED + b"\r\n0\r\nauthorization: Bearer one\r\nx-forwarded-for: 192.0.2.1\r\n\r\n")
        await reader.readuntil(BODY)
    assert app.headers == [{b"host": b"here", b"transfer-encoding": b"chunked"}]


@pytest.mark.parametrize("trailer", [b"connection: close", b"proxy-connection: close"])
@pytest.mark.parametrize("early", [False, True], ids=["answered-behind-it", "answered-before-it"])
async def test_a_trailer_that_ends_the_connection_ends_it(trailer: bytes, *, early: bool) -> None:
    """llhttp reads nothing behind it: a proxy's next request on this connection would wait for its answer for ever."""
    app = Heard()
    async with served(app) as (reader, writer):
        writer.write(CHUNKED + b"\r\n")
        if early:
            await reader.readuntil(BODY)
        writer.write(b"0\r\n" + trailer + b"\r\n\r\n" + ASK)
        assert (await to_the_end(reader)).count(b"HTTP/1.1 200") == (0 if early else 1)
    assert app.asked == ["POST /"]


async def test_a_trailer_begins_no_other_protocol() -> None:
    app = Heard()
    async with served(app) as (reader, writer):
        writer.write(CHUNKED + b"\r\n0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + ASK)
        for _ in range(2):
            assert (await reader.readuntil(BODY)).startswith(b"HTTP/1.1 200")
    assert app.asked == ["POST /", "GET /"]
