"""The supervisor: starts what it says, names what ends by itself, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support.node_processes import _ready, until
from typer.testing import CliRunner

from exchange.cli import serve as serve_module
from exchange.cli.application import app
from exchange.cli.profile import open_client
from exchange.cli.serve import Supervisor
from exchange.demo.federation import HELPLINE, LOOPBACK, SHELTER, MadeNode, make_nodes
from exchange.schemas.inbox import InboxPage
from exchange.settings import Environment

PATIENCE_S = 30.0


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


async def a_long_poll(node: MadeNode) -> InboxPage:
    """Asks for news for as long as may be, and once only."""
    async with open_client(node.home, "w-0009") as client:
        return await client.inbox.list(status="new", wait_s=25)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    return not alive


def started(node: MadeNode, log: Path, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """`exchange serve` as an operator starts it; back when the node answers."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from exchange.cli import main; main()", "serve", "--home", str(node.home)],
            stdout=output,
            stderr=output,
            env=variables | {"PYTHONUNBUFFERED": "1"} | dict(settings or {}),
        )

    def answers() -> bool | None:
        assert process.poll() is None, log.read_text()
        return _ready(node.member.node_url) or None

    until(answers, "the node to answer")
    return process


@pytest.fixture(scope="module")
def shelter(tmp_path_factory: pytest.TempPathFactory) -> MadeNode:
    """A node that would start."""
    (_, made), _ = make_nodes(tmp_path_factory.mktemp("serve"), (HELPLINE, SHELTER), Environment.DEMO)
    return made


def test_served_once_and_told_to_stop_it_stops_its_children(shelter: MadeNode, tmp_path: Path) -> None:
    process = started(shelter, tmp_path / "log")
    assert "running and ready" in CliRunner().invoke(app, ["doctor", "--home", str(shelter.home)]).output
    children = children_of(process.pid)
    assert len(children) == 2
    second = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)])
    # 1: after kill -9 the processes of before end by themselves, and systemd has to try again.
    assert (second.exit_code, "stop the `exchange serve`" in second.output) == (1, True), second.output
    with ThreadPoolExecutor() as poller:
        waits = poller.submit(asyncio.run, a_long_poll(shelter))
        api = next(child for child in children if "courier" not in child.cmdline())
        established = lambda: any(one.status == "ESTABLISHED" for one in api.net_connections("tcp"))  # noqa: E731
        until(lambda: established() or None, "the poll to arrive")
        time.sleep(0.5)
        assert not waits.done()
        process.send_signal(signal.SIGTERM)
        # Who waits for news is answered with what is there, and is not what the node waits for.
        assert waits.result(PATIENCE_S).items == ()
    assert process.wait(PATIENCE_S) == 0
    assert gone(children)
    assert "error" not in (tmp_path / "log").read_text().lower()


def test_a_child_that_ends_by_itself_is_named_and_ends_the_node(shelter: MadeNode, tmp_path: Path) -> None:
    process = started(shelter, tmp_path / "log")
    children = children_of(process.pid)
    courier = next(child for child in children if "courier" in child.cmdline())
    courier.kill()
    assert process.wait(PATIENCE_S) == 1
    assert f"`courier` (pid {courier.pid}) ended by itself" in (tmp_path / "log").read_text()
    assert gone(children)


def test_children_do_not_outlive_a_supervisor_that_was_killed(shelter: MadeNode, tmp_path: Path) -> None:
    process = started(shelter, tmp_path / "log")
    children = children_of(process.pid)
    process.kill()
    process.wait(PATIENCE_S)
    assert gone(children)


def test_the_passphrase_is_on_no_command_line_and_in_no_environment(shelter: MadeNode) -> None:
    (secret_file,) = shelter.home.parent.glob(f".{SHELTER.agency}.passphrase")
    secret = secret_file.read_text()
    supervisor = Supervisor("127.0.0.1", 0, 1, {"EXCHANGE_HOME": str(shelter.home)}, passphrase=secret)
    supervisor.start()
    try:
        for child in supervisor.children:
            running = psutil.Process(child.process.pid)
            assert secret not in " ".join(running.cmdline())
            assert secret not in running.environ().values()
        assert secret not in repr(supervisor)
    finally:
        supervisor.stop()


