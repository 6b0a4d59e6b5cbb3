"""PostgreSQL is lost while a node starts: as when it was not up yet, whoever started the node may start it again.

Exit code 1 and never 2, after which systemd does not try again (deploy/exchange.service); each process that met it says
who must do what, and none leaves a traceback.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.breaking_line import breaking_line
from support.node_processes import NURSERY, NodeProcesses, node_processes
from support.postgres import Databases

from exchange.demo.federation import HELPLINE, SHELTER

_LOOKING, _STARTING = b"alembic_version", b"INTO used_roster"
"""What is asked for by who looks whether a node would start, and by a process of a node that starts."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, postgres: Databases) -> Iterator[NodeProcesses]:
    """A node that would start."""
    folder = tmp_path_factory.mktemp("lost") / "nodes"
    with node_processes(folder, (HELPLINE, SHELTER), lambda _name: postgres.create()) as (helpline, _):
        yield helpline


def lost(node: NodeProcesses, log: Path, words: bytes, *command: str) -> tuple[int, str]:
    """Exit code and log of a process that loses the server when somebody asks for this."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    listener = node.listener if command == ("api",) else None
    with breaking_line(node.urls["main"], words) as line:
        main, keys = line.along(node.urls["main"]), line.along(node.urls["keys"])
        more = {"EXCHANGE_DATABASE_URL": main, "EXCHANGE_KEY_DATABASE_URL": keys, "EXCHANGE_PORT": port}
        code = NURSERY.wait(NURSERY.start(command, node.environment() | more, log, listener))
        told = log.read_text("utf-8")
        assert line.broken.is_set(), told
    return code, told


@pytest.mark.parametrize("words", [_LOOKING, _STARTING], ids=["while it looks", "while it starts"])
@pytest.mark.parametrize("role", ["api", "courier"])
def test_each_process_says_it(node: NodeProcesses, tmp_path: Path, role: str, words: bytes) -> None:
    code, told = lost(node, tmp_path / "log", words, role)
    assert code == 1, told
    assert "The operator must look at the main database" in told
    assert "The database cannot be reached." in told
    assert "Traceback" not in told


@pytest.mark.parametrize("words", [_LOOKING, _STARTING], ids=["while it looks", "while its processes start"])
def test_the_node_may_be_started_again(node: NodeProcesses, tmp_path: Path, words: bytes) -> None:
    code, told = lost(node, tmp_path / "log", words, "exchange", "serve", "--workers", "2")
    assert code == 1, told
    assert ("Nothing was started." in told) is (words == _LOOKING)
    assert "The operator must look at the main database" in told
    assert "Traceback" not in told
