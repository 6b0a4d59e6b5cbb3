"""A line between an agency's own software and its node on which the first hand-in, or its answer, is lost, or slow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import httpx2
import pytest
from support.federation import TestNode

from exchange.client.vault import AgencyVault

HAND_IN: Final = ("POST", "/v1/envelopes")
Lost = Literal["request", "answer", "nothing"]


class LosingLine(httpx2.AsyncBaseTransport):
    """Everything but the first request of this kind comes to the node, and is answered; that one takes its time."""

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        lost: Lost,
        meanwhile: Callable[[], Awaitable[Any]],
        call: tuple[str, str],
    ) -> None:
        self._inner, self._lost, self._meanwhile, self._call = inner, lost, meanwhile, call
        self.tries = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if (request.method, request.url.path) != self._call:
            return await self._inner.handle_async_request(request)
        self.tries += 1
        if self.tries > 1:
            return await self._inner.handle_async_request(request)
        if self._lost == "answer":
            await self._inner.handle_async_request(request)
        await self._meanwhile()
        if self._lost == "nothing":
            return await self._inner.handle_async_request(request)
        raise httpx2.ReadError("the line broke")


def vault_on_losing_line(
    node: TestNode,
    lost: Lost,
    meanwhile: Callable[[], Awaitable[Any]],
    *,
    call: tuple[str, str] = HAND_IN,
) -> tuple[AgencyVault, LosingLine]:
    """One more program of the agency. What happens meanwhile happens before the SDK tries again by itself."""
    line = LosingLine(node.network, lost, meanwhile, call)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node, "network", line)
        return node.vault(), line
