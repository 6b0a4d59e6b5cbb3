"""Runs one exchange with the node for a command: open the client, ask, close, tell refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from exchange.cli.console import refusals_told
from exchange.cli.profile import open_client
from exchange.client import AgencyClient

T = TypeVar("T")


def ask(home: Path | None, actor: str | None, work: Callable[[AgencyClient], Awaitable[T]]) -> T:
    """What the work answered. Refusals end the program with a sentence and an exit code."""

    async def run() -> T:
        async with open_client(home, actor) as client:
            return await work(client)

    with refusals_told():
        return asyncio.run(run())
