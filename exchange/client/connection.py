"""One HTTP connection pool to one node, with tries again where they do no harm.

Rules:

* https, or http on this machine only: a token and her data never travel in the open.
* Proxies and certificates that environment variables name are not used; who needs a proxy passes a transport.
* Redirects are not followed: a node has one address.
* Nothing is logged.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx2

from exchange.client.errors import ClientSetupError, NodeUnreachableError
from exchange.client.retries import Repeat, RetryPolicy

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 30.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

Query = Mapping[str, str | int | float | None]


class Connection:
    """Sends requests to one node."""

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx2.AsyncBaseTransport | None,
        retries: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Refuse an address over which others could read.

        Raises:
            ClientSetupError: the address is neither https nor http on this machine.
        """
        address = urlsplit(base_url)
        if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
            raise ClientSetupError("The address of a node begins with https://; http:// is for this machine only.")
        self._retries = retries
        self._sleep = sleep
        self._draw = draw
        self._http = httpx2.AsyncClient(
            base_url=base_url.rstrip("/"),
            transport=transport,
            # To read the machine's certificates takes 20 ms, which is a third of a command to a node beside it.
            verify=True if address.scheme == "https" else _trusts_nobody(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Give the sockets back."""
        await self._http.aclose()

    def build(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Query | None = None,
        body: bytes | None = None,
        form: Mapping[str, str] | None = None,
        answer_within_s: float = ANSWER_TIMEOUT_S,
    ) -> httpx2.Request:
        """A request to this node; query members without a value are left out."""
        return self._http.build_request(
            method,
            path,
            headers=dict(headers or {}),
            params={name: value for name, value in (query or {}).items() if value is not None} or None,
            content=body,
            data=dict(form) if form is not None else None,
            timeout=httpx2.Timeout(answer_within_s, connect=CONNECT_TIMEOUT_S),
        )

    async def send(self, build: Callable[[], httpx2.Request], repeat: Repeat) -> httpx2.Response:
        """The answer, whatever its status, after as many tries as do no harm.

        Args:
            build: makes the request anew for each try.
            repeat: whether repeating it could do harm.

        Raises:
            NodeUnreachableError: no answer came.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._http.send(build())
            except httpx2.RequestError as error:
                # Of the transport, or of an answer that cannot be unpacked.
                harmless = repeat is Repeat.HARMLESS or isinstance(error, _NEVER_SENT)
                if not harmless or attempt >= self._retries.attempts:
                    # `from None`: the chain would hold the request, and with it what it carries.
                    raise NodeUnreachableError from None
                await self._sleep(self._retries.wait_s(attempt, self._draw))
                continue
            asked = answer.headers.get("retry-after")
            wait = self._retries.wait_after_answer_s(repeat, attempt, answer.status_code, asked, self._draw)
            if wait is None:
                return answer
            await self._sleep(wait)


def _trusts_nobody() -> ssl.SSLContext:
    """For an address without TLS: should it be asked for all the same, every certificate is refused."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
