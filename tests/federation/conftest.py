"""Federations in one process, on SQLite; `on_both` makes one on each kind of database, `pair` does in `make faults`.

`on_both` is for what a database can do differently: what happens at once, in which order rows come, what lies in its
files, what a dump brings. What a node decides one step after the other asks for `pair`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.federation import Federation, federation
from support.federation_fixtures import on_both, pair, two

from exchange.demo.federation import FOUR

__all__ = ["four", "on_both", "pair", "two"]


@pytest.fixture
async def four(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline, a shelter, an embassy and a labour office."""
    async with federation(tmp_path, FOUR) as together:
        yield together
