"""HTTP to other nodes, over real sockets: what is an answer, what is none, and which connection is used again."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop
from support.bare_server import CLOSE, bare_server, certificate

from exchange.elapsed import elapsed_s
from exchange.federation import http_connections
from exchange.federation.http_answers import Address, Connection
from exchange.federation.http_connections import HTTPAnswer, HTTPConnections, NoAnswerError

MOST = 1000
GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def connections() -> AsyncIterator[HTTPConnections]:
    made = HTTPConnections()
    yield made
    await made.close()


async def ask(connections: HTTPConnections, url: str, body: bytes = b"{}", *, public: bool = False) -> HTTPAnswer:
    return await connections.ask("POST", url + "/p", headers={"x": "1"}, body=body, most_bytes=MOST, public=public)


ANSWERS = [
    pytest.param(GOOD, 200, b"{}", id="length"),
    pytest.param(CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", id="chunks"),
    pytest.param(
        CHUNKED + b"2;note=any\r\n{}\r\n0\r\ntrailer: any\r\n\r\n", 200, b"{}", id="chunk extension and trailer"
    ),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, 200, b"{}", id="100 before it"),
    pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n" + GOOD, 200, b"{}", id="103 before it"),
    pytest.param(b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n', 304, b"", id="304 without a length"),
    pytest.param(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", 503, b"", id="empty"),
    pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}" + CLOSE, 200, b"{}", id="1.0 with a length"),
    pytest.param(
        GOOD.replace(b": 2\r\n\r\n{}", b": 1000\r\n\r\n" + b"a" * MOST), 200, b"a" * MOST, id="as much as may be"
    ),
]


@pytest.mark.parametrize(("answer", "status", "body"), ANSWERS)
async def test_an_answer_is_read_whole(connections: HTTPConnections, answer: bytes, status: int, body: bytes) -> None:
    async with bare_server([answer]) as server:
        found = await ask(connections, server.url)
    assert (found.status, found.body) == (status, body)


async def test_an_answer_may_come_byte_by_byte(connections: HTTPConnections) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        for place in range(len(GOOD)):
            writer.write(GOOD[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found = await ask(connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (found.body, found.headers["content-type"]) == (b"{}", "application/json")


async def test_a_long_answer_is_read_whole(connections: HTTPConnections) -> None:
    """What is bounded apart are the headers, and whatever else is no body."""
    body = b"a" * 300_000
    async with bare_server([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)]) as server:
        answer = await connections.ask("GET", server.url, headers={}, body=b"", most_bytes=len(body))
        assert answer.body == body


@pytest.mark.parametrize(
    ("asked", "target"), [("", b"/"), ("/p", b"/p"), ("/p?a=b", b"/p?a=b"), ("?a=b", b"/?a=b"), ("/p#f", b"/p")]
)
async def test_path_and_query_are_asked_for(connections: HTTPConnections, asked: str, target: bytes) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(GOOD)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{asked}"
        await connections.ask("GET", url, headers={}, body=b"", most_bytes=MOST)
        await connections.close()
    assert heard == [b"GET " + target + b" HTTP/1.1\r\n"]


async def test_headers_of_one_name_are_joined(connections: HTTPConnections) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n"
    async with bare_server([answer]) as server:
        found = await ask(connections, server.url)
    assert found.headers["content-encoding"] == "identity, gzip"


async def test_what_is_packed_stays_packed(connections: HTTPConnections) -> None:
    packed = gzip.compress(b"{}" * 10_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with bare_server([head + packed]) as server:
        assert (await ask(connections, server.url)).body == packed


NONE = [
    pytest.param(CLOSE, "no-connection", id="hangs up"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le" + CLOSE, "no-connection", id="cut in the head"),
    pytest.param(GOOD[:-1] + CLOSE, "no-connection", id="cut in the body"),
    pytest.param(CHUNKED + b"2\r\n{}\r\n" + CLOSE, "no-connection", id="cut before the last chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}" + CLOSE, "no-connection", id="ends with its connection"),
    pytest.param(b"<html>Sign in</html>\r\n\r\n", "no-connection", id="no HTTP"),
    pytest.param(b"\x16\x03\x03\x00\x7a\x02", "no-connection", id="TLS"),
    pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "no-connection", id="HTTP 2"),
    pytest.param(GOOD.replace(b": 2", b": 2\r\ncontent-length: 3"), "no-connection", id="two lengths"),
    pytest.param(GOOD.replace(b": 2", b": -2"), "no-connection", id="a negative length"),
    pytest.param(GOOD.replace(b": 2", b": 0x2"), "no-connection", id="a length that is no number"),
    pytest.param(
        CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\n") + b"2\r\n{}\r\n0\r\n\r\n",
        "no-connection",
        id="length and chunks",
    ),
    pytest.param(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", "no-connection", id="a chunk of no size"),
    pytest.param(
        b"HTTP/1.1 101 Switching\r\nupgrade: any\r\nconnection: upgrade\r\n\r\n", "no-connection", id="another protocol"
    ),
    pytest.param(GOOD.replace(b": 2", b": 1001") + b"a" * MOST, "bad-answer", id="more than may be"),
    pytest.param(CHUNKED + b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n", "bad-answer", id="more than may be, in chunks"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "bad-answer", id="headers without end"),
    pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 201 + b"\r\n", "bad-answer", id="many small headers"),
    pytest.param(b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000, "bad-answer", id="a header without end"),
    pytest.param(CHUNKED + b"1;" + b"a" * 100_000, "bad-answer", id="a chunk extension without end"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "bad-answer", id="on and on"),
]


@pytest.mark.parametrize(("answer", "code"), NONE)
async def test_what_is_no_answer_ends_the_connection(connections: HTTPConnections, answer: bytes, code: str) -> None:
    async with bare_server([answer, GOOD]) as server:
        with pytest.raises(NoAnswerError) as refused:
            await asyncio.wait_for(ask(connections, server.url), 10)
        assert (refused.value.code, str(refused.value)) == (code, code)
        # The next request meets nothing of it.
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.connections == 2


async def test_nobody_listening_is_no_connection(connections: HTTPConnections) -> None:
    async with bare_server([]) as server:
        gone = server.url
    with pytest.raises(NoAnswerError, match="no-connection"):
        await ask(connections, gone)


async def test_a_name_that_nobody_has_is_no_connection(connections: HTTPConnections) -> None:
    with pytest.raises(NoAnswerError, match="no-connection"):
        await ask(connections, "http://nobody.invalid:1")


async def test_what_ended_before_it_was_asked_is_no_connection() -> None:
    connection = Connection(Address(secure=False, host="localhost", port=1, short=False))
    with pytest.raises(NoAnswerError, match="no-connection"):
        await asyncio.wait_for(connection.ask(b"GET / HTTP/1.1\r\n\r\n", MOST), 10)


async def test_one_connection_serves_request_after_request(connections: HTTPConnections) -> None:
    async with bare_server([GOOD] * 3) as server:
        for _ in range(3):
            await ask(connections, server.url)
        assert server.connections == 1
        assert server.asked[0] == (
            b"POST /p HTTP/1.1\r\nhost: %b\r\nx: 1\r\ncontent-length: 2\r\n\r\n{}" % server.url[7:].encode()
        )


async def test_what_holds_for_a_moment_is_not_said_later(connections: HTTPConnections) -> None:
    async with bare_server([GOOD]) as server:
        with pytest.raises(NoAnswerError) as late:
            await connections.ask("POST", server.url, headers={}, body=b"{}", most_bytes=MOST, until=elapsed_s())
        assert late.value.code == "too-late"
        assert server.asked == []
        # The way is there now, and what is said in time goes over it.
        until = elapsed_s() + 60
        answer = await connections.ask("POST", server.url, headers={}, body=b"{}", most_bytes=MOST, until=until)
        assert (answer.status, server.connections) == (200, 1)


async def test_requests_at_the_same_time_have_a_connection_each(connections: HTTPConnections) -> None:
    async with bare_server([GOOD] * 4) as server:
        await asyncio.gather(*(ask(connections, server.url) for _ in range(2)))
        await asyncio.gather(*(ask(connections, server.url) for _ in range(2)))
        assert server.connections == 2


NOT_AGAIN = [
    pytest.param(GOOD.replace(b"content-type", b"connection: close\r\ncontent-type"), id="the peer closes"),
    pytest.param(GOOD + CLOSE, id="the peer has closed"),
    pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", id="1.0"),
    pytest.param(GOOD + GOOD, id="a second answer came with it"),
    pytest.param(GOOD + GOOD[:20], id="a piece of another came with it"),
    pytest.param(GOOD + b"<html>", id="something else came with it"),
]


@pytest.mark.parametrize("first", NOT_AGAIN)
async def test_a_connection_is_not_used_again(connections: HTTPConnections, first: bytes) -> None:
    async with bare_server([first, GOOD]) as server:
        assert (await ask(connections, server.url)).body == b"{}"
        await asyncio.sleep(0.05)
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.connections == 2


async def test_what_nobody_asked_for_ends_a_resting_connection(connections: HTTPConnections) -> None:
    async with bare_server([GOOD, GOOD]) as server:
        await ask(connections, server.url)
        (writer,) = server.open
        writer.write(GOOD.replace(b"{}", b"[]"))
        await writer.drain()
        await asyncio.sleep(0.05)
        # A forged answer that waits there already is not taken for that of the next request.
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.connections == 2


async def test_a_connection_that_rested_for_long_is_not_used_again(
    connections: HTTPConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_server([GOOD, GOOD]) as server:
        await ask(connections, server.url)
        later = elapsed_s() + 31
        monkeypatch.setattr(http_connections, "elapsed_s", lambda: later)
        await ask(connections, server.url)
        assert server.connections == 2


async def test_a_connection_is_not_used_behind_a_request_that_was_not_read(connections: HTTPConnections) -> None:
    """Or a peer that answers without reading could fill this process's memory."""
    taken, over = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        taken += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GOOD)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in range(3):
            assert (await ask(connections, url, b"a" * 32 * 1024 * 1024)).body == b"{}"
        assert taken == 3
        assert connections._resting == {}
        over.set()
        await asyncio.sleep(0.01)


