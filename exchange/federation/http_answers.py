"""One HTTP/1.1 connection to another node, and how an answer is read on it. Framing is llhttp's (`httptools`).

Rules:

* An answer says where it ends, by its length or in chunks. One that ends with its connection may be cut, and is none.
* Headers and bodies are read up to a cap; what comes above it ends the connection.
* A second answer to one request, or whatever comes while nothing was asked, ends the connection too: it would be taken
  for the answer to the next.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import httptools

_HEAD_BYTES: Final = 64 * 1024
_HEADERS: Final = 200
_INFORMATIONAL: Final = range(100, 200)


class NoAnswerError(Exception):
    """There was no answer that can be used. Whatever was asked may or may not have arrived.

    Attributes:
        code: `no-connection`, `certificate-refused`, `bad-answer`, or `too-late` (nothing was asked); never a text of
            the other side's.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; what came several times, with commas between."""
    body: bytes


class Address(NamedTuple):
    """Where a connection goes."""

    secure: bool
    host: str
    port: int
    short: bool
    """Whether its hello was short: not for what must stay secret."""


class Session(NamedTuple):
    """What a new connection to the same address may go on from."""

    tls: ssl.SSLSession
    verified_at: float


class Connection(asyncio.Protocol):
    """One connection, and the answer that is being read on it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.since = 0.0
        self.verified_at = 0.0
        """When the certificates were verified: before this connection, where it resumes a session."""
        self._transport: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[HTTPAnswer] | None = None
        self._headers: dict[str, str] = {}
        self._header_count = 0
        self._body = bytearray()
        self._head_bytes = 0
        self._most_bytes = 0
        self._keep = True

    @property
    def reusable(self) -> bool:
        """Whether another request may go over it: never behind one that was answered without being read."""
        if not self._keep or self._transport is None or self._transport.is_closing():
            return False
        return self._transport.get_write_buffer_size() == 0

    def session(self) -> Session | None:
        """What the next connection may go on from; nothing in clear, or where the other side gives nothing out."""
        session = self._tls.session if self._tls is not None else None
        return Session(session, self.verified_at) if session is not None and session.has_ticket else None

    @property
    def resumes(self) -> bool:
        """Whether the other side went on from the session it was offered."""
        return self._tls is not None and bool(self._tls.session_reused)

    async def ask(self, request: bytes, most_bytes: int) -> HTTPAnswer:
        """The whole answer."""
        if self._transport is None:
            raise NoAnswerError("no-connection")
        self._most_bytes = most_bytes
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up at once, whatever is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and TLS, which still knows its session when the connection has ended."""
        self._transport = cast("asyncio.Transport", transport)
        self._tls = transport.get_extra_info("ssl_object")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody may wait for ever."""
        del exc
        self._transport = None
        self._fail("no-connection")

    def eof_received(self) -> None:
        """Whoever says nothing more has not answered, even if it still reads."""
        self._fail("no-connection")
        self.close()

    def data_received(self, data: bytes) -> None:
        """Read on; what nobody asked for ends the connection."""
        if self._answer is None or self._answer.done():
            self._keep = False
            self.close()
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("no-connection")
        if self._head_bytes - len(self._body) > _HEAD_BYTES and not self._answer.done():
            self._fail("bad-answer")

    def on_message_begin(self) -> None:
        """A second answer to one request is none."""
        if self._answer is None or self._answer.done():
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; joined with its namesakes."""
        self._header_count += 1
        if self._header_count > _HEADERS:
            self._fail("bad-answer")
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._parser.get_status_code() in _INFORMATIONAL:
            return
        self._body += body
        if len(self._body) > self._most_bytes:
            self._fail("bad-answer")

    def on_message_complete(self) -> None:
        """The whole answer is there, unless it only says that one will come."""
        status, headers, body = self._parser.get_status_code(), self._headers, bytes(self._body)
        self._headers, self._header_count, self._body = {}, 0, bytearray()
        if status in _INFORMATIONAL:
            return
        self._keep = self._keep and self._parser.should_keep_alive()
        self._head_bytes = 0
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(HTTPAnswer(status, headers, body))
        else:
            self._keep = False

    def _fail(self, code: str) -> None:
        self._keep = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswerError(code))
