"""Nodes whose processes a test starts, kills and starts again one by one; real databases, loopback HTTP.

A node's socket belongs to the test and outlives its processes, as with systemd: who connects while the node is dead is
answered when it is back. Everything is stopped by the process ids that were started here.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sqlalchemy import Table, func, select
from support.doomed_process import Doom, doom_file, transactions_file

from exchange.cli.profile import read_profile
from exchange.client import AgencyClient, ClientKey, RetryPolicy
from exchange.client.vault import Identity, open_agency_folder
from exchange.demo.federation import LOOPBACK, AgencyPlan, NewDatabase, make_nodes
from exchange.roster import Member
from exchange.settings import Environment
from exchange.storage.database import Connection, Database

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
ONCE = RetryPolicy(attempts=1)
"""A client that asks once, and so sees that there was no answer."""
USUAL = RetryPolicy()

T = TypeVar("T")


class Nursery:
    """The process that forks the processes of nodes, started when it is needed; see `support.doomed_process`.

    There is one for each test process: it imports the program once. It ends with the test process.
    """

    def __init__(self) -> None:
        self._line: socket.socket | None = None

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, listener: socket.socket | None = None
    ) -> int:
        """A process of a node, which may get a socket that listens; its id."""
        order = {"start": arguments, "environment": environment, "log": str(log)}
        answer: int = self._ask(order, [] if listener is None else [listener.fileno()])
        return answer

    def wait(self, child: int) -> int:
        """The exit code of a process that ends now."""
        try:
            return until(lambda: self._ask({"wait": child}), "a process to end")
        except AssertionError:
            os.kill(child, signal.SIGKILL)
            raise

    def close(self) -> None:
        """End it; what it forked has ended before, or ends with it."""
        if self._line is not None:
            self._line.close()
            self._process.wait()
            self._line = None

    def _ask(self, order: Mapping[str, object], descriptors: Sequence[int] = ()) -> Any:
        if self._line is None:
            self._line = self._begin()
        unsent = f"{json.dumps(order)}\n".encode()
        sent = socket.send_fds(self._line, [unsent], descriptors) if descriptors else 0
        self._line.sendall(unsent[sent:])
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self._line.recv(4096) or _ended_early()
        return json.loads(answer)

    def _begin(self) -> socket.socket:
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.doomed_process"],
                stdin=its,
                env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            )
        return ours


def _ended_early() -> bytes:
    raise AssertionError("The process that forks the processes of nodes has ended; what it said stands above.")


NURSERY: Final = Nursery()
atexit.register(NURSERY.close)


@dataclass(slots=True)
class NodeProcesses:
    """One agency's node: its home, its databases, and the processes that run now."""

    plan: AgencyPlan
    home: Path
    member: Member
    urls: Mapping[str, str]
    """`main` and `keys`."""
    listener: socket.socket
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further settings."""
    office: Path | None = None
    """The agency's own folder, where the node holds no agency key."""
    passphrase: str = field(default="", repr=False)
    """Of the agency key."""
    running: dict[str, int] = field(default_factory=dict)
    """Process ids by role."""

    @property
    def agency(self) -> str:
        """Its agency's id."""
        return self.plan.agency

    def start(self, *roles: str) -> None:
        """Start the API process, the courier, or (nothing named) both; the API answers when this returns.

        Several API processes are told apart by a number, as in `api 2`.
        """
        for role in roles or ("api", "courier"):
            kind = role.split()[0]
            listener = self.listener if kind == "api" else None
            self.running[role] = NURSERY.start([kind], self.environment(), self.home / "node.log", listener)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Returns when the API answers."""
        if any(role.startswith("api") for role in self.running):
            until(lambda: _ready(self.member.node_url) or None, f"{self.agency} ready; see {self.home / 'node.log'}")

    def environment(self) -> dict[str, str]:
        """The variables of its processes; those of the surrounding shell belong to another node."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
        return {
            **inherited,
            **self.variables,
            "EXCHANGE_HOME": str(self.home),
            "EXCHANGE_DATABASE_URL": self.urls["main"],
            "EXCHANGE_KEY_DATABASE_URL": self.urls["keys"],
        }

    def doom(self, point: Doom) -> None:
        """From now on the process that reaches this point dies there."""
        partial = doom_file(self.home).with_suffix(".partial")
        partial.write_text(point.to_text(), "utf-8")
        partial.rename(doom_file(self.home))

    def wait_until_killed(self, role: str) -> None:
        """Returns when the process has died as it was told to, and is not doomed any more."""
        child = self.running.pop(role)
        try:
            assert NURSERY.wait(child) == -signal.SIGKILL
        finally:
            doom_file(self.home).unlink()

    def wait_until_still(self) -> int:
        """The process that stands still where it was told to."""

        def still() -> int | None:
            states = {child: Path(f"/proc/{child}/stat").read_text("utf-8") for child in self.running.values()}
            return next((child for child, stat in states.items() if stat.rpartition(")")[2].split()[0] == "T"), None)

        return until(still, "a process to stand still")

    def transactions(self) -> set[tuple[str, str]]:
        """Every transaction function that its processes have reached, each behind the role of the process."""
        lines = transactions_file(self.home).read_text("utf-8").splitlines()
        return {(role, place) for role, _, place in (line.partition("|") for line in lines)}

    def stop(self, *roles: str) -> list[int]:
        """End processes in order; their exit codes."""
        stopped = [self.running.pop(role) for role in roles or tuple(self.running)]
        for child in stopped:
            os.kill(child, signal.SIGTERM)
        return [NURSERY.wait(child) for child in stopped]

    def client(self, *, retries: RetryPolicy = USUAL, actor: str = "w-test") -> AgencyClient:
        """The agency's own software."""
        profile = read_profile(self.office or self.home)
        key = ClientKey.load(profile.key_file)
        return AgencyClient(
            profile.url, profile.client_id, key, actor=actor, scopes=profile.scopes, issuer=profile.issuer,
            retries=retries,
        )  # fmt: skip

    def identity(self) -> Identity:
        """The agency's own keys, where the node holds none."""
        assert self.office is not None
        return open_agency_folder(self.office, self.passphrase)

    def look(self, read: Callable[[Connection], T], *, database: str = "main") -> T:
        """What stands in one of its databases."""
        opened = Database.open(self.urls[database])
        try:
            return opened.read_sync(read)
        finally:
            opened.close_sync()

    def count(self, table: Table, **where: Any) -> int:
        """How many rows of the main database have these values."""
        query = select(func.count()).select_from(table)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        return self.look(lambda conn: conn.execute(query).scalar_one())


