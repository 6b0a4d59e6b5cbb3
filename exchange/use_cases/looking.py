"""How a list is looked through for a branch: in slices, since most of it may be other branches'.

Rules:

* No read looks at more than a slice: on SQLite it runs on the event loop, and everybody waits for it.
* What a branch may not see it will never see: a slice in which there was nothing for it is passed for good, and the
  cursor stands behind it. Otherwise each poll would look through all of it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from exchange.storage.database import Connection
from exchange.use_cases.node import Node

Row = TypeVar("Row")
Look = Callable[[Connection, int, int], tuple[Sequence[Row], int | None]]
"""Rows behind this number, at most so many; and up to where it has looked, unless that is the end of the list."""


async def look_through(node: Node, look: Look[Row], after: int, limit: int) -> tuple[list[Row], int]:
    """Rows behind a cursor, at most so many, and the cursor behind the slices in front of them in which there is none.

    Raises:
        Exception: what `look` raises.
    """
    found: list[Row] = []
    passed = at = after
    while True:
        most = limit - len(found)
        rows, end = await node.database.read(lambda conn, at=at, most=most: look(conn, at, most))  # type: ignore[misc]
        found += rows
        if end is None or len(found) >= limit:
            return found, passed
        at = end
        if not found:
            passed = end
        await asyncio.sleep(0)
