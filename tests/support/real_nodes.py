"""Two real nodes, a helpline and a shelter: separate processes, databases and homes, over loopback HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exchange.demo.federation import HELPLINE, SHELTER, RunningFederation, running_federation


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    """Started once for a module; stopped by their process ids."""
    with running_federation(tmp_path_factory.mktemp("nodes") / "federation", (HELPLINE, SHELTER)) as federation:
        yield federation