def until(ask: Callable[[], T | None], what: str) -> T:
    """The first answer that is not nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"Waited for {what}; it did not come.")


def _ready(url: str) -> bool:
    try:
        with closing(urllib.request.urlopen(f"{url}/health/ready", timeout=PATIENCE_S)) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def node_processes(
    folder: Path,
    plans: Sequence[AgencyPlan],
    new_database: NewDatabase | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    keys_elsewhere: bool = False,
) -> Iterator[list[NodeProcesses]]:
    """Nodes for these agencies that know each other; nothing of them runs yet."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made, _ = make_nodes(folder, plans, Environment.DEMO, new_database, keys_elsewhere=keys_elsewhere)
    with ExitStack() as stack:
        listeners = [stack.enter_context(listening(one.port)) for one in made]
        nodes = []
        for one, listener in zip(made, listeners, strict=True):
            urls = {
                "main": one.variables.get("EXCHANGE_DATABASE_URL", f"sqlite:///{one.home / 'node.db'}"),
                "keys": one.variables.get("EXCHANGE_KEY_DATABASE_URL", f"sqlite:///{one.home / 'keys.db'}"),
            }
            node = NodeProcesses(one.plan, one.home, one.member, urls, listener, variables, one.office, one.passphrase)
            stack.callback(node.stop)
            nodes.append(node)
        yield nodes


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket for a node's processes, which they share."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(128)
        yield listener
