"""Two real nodes, a helpline and a shelter, as `exchange serve` runs them: an API process and a courier each.

Rules:

* They are made by what `exchange init`, `contract adopt` and `roster add` use, and are marked synthetic.
* A node can stand behind another address than the one it listens on, so that what passes between nodes can be counted.
* Every process is stopped by its own id.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import httpx2
import psutil

from exchange.cli.profile import open_client
from exchange.cli.serve import GRACE_S, Child, Supervisor
from exchange.client import AgencyClient
from exchange.demo.federation import HELPLINE, LOOPBACK, SHELTER, MadeNode, NewDatabase, make_nodes
from exchange.settings import Environment

READY_WITHIN_S: Final = 120
# One client and one peer make more requests here than a node usually allows.
SETTINGS: Final = {
    "EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "10000000",
    "EXCHANGE_PEER_REQUESTS_PER_MINUTE": "10000000",
    "EXCHANGE_PEER_BYTES_PER_MINUTE": "1000000000000",
    "EXCHANGE_LOG_LEVEL": "warning",
}


class NotReadyError(Exception):
    """A node did not start. The text is the end of its log."""


@dataclass(slots=True)
class Node:
    """One agency's node, started and stopped as often as is needed."""

    made: MadeNode
    port: int
    """Where it listens; its public address says another port where it stands behind something."""
    supervisor: Supervisor
    log: IO[bytes] = field(repr=False)

    @property
    def agency(self) -> str:
        """Its agency's id."""
        return self.made.plan.agency

    @property
    def url(self) -> str:
        """Where it listens itself."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def main_database(self) -> str:
        """The address of its main database."""
        return self.made.variables.get("EXCHANGE_DATABASE_URL", f"sqlite:///{self.made.home / 'node.db'}")

    @property
    def key_database(self) -> str:
        """The address of its key store."""
        return self.made.variables.get("EXCHANGE_KEY_DATABASE_URL", f"sqlite:///{self.made.home / 'keys.db'}")

    def client(self, actor: str) -> AgencyClient:
        """A client at its public address, as the agency's own software would be."""
        return open_client(self.made.home, actor)

    def start(self) -> None:
        """Start its processes; `wait_until_ready` says when they work."""
        self.supervisor.start()

    def stop(self) -> None:
        """Stop its processes, in order."""
        self.supervisor.stop()

    def wait_until_ready(self) -> None:
        """Return as soon as it says that it can do its work.

        Raises:
            NotReadyError: a process ended, or it took too long.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        with httpx2.Client(trust_env=False, timeout=READY_WITHIN_S) as http:
            while not self._is_ready(http):
                if self.supervisor.ended() is not None or time.monotonic() > deadline:
                    raise NotReadyError((self.made.home / "node.log").read_text()[-2000:])
                time.sleep(0.01)

    def _is_ready(self, http: httpx2.Client) -> bool:
        try:
            return http.get(f"{self.url}/health/ready").is_success
        except httpx2.TransportError:
            return False

    def processes(self) -> dict[str, psutil.Process]:
        """By role: `api` and `courier`."""
        return {
            "courier" if child.role == "courier" else "api": psutil.Process(child.process.pid)
            for child in self.supervisor.children
        }

    @contextmanager
    def without_courier(self) -> Iterator[None]:
        """Nothing is delivered meanwhile."""
        # Ended and started again, not stopped in its tracks: it might hold the lock of the database.
        children = self.supervisor.children
        place = next(place for place, child in enumerate(children) if child.role == "courier")
        ended = children[place].process
        ended.terminate()
        ended.wait(GRACE_S)
        if ended.stdin is not None:
            ended.stdin.close()
        try:
            yield
        finally:
            children[place] = Child("courier", self._courier())

    def _courier(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli.node_process", "courier"],
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            env=dict(self.supervisor.environment),
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(b"\n")  # no passphrase was typed: the settings name its file
        process.stdin.flush()
        return process


@dataclass(frozen=True, slots=True)
class Pair:
    """Who refers, and who is referred to."""

    helpline: Node
    shelter: Node

    def start(self) -> None:
        """Start both; return when they are ready."""
        for node in (self.helpline, self.shelter):
            node.start()
        for node in (self.helpline, self.shelter):
            node.wait_until_ready()

    def roles(self) -> dict[str, psutil.Process]:
        """The four processes by what they do."""
        return {
            f"{name}_{role}": process
            for name, node in (("sender", self.helpline), ("receiver", self.shelter))
            for role, process in node.processes().items()
        }

    def cpu_seconds(self) -> dict[str, float]:
        """What each process, and this one, has used so far."""
        return {name: _cpu(process) for name, process in ({"client": psutil.Process()} | self.roles()).items()}

    def resident_mib(self) -> dict[str, float]:
        """Memory that each process holds."""
        return {name: process.memory_info().rss / 1024**2 for name, process in self.roles().items()}


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


@contextmanager
def running_pair(folder: Path, *, new_database: NewDatabase | None = None) -> Iterator[Pair]:
    """Both nodes, ready to work; stopped at the end.

    Args:
        folder: a new folder for their homes.
        new_database: makes the databases; files in their homes unless given.
    """
    with made_pair(folder, new_database=new_database) as pair:
        pair.start()
        yield pair


@contextmanager
def made_pair(folder: Path, *, new_database: NewDatabase | None = None, apart: bool = False) -> Iterator[Pair]:
    """Both nodes, to be started; stopped at the end.

    Args:
        folder: a new folder for their homes.
        new_database: makes the databases; files in their homes unless given.
        apart: they listen on other ports than their public addresses say; something must stand in between.
    """
    folder.mkdir(mode=0o700)
    with ExitStack() as running:
        made, _ = make_nodes(folder, (HELPLINE, SHELTER), Environment.DEMO, new_database, SETTINGS)
        yield Pair(*(running.enter_context(_prepared(one, free_port() if apart else one.port)) for one in made))


@contextmanager
def _prepared(made: MadeNode, port: int) -> Iterator[Node]:
    # Settings of the surrounding shell belong to another node.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
    variables = {**inherited, **made.variables, "EXCHANGE_HOME": str(made.home)}
    with (made.home / "node.log").open("ab") as log:
        node = Node(made, port, Supervisor(LOOPBACK, port, 1, variables, output=log), log)
        try:
            yield node
        finally:
            node.stop()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
