"""Two real nodes, a helpline and a shelter: separate processes, databases and homes, over loopback HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from support.node_processes import NodeProcesses, node_processes

from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan

TwoNodes = Mapping[AgencyPlan, NodeProcesses]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """Started once for a module; stopped by their process ids."""
    with node_processes(tmp_path_factory.mktemp("nodes") / "federation", (HELPLINE, SHELTER)) as nodes:
        for node in nodes:
            node.start()
        yield {node.plan: node for node in nodes}
