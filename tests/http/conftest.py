"""One pair of real nodes for all tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.http_world import HttpWorld, http_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpWorld]:
    """A helpline and a shelter."""
    async with http_world(tmp_path_factory.mktemp("world")) as opened:
        yield opened
