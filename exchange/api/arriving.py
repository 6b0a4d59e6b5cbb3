"""How long a body may take, and what becomes of one that nobody reads. ASGI, around everything else.

Rules:

* A body has as long as a courier gives the whole request (`exchange.use_cases.line`): whoever is slower has given up.
  Then the request is 408 and its connection closed.
* An answer that is ready before the body was read closes the connection too. What still comes is thrown away first, as
  long as the body may take: a caller that sends before it listens still hears the answer.
* So no connection keeps what nobody will read, and none is held by a body for longer than that.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exchange.api.refused import RefusedRequestError
from exchange.limits import LIMITS
from exchange.use_cases.line import exchange_s

_LENGTH = re.compile(rb"[0-9]{1,9}")


class InTime:
    """ASGI middleware: bodies arrive in time or not at all."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one without a body as it is."""
        size = _size(scope) if scope["type"] == "http" else 0
        if size == 0:
            await self.app(scope, receive, send)
        else:
            body = _Arriving(receive, send, asyncio.get_running_loop().time() + exchange_s(size))
            await self.app(scope, body.receive, body.send)


def _size(scope: Scope) -> int:
    """How large the body says it is; the largest there is where it does not."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return LIMITS.batch_bytes
    length = headers.get(b"content-length", b"0")
    return int(length) if _LENGTH.fullmatch(length) is not None else LIMITS.batch_bytes


class _Arriving:
    """One request whose body has not come whole yet."""

    def __init__(self, receive: Receive, send: Send, until: float) -> None:
        self._receive = receive
        self._send = send
        self._until = until
        self._ended = False
        """The body is here, or will never be."""

    async def receive(self) -> Message:
        """What comes next.

        Raises:
            RefusedRequestError: the time of the body is over.
        """
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise RefusedRequestError("body-too-slow") from None
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on; before its end, take what is left of the body off the line."""
        if self._ended:
            await self._send(message)
        elif message["type"] == "http.response.start":
            await self._send({**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            with suppress(RefusedRequestError):
                while not self._ended:
                    await self.receive()
            await self._send({"type": "http.response.body", "body": b""})
