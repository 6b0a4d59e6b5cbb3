"""Fixtures: federations in one process, for the folders whose `conftest.py` imports them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation, federation
from support.founded import Copied, DatabaseMaker, history_of

from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.telemetry import Telemetry


@asynccontextmanager
async def federation_on(
    folder: Path,
    plans: Sequence[AgencyPlan],
    make_database: MakeDatabase,
    *,
    telemetry: Telemetry | None = None,
    blind: Sequence[AgencyPlan] = (),
) -> AsyncIterator[Federation]:
    """Nodes for these agencies on databases that are made so; `blind` ones hold no agency key."""
    with ExitStack() as stack:
        copied = Copied(_founded_on(make_database), lambda url: stack.enter_context(make_database.copy(url)))
        async with federation(folder, plans, database=copied, telemetry=telemetry, blind=blind) as together:
            yield together


@functools.cache
def _founded_on(make_database: MakeDatabase) -> DatabaseMaker:
    return lambda name: make_database.create(make_database.migrated(history_of(name)))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline and a shelter, on SQLite."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        yield together


@pytest.fixture
async def on_both(tmp_path: Path, make_database: MakeDatabase) -> AsyncIterator[Federation]:
    """A helpline and a shelter, once on SQLite and once on PostgreSQL."""
    async with federation_on(tmp_path, (HELPLINE, SHELTER), make_database) as together:
        yield together


@pytest.fixture(params=POSTGRES_IN_FAULTS)
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, make_on: Callable[[str], MakeDatabase]
) -> AsyncIterator[Federation]:
    """A helpline and a shelter, on SQLite, and in `make faults` on PostgreSQL too."""
    async with federation_on(tmp_path, (HELPLINE, SHELTER), make_on(request.param)) as together:
        yield together
