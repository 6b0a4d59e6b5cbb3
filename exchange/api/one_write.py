"""One connection: where a request ends is certain, and head and body of its answer leave in one write.

uvicorn makes two writes, and whoever waits is woken twice. And it goes on where llhttp and a proxy before the node
differ about the end of a request: what one caller sent as a body would be the beginning of the next caller's request.

Rules:

* A request that llhttp takes for the beginning of another protocol (Upgrade, CONNECT) has no end that both agree on: it
  is refused with 400 before anything of it is done, and the connection is closed. So is whatever llhttp cannot read:
  two lengths, folded lines, lines without CR.
* Of several requests on one connection a refusal is never taken for another's answer: where one is due, or was given
  before its body ended, the connection is closed without a word.
* What asks whether to go on (Expect) may leave its body out once it is answered: its connection ends with the answer.
* What stands behind a body in chunks is no header: a proxy has not looked at it. But llhttp takes from there that it is
  to read nothing more, so the connection ends then.
* A head is held until the next write, and no longer than to the next turn of the event loop: an answer whose body takes
  time shows that it has begun.
* Whatever ends the connection sends first what was held. Order and bytes are uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from exchange.api.codes import ENTRIES
from exchange.api.problems import problem

_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100 "


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol over `_Together`, for requests whose end is certain."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection."""
        super().connection_made(_Together(transport, self.loop))  # type: ignore[arg-type]

    def on_headers_complete(self) -> None:
        """Begin with a request.

        Raises:
            _AnotherProtocolError: llhttp ends it with its head, whatever it says about a body.
        """
        if self.parser.should_upgrade():
            raise _AnotherProtocolError
        super().on_headers_complete()
        self.headers = []  # of the request is what came until now
        if self.expect_100_continue:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """End with a request, and with the connection where llhttp reads nothing behind it."""
        if not self.parser.should_keep_alive():
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words; ours stand in the catalogue
        """Refuse what cannot be read, and close."""
        if self._answers_nothing_else():
            more = {"Connection": "close", "Cache-Control": "no-store"}
            answer = problem(ENTRIES["unreadable-request"], headers=more)
            headers = (*self.server_state.default_headers, *answer.raw_headers)
            head = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _answers_nothing_else(self) -> bool:
        """Whether what is written now is read as the answer to what was read last."""
        cycle: Any = self.cycle  # None before the first request; uvicorn's types do not say so
        if cycle is None or self.pipeline:
            return cycle is None
        return bool(not cycle.response_started if cycle.more_body else cycle.response_complete)


class _AnotherProtocolError(Exception):
    """A request begins another protocol. httptools makes a parser's fault of it, which uvicorn answers with 400."""


class _Together:
    """A transport that joins a head with what follows it; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold what is a head. A body that looks like one is late by a turn of the loop, and no more."""
        if self._held:
            data, self._held = self._held + data, b""
            self._transport.write(data)
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._held = data
            self._loop.call_soon(self._let_go)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and end."""
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            self._transport.write(data)