def test_a_variable_without_a_passphrase_beside_the_file_that_holds_it_is_none(
    shelter: MadeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a compose file leaves one behind: the processes would refuse a passphrase that is given twice."""
    handed: list[str] = []

    def watched(supervisor: Supervisor) -> int:
        handed.append(supervisor.passphrase)
        return 0

    monkeypatch.setenv("EXCHANGE_PASSPHRASE", "")
    monkeypatch.setattr(Supervisor, "start", lambda _: None)
    monkeypatch.setattr(serve_module, "watch", watched)
    answer = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)])
    assert (answer.exit_code, handed) == (0, [""]), answer.output


def test_a_passphrase_from_the_environment_is_in_that_of_no_child(shelter: MadeNode, tmp_path: Path) -> None:
    """What stands in `/proc` of a process stands there for as long as it runs."""
    (secret_file,) = shelter.home.parent.glob(f".{SHELTER.agency}.passphrase")
    secret, config = secret_file.read_text(), tmp_path / "exchange.toml"
    lines = (shelter.home / "exchange.toml").read_text().splitlines()
    config.write_text("\n".join(line for line in lines if not line.startswith("passphrase_file")))
    process = started(shelter, tmp_path / "log", {"EXCHANGE_CONFIG": str(config), "exchange_Passphrase": secret})
    try:
        told = [process.pid for process in children_of(process.pid) if secret in process.environ().values()]
        assert told == []
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_an_address_that_is_taken_starts_nothing() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        supervisor = Supervisor(LOOPBACK, taken.getsockname()[1], 1, {})
        with pytest.raises(OSError, match="in use"):
            supervisor.start()
    assert supervisor.children == []


def test_an_address_that_is_taken_is_said_so(shelter: MadeNode) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)], env={"EXCHANGE_PORT": port})
    assert refused.exit_code == 2
    assert f":{port} is taken" in refused.output


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no-host.invalid"])
def test_an_address_of_another_machine_is_said_so(shelter: MadeNode, host: str) -> None:
    refused = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)], env={"EXCHANGE_HOST": host})
    assert refused.exit_code == 2
    assert f"{host} is no address of this machine: set EXCHANGE_HOST" in refused.output


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        pytest.param({"EXCHANGE_WORKERS": "2"}, "workers-need-postgresql", id="two workers on SQLite"),
        pytest.param({"EXCHANGE_ROSTER_PATH": "/nowhere/roster.json"}, "install the roster", id="no roster"),
        pytest.param({"EXCHANGE_PUBLIC_URL": "http://node.example/"}, "EXCHANGE_PUBLIC_URL", id="a slash at the end"),
        pytest.param({"EXCHANGE_ENVIRONMENT": "production"}, "synthetic-roster", id="a real node, invented agencies"),
    ],
)
def test_what_is_not_safe_does_not_start(shelter: MadeNode, variables: dict[str, str], sentence: str) -> None:
    refused = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)], env=variables)
    assert refused.exit_code == 2
    assert sentence in refused.output


def test_a_database_that_is_away_is_no_reason_to_stay_down(shelter: MadeNode) -> None:
    """Exit code 2 tells systemd not to try again; a database server may only be slower to start."""
    away = {"EXCHANGE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    refused = CliRunner().invoke(app, ["serve", "--home", str(shelter.home)], env=away)
    assert refused.exit_code == 1
    assert "cannot be reached" in refused.output


@pytest.mark.parametrize("name", ["EXCHANGE_DATABASE_URL", "EXCHANGE_KEY_DATABASE_URL"])
@pytest.mark.parametrize(
    "address",
    [
        *(f"node:CANARY{sign}CANARY@127.0.0.1:1" for sign in ("/", "#", "?", "[", "]", "@", "@[", "@?x=", "\u2100")),
        "node:CANARY@127.0.0.1:99999",
        "node:CANARY@127.0.0.1:CANARY",
        "node:CANARY@[::1",
    ],
)
def test_no_command_repeats_a_password_or_shows_a_trace(shelter: MadeNode, address: str, name: str) -> None:
    """Whatever of it stands unescaped in an address: the output of `serve` is the journal."""
    for command in (["migrate"], ["doctor", "--offline"], ["serve"]):
        variables = {name: f"postgresql://{address}/node"}
        refused = CliRunner().invoke(app, [*command, "--home", str(shelter.home)], env=variables)
        assert isinstance(refused.exception, SystemExit), command
        assert refused.exit_code in {1, 2}
        assert "CANARY" not in refused.output


def test_nobody_here_to_type_the_passphrase(shelter: MadeNode, tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir(mode=0o700)
    text = (shelter.home / "exchange.toml").read_text()
    (home / "exchange.toml").write_text("\n".join(line for line in text.splitlines() if "passphrase" not in line))
    refused = CliRunner().invoke(app, ["serve", "--home", str(home)])
    assert refused.exit_code == 2
    assert "EXCHANGE_PASSPHRASE_FILE" in refused.output
