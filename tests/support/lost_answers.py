"""A line on which what was asked arrives, and the answer does not; or who asked has enough of waiting for it."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx2
import pytest


def answers_are_lost(patch: pytest.MonkeyPatch, path: str) -> None:
    """Of every request to this path from this process, until the patch ends."""
    send = httpx2.AsyncClient.send

    async def lost(client: httpx2.AsyncClient, request: httpx2.Request, **options: Any) -> httpx2.Response:
        answer = await send(client, request, **options)
        if request.method == "POST" and request.url.path == path:
            raise httpx2.ReadError("lost")
        return answer

    patch.setattr(httpx2.AsyncClient, "send", lost)


def ctrl_c_before_the_answer(patch: pytest.MonkeyPatch, path: str) -> None:
    """Of every request to this path from this process, until the patch ends. What was asked has arrived."""
    send = httpx2.AsyncClient.send

    async def stopped(client: httpx2.AsyncClient, request: httpx2.Request, **options: Any) -> httpx2.Response:
        answer = await send(client, request, **options)
        if request.method == "POST" and request.url.path == path:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        return answer

    patch.setattr(httpx2.AsyncClient, "send", stopped)
