"""A lean keep-alive HTTP/1.1 client: so little that what is measured is the server.

The SDK's client costs some milliseconds of its own for a referral, on the same two cores. This one speaks only to
servers that this benchmark started, reads answers with a Content-Length, and trusts them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

RESTS_S: Final = 3.0


class HTTPFailedError(Exception):
    """An answer that the measurement cannot go on with."""


class Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._body_from = 0
        self._end = 0
        self.answer_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._received += data
        if not self._end:
            split = self._received.find(b"\r\n\r\n")
            if split < 0:
                return
            head = bytes(self._received[:split]).lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            self._body_from = split + 4
            self._end = self._body_from + length
        if len(self._received) >= self._end and self._answer is not None:
            status = int(self._received[9:12])
            body = bytes(self._received[self._body_from : self._end])
            self.answer_bytes = self._end
            del self._received[: self._end]
            self._end = 0
            answer, self._answer = self._answer, None
            answer.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody may wait for ever."""
        del exc
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HTTPFailedError("connection lost"))
        self._transport = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        if self._transport is None:
            raise HTTPFailedError("connection lost")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    @property
    def open(self) -> bool:
        """Whether the server has not hung up."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Lines:
    """As many connections to one server as are used at the same time."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._idle: list[tuple[Line, float]] = []
        self.asked_bytes = 0
        self.answered_bytes = 0

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a good answer.

        Raises:
            HTTPFailedError: the answer is not good.
        """
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}:{self._port}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        line = self._rested() or await self._connect()
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        status, answer = await line.send(request)
        self.asked_bytes += len(request)
        self.answered_bytes += line.answer_bytes
        self._idle.append((line, time.monotonic()))
        if not 200 <= status < 300:
            raise HTTPFailedError(f"{method} {path} was answered {status}: {answer[:300]!r}")
        return answer

    def _rested(self) -> Line | None:
        """A connection that the server has not hung up on, as uvicorn does after five quiet seconds."""
        while self._idle:
            line, since = self._idle.pop()
            if line.open and time.monotonic() - since < RESTS_S:
                return line
            line.close()
        return None

    async def _connect(self) -> Line:
        _, line = await asyncio.get_running_loop().create_connection(Line, self._host, self._port)
        return line

    def close(self) -> None:
        """Hang up."""
        for line, _ in self._idle:
            line.close()
