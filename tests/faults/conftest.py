"""A helpline and a shelter in one process, for faults of the world around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.federation import Federation, federation

from exchange.demo.federation import HELPLINE, SHELTER


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Federation]:
    """Both nodes, on SQLite."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        yield together