async def test_a_peer_that_says_nothing_more_has_not_answered(connections: HTTPConnections) -> None:
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(NoAnswerError, match="no-connection"):
            await asyncio.wait_for(
                ask(connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", b"a" * 32 * 1024 * 1024), 5
            )
        over.set()
        await asyncio.sleep(0.01)


async def test_who_gives_up_waiting_ends_the_connection(connections: HTTPConnections) -> None:
    async with bare_server([b"", GOOD]) as server:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(connections, server.url), 0.2)
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.connections == 2


@pytest.mark.parametrize("value", ["a\r\nx-forged: 1", "a\nb", "a\x00b", "é", "a\x7f"], ids=repr)
async def test_a_header_that_would_be_another_is_not_sent(connections: HTTPConnections, value: str) -> None:
    async with bare_server([GOOD]) as server:
        with pytest.raises(ValueError, match="not a header") as refused:
            await connections.ask("GET", server.url, headers={"a": value}, body=b"", most_bytes=MOST)
        assert value not in str(refused.value)
        assert server.connections == 0


async def test_tls_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([GOOD, GOOD], tls=serving) as server:
        assert (await ask(connections, server.url)).body == b"{}"
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.connections == 1
    await connections.close()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        pytest.param("localhost", False, id="of nobody known"),
        pytest.param("another.example", True, id="of another host"),
    ],
)
async def test_tls_with_a_certificate_that_is_not(tmp_path: Path, host: str, known: bool) -> None:
    serving, authority = certificate(tmp_path, host)
    connections = HTTPConnections((lambda: ssl.create_default_context(cafile=str(authority))) if known else None)
    async with bare_server([GOOD], tls=serving) as server:
        with pytest.raises(NoAnswerError, match="certificate-refused"):
            await ask(connections, server.url)
        assert server.asked == []
    await connections.close()


