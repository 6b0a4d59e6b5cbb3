"""The port to other nodes over an httpx transport: applications in memory, or answers that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2

from exchange.elapsed import elapsed_s
from exchange.federation.http_connections import HTTPAnswer, HTTPConnections, NoAnswerError

MOST_BYTES = 16 * 1024 * 1024
"""More than the courier reads, so that its own cap is the one that counts."""


class OverTransport:
    """`exchange.federation.http_connections.Network` over a transport that the test keeps."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

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
        del public
        if until is not None and elapsed_s() >= until:
            raise NoAnswerError("too-late")
        request = httpx2.Request(method, url, headers=dict(headers), content=body)
        found = bytearray()
        try:
            response = await self._transport.handle_async_request(request)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            async for chunk in response.stream:
                found += chunk
                if len(found) > most_bytes:
                    raise NoAnswerError("bad-answer")
        except httpx2.TimeoutException:
            raise TimeoutError from None
        except httpx2.RequestError:
            raise NoAnswerError("no-connection") from None
        return HTTPAnswer(response.status_code, dict(response.headers), bytes(found))

    async def close(self) -> None:
        """Nothing: the transport is the test's."""


class OverSockets(httpx2.AsyncBaseTransport):
    """The product's own way over sockets, for tests that send on what reaches them in memory."""

    def __init__(self) -> None:
        self._connections = HTTPConnections()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Ask over a socket."""
        kept = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        try:
            answer = await self._connections.ask(
                request.method, str(request.url), headers=kept, body=await request.aread(), most_bytes=MOST_BYTES
            )
        except NoAnswerError as error:
            raise httpx2.RemoteProtocolError(error.code) from None
        return httpx2.Response(answer.status, headers=dict(answer.headers), stream=httpx2.ByteStream(answer.body))

    async def aclose(self) -> None:
        """Hang up."""
        await self._connections.close()
