"""Fixtures: federations in one process, for the folders whose `conftest.py` imports them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.databases import MakeDatabase
from support.federation import Federation, federation
from support.founded import history_of

from exchange.demo.federation import HELPLINE, SHELTER


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline and a shelter, on SQLite."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        yield together


@pytest.fixture
async def on_both(tmp_path: Path, make_database: MakeDatabase) -> AsyncIterator[Federation]:
    """A helpline and a shelter, once on SQLite and once on PostgreSQL."""
    with ExitStack() as stack:

        def make(name: str) -> str:
            return stack.enter_context(make_database(history_of(name)))

        async with federation(tmp_path, (HELPLINE, SHELTER), database=make) as together:
            yield together