async def test_tls_is_never_asked_for_in_clear(connections: HTTPConnections) -> None:
    async with bare_server([GOOD]) as server:
        with pytest.raises((NoAnswerError, TimeoutError)):
            await asyncio.wait_for(ask(connections, server.url.replace("http:", "https:")), 0.5)
        assert server.asked == []


LAST = GOOD + CLOSE


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_new_connection_resumes_the_session_of_the_one_before(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def go() -> list[bool]:
        serving, authority = certificate(tmp_path, "localhost")
        connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
        async with bare_server([LAST] * 3, tls=serving) as server:
            for _ in range(3):
                assert (await ask(connections, server.url)).body == b"{}"
            await connections.close()
            return server.resumed

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(go()) == [False, True, True]


async def test_after_a_week_certificates_are_verified_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST] * 4, tls=serving) as server:
        # Whole seconds: a week later is a week later, to the bit.
        now = [float(round(elapsed_s()))]
        monkeypatch.setattr(http_connections, "elapsed_s", lambda: now[0])
        # Resumed twice, it is as old as its first connection.
        for days in (4, 3, 0, 0):
            await ask(connections, server.url)
            now[0] += days * 86_400
        assert server.resumed == [False, True, False, True]
    await connections.close()


async def test_a_session_leads_to_nobody_else_at_the_same_address(tmp_path: Path) -> None:
    """Whoever is there now does not have the keys of the session, and has to show certificates."""
    serving, authority = certificate(tmp_path, "localhost")
    other, _ = certificate(tmp_path, "another.example")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST], tls=serving) as server:
        await ask(connections, server.url)
        port = int(server.url.rpartition(":")[2])
    async with bare_server([GOOD], tls=other, port=port) as server:
        with pytest.raises(NoAnswerError, match="certificate-refused"):
            await ask(connections, server.url)
        assert server.asked == []
    async with bare_server([GOOD], tls=serving, port=port) as server:
        assert (await ask(connections, server.url)).body == b"{}"
        assert server.resumed == [False]
    await connections.close()


