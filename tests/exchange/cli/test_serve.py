"""The supervisor: starts what it says, names what ends by itself, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.real_nodes import two_nodes
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.serve import Supervisor
from exchange.demo.federation import SHELTER, RunningFederation

__all__ = ["two_nodes"]

PATIENCE_S = 30.0


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return not alive


def started(home: Path, log: Path) -> subprocess.Popen[bytes]:
    """`exchange serve` as an operator starts it; back when the node answers."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from exchange.cli import main; main()", "serve", "--home", str(home)],
            stdout=output,
            stderr=output,
            env=variables | {"PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + PATIENCE_S
    while "running and ready" not in CliRunner().invoke(app, ["doctor", "--home", str(home)]).output:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return process


@pytest.fixture
def stopped_shelter(two_nodes: RunningFederation) -> Path:
    """The home of a node whose processes do not run."""
    node = two_nodes[SHELTER]
    node.supervisor.stop()
    return node.home


def test_told_to_stop_it_stops_its_children(stopped_shelter: Path, tmp_path: Path) -> None:
    process = started(stopped_shelter, tmp_path / "log")
    children = children_of(process.pid)
    assert len(children) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert gone(children)


def test_a_child_that_ends_by_itself_is_named_and_ends_the_node(stopped_shelter: Path, tmp_path: Path) -> None:
    process = started(stopped_shelter, tmp_path / "log")
    children = children_of(process.pid)
    courier = next(child for child in children if "courier" in child.cmdline())
    courier.kill()
    assert process.wait(PATIENCE_S) == 1
    assert f"`courier` (pid {courier.pid}) ended by itself" in (tmp_path / "log").read_text()
    assert gone(children)


def test_children_do_not_outlive_a_supervisor_that_was_killed(stopped_shelter: Path, tmp_path: Path) -> None:
    process = started(stopped_shelter, tmp_path / "log")
    children = children_of(process.pid)
    process.kill()
    process.wait(PATIENCE_S)
    assert gone(children)


def test_the_passphrase_is_on_no_command_line_and_in_no_environment(stopped_shelter: Path) -> None:
    (secret_file,) = stopped_shelter.parent.glob(f".{SHELTER.agency}.passphrase")
    secret = secret_file.read_text()
    supervisor = Supervisor("127.0.0.1", 0, 1, {"EXCHANGE_HOME": str(stopped_shelter)}, typed_passphrase=secret)
    supervisor.start()
    try:
        for child in supervisor.children:
            running = psutil.Process(child.process.pid)
            assert secret not in " ".join(running.cmdline())
            assert secret not in running.environ().values()
        assert secret not in repr(supervisor)
    finally:
        supervisor.stop()


def test_an_address_that_is_taken_starts_nothing(two_nodes: RunningFederation) -> None:
    node = next(iter(two_nodes.nodes.values()))
    supervisor = Supervisor("127.0.0.1", int(node.url.rsplit(":", 1)[1]), 1, {})
    with pytest.raises(OSError, match="in use"):
        supervisor.start()
    assert supervisor.children == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        pytest.param({"EXCHANGE_WORKERS": "2"}, "workers-need-postgresql", id="two workers on SQLite"),
        pytest.param({"EXCHANGE_ROSTER_PATH": "/nowhere/roster.json"}, "install the roster", id="no roster"),
        pytest.param({"EXCHANGE_PUBLIC_URL": "http://node.example/"}, "EXCHANGE_PUBLIC_URL", id="a slash at the end"),
        pytest.param({"EXCHANGE_ENVIRONMENT": "production"}, "synthetic-roster", id="a real node, invented agencies"),
    ],
)
def test_what_is_not_safe_does_not_start(
    two_nodes: RunningFederation, variables: dict[str, str], sentence: str
) -> None:
    home = two_nodes[SHELTER].home
    refused = CliRunner().invoke(app, ["serve", "--home", str(home)], env=variables)
    assert refused.exit_code == 2
    assert sentence in refused.output


def test_nobody_here_to_type_the_passphrase(two_nodes: RunningFederation, tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir(mode=0o700)
    text = (two_nodes[SHELTER].home / "exchange.toml").read_text()
    (home / "exchange.toml").write_text("\n".join(line for line in text.splitlines() if "passphrase" not in line))
    refused = CliRunner().invoke(app, ["serve", "--home", str(home)])
    assert refused.exit_code == 2
    assert "EXCHANGE_PASSPHRASE_FILE" in refused.output