async def test_a_session_is_not_used_at_another_address(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST], tls=serving) as one, bare_server([LAST], tls=serving) as other:
        await ask(connections, one.url)
        await ask(connections, other.url)
        assert other.resumed == [False]
    await connections.close()


async def test_a_session_that_led_to_no_answer_is_not_tried_again(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST, CLOSE, LAST], tls=serving) as server:
        await ask(connections, server.url)
        with pytest.raises(NoAnswerError):
            await ask(connections, server.url)
        await ask(connections, server.url)
        assert server.resumed == [False, True, False]
    await connections.close()


@pytest.fixture
def _long_hellos(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with OpenSSL 3.5 and newer."""
    monkeypatch.setattr(http_connections, "_LONG_HELLOS", True)


async def test_where_no_hello_is_long_a_connection_is_for_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "_LONG_HELLOS", False)
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([GOOD] * 2, tls=serving) as server:
        await ask(connections, server.url, public=True)
        await ask(connections, server.url)
        assert server.connections == 1
    await connections.close()


@pytest.mark.usefixtures("_long_hellos")
async def test_what_is_secret_never_passes_where_the_hello_was_short(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([GOOD] * 4, tls=serving) as server:
        await ask(connections, server.url, public=True)
        await ask(connections, server.url, public=True)
        assert server.connections == 1
        await ask(connections, server.url)
        assert server.connections == 2
        await ask(connections, server.url, public=True)
        assert server.connections == 2
        assert server.resumed == [False, False]
    await connections.close()


@pytest.mark.usefixtures("_long_hellos")
async def test_a_session_that_began_shortly_leads_to_short_ones_only(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST] * 4, tls=serving) as server:
        for public in (True, True, False, False):
            await ask(connections, server.url, public=public)
        assert server.resumed == [False, True, False, True]
    await connections.close()


@pytest.mark.usefixtures("_long_hellos")
async def test_a_server_without_the_group_of_a_short_hello_gets_a_long_one(tmp_path: Path) -> None:
    serving, authority = certificate(tmp_path, "localhost")
    serving.set_ecdh_curve("secp384r1")
    connections = HTTPConnections(lambda: ssl.create_default_context(cafile=str(authority)))
    async with bare_server([LAST, GOOD, GOOD], tls=serving) as server:
        assert (await ask(connections, server.url, public=True)).body == b"{}"
        assert (await ask(connections, server.url, public=True)).body == b"{}"
        assert server.connections == 2
        # Its hello was long, so everything may pass there.
        await ask(connections, server.url)
        assert server.connections == 2
    await connections.close()


@pytest.mark.usefixtures("_long_hellos")
async def test_a_certificate_that_is_not_trusted_is_looked_at_once(tmp_path: Path) -> None:
    serving, _ = certificate(tmp_path, "localhost")
    hellos: list[str | None] = []
    serving.sni_callback = lambda _tls, name, _context: hellos.append(name)
    connections = HTTPConnections()
    async with bare_server([GOOD], tls=serving) as server:
        with pytest.raises(NoAnswerError, match="certificate-refused"):
            await ask(connections, server.url, public=True)
    await connections.close()
    assert hellos == ["localhost"]


@pytest.mark.usefixtures("_long_hellos")
@pytest.mark.parametrize("public", [True, False], ids=["public", "secret"])
async def test_a_short_hello_offers_one_key_agreement(connections: HTTPConnections, public: bool) -> None:
    hellos: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await record(reader))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    async with server:
        with pytest.raises(NoAnswerError):
            await ask(connections, f"https://localhost:{server.sockets[0].getsockname()[1]}", public=public)
    groups = supported_groups(hellos[0])
    assert groups == [SECP256R1] if public else len(groups) > 1
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        assert (X25519MLKEM768 in groups) is not public


SECP256R1, X25519MLKEM768 = 0x17, 0x11EC
SUPPORTED_GROUPS = 10


async def record(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return await reader.readexactly(int.from_bytes(head[3:]))


def supported_groups(hello: bytes) -> list[int]:
    """The ids in a ClientHello, in order (RFC 8446, 4.1.2 and 4.2.7)."""
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    at += 1 + hello[at]
    at += 2
    while at < len(hello):
        kind, length = int.from_bytes(hello[at : at + 2]), int.from_bytes(hello[at + 2 : at + 4])
        if kind == SUPPORTED_GROUPS:
            listed = hello[at + 6 : at + 4 + length]
            return [int.from_bytes(listed[one : one + 2]) for one in range(0, len(listed), 2)]
        at += 4 + length
    return []
