"""The machines of the federation: real databases in memory, one process each, which may die at any commit.

Rules:

* A machine has two SQLite files in a folder in memory. A history starts from the bytes of a template.
* A process dies before or after a commit of either database, or while it waits for the network. From that moment it
  writes nothing and says nothing. What was committed stays, what was not is gone; another process opens the same files.
* Death of the operating system is not simulated: the files are in memory, `synchronous` is as in real life.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

from opentelemetry.metrics import NoOpMeter
from simulation.one_thread import AtOnce, OneThread

from consent.statements import StatementLibrary
from exchange import startup
from exchange.envelope.keys import AgencyKey, NodeKey, StorageKey
from exchange.envelope.sealed_rows import SealedRows
from exchange.federation.courier import Courier
from exchange.federation.transport import PeerTransport
from exchange.limits import LIMITS
from exchange.oauth.server import TokenServer
from exchange.roster import Member
from exchange.storage import lanes
from exchange.storage.database import Database
from exchange.storage.engine import SqliteFile, sqlite_engine
from exchange.storage.errors import StorageUnavailableError
from exchange.storage.key_store import KeyStore
from exchange.storage.migrate import History, upgrade
from exchange.storage.node_keyring import NodeKeyring
from exchange.telemetry.measurements import Measurements
from exchange.use_cases.node import Node, World
from exchange.use_cases.own_epochs import publish_own_epochs

STATEMENTS: Final = StatementLibrary.load()
MEASUREMENTS: Final = Measurements(NoOpMeter("simulation"))
T = TypeVar("T")


class PowerCutError(StorageUnavailableError):
    """The process died at a commit. Nobody is told anything any more."""


Replaced = tuple[tuple[str, str], ...]
"""Whose key was replaced, and whether it was the `agency` or the `node` key; one after the other."""


@dataclass(slots=True)
class Keys:
    """The secrets of one agency; they follow from its id, and from how often they were replaced."""

    agency: AgencyKey
    node: NodeKey
    storage: StorageKey

    @classmethod
    def of(cls, agency: str, replaced: Replaced = ()) -> Keys:
        """The same every time."""
        names = ("agency", "node", "storage")
        which = [f"{name} {replaced.count((agency, name)) or ''}".strip() for name in names]
        seeds = [sha256(f"simulation {agency} {name}".encode()).digest() for name in which]
        return cls(AgencyKey(seeds[0]), NodeKey(seeds[1]), StorageKey(seeds[2]))


class NobodyElse:
    """`Channel` of a process that is the only one on its database."""

    def listen(self, _wake: object, _name: object) -> None:
        pass

    def announce(self, _connection: object, _names: object) -> None:
        pass

    def send(self, _names: object) -> None:
        pass

    async def close(self) -> None:
        pass


class Disk:
    """One database file in memory. Engines outlive processes only because compiled statements do."""

    def __init__(self, path: Path, history: History) -> None:
        upgrade(f"sqlite:///{path}", history)
        self.path = path
        self._file = SqliteFile(path)
        self._engines = sqlite_engine(self._file, reading=True), sqlite_engine(self._file, reading=False)
        self.eye = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        """Looks at what lies there, past every process."""
        self.eye.execute("PRAGMA synchronous=OFF")
        self._template: dict[str, tuple[str, list[tuple[Any, ...]]]] = {}

    def open(self) -> Database:
        """The file, as a process opens it."""
        with patch.object(lanes, "ThreadPoolExecutor", AtOnce):
            database = Database(*self._engines, NobodyElse(), self._file)
        # Every commit goes the way on which a history may refuse it, however quick the disk of this moment is.
        database._writer._lane._quick_s = 0  # type: ignore[attr-defined]
        return database

    def keep_as_template(self) -> None:
        """From now on `reset` brings back what lies here now."""
        names = self.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'alembic%'")
        for (name,) in names:
            rows = self.rows(f"SELECT * FROM {name}")
            places = ", ".join("?" * len(rows[0])) if rows else ""
            self._template[name] = f"INSERT INTO {name} VALUES ({places})", rows

    def reset(self) -> None:
        """The template again."""
        self.eye.execute("BEGIN IMMEDIATE")
        for name, (insert, rows) in self._template.items():
            # Compared whole: a table that was emptied gives new rows the numbers of the old ones.
            if self.rows(f"SELECT * FROM {name} LIMIT {len(rows) + 1}") == rows:
                continue
            self.eye.execute(f"DELETE FROM {name}")
            if rows:
                self.eye.executemany(insert, rows)
        self.eye.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What lies there now."""
        return self.eye.execute(query, values).fetchall()

    def close(self) -> None:
        """Give the file back; no process may have it open."""
        self.eye.close()
        for engine in self._engines:
            engine.dispose()


@dataclass(slots=True, eq=False)
class Process:
    """One run of a node's program."""

    node: Node
    courier: Courier
    databases: tuple[Database, Database]
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    """In the order in which they began."""
    alive: bool = True

    def die(self) -> None:
        """Nothing is written from this moment on."""
        self.alive = False
        for database in self.databases:
            database._closed = database._writer._closed = True


CrashPoint = Callable[[str], bool]
"""Asked at `before main commit`, `after keys commit` …: whether the process dies there."""


class Machine:
    """One agency's machine: two disks, keys, a clock that may be wrong, and at most one process."""

    def __init__(self, agency: str, folder: Path, loop: OneThread, clock: Callable[[], int]) -> None:
        self.agency = agency
        self.blind = False
        """Its node holds no agency key; the next process is told."""
        self.keys = Keys.of(agency)
        self.main = Disk(folder / f"{agency}-main.db", History.MAIN)
        self.secret = Disk(folder / f"{agency}-keys.db", History.KEYS)
        self.loop = loop
        self.offset = 0
        """How wrong its clock is, in milliseconds."""
        self.slept = 0
        """For how long the clock stood that only runs, and that nobody can set, in milliseconds."""
        self.world: World | None = None
        self.newest: Callable[[], World] = self._no_world
        """What lies in its roster file, to be read at the next look."""
        self.dies: CrashPoint = _never
        self.entropy = random.Random(agency)
        self.process: Process | None = None
        self.connect: Callable[[Machine, Process], PeerTransport] | None = None
        self._true_clock = clock
        self._tokens = TokenServer(f"https://{agency}.example", self.keys.storage.token_key().secret_bytes())

    def now(self) -> int:
        """Its clock, Unix milliseconds."""
        return self._true_clock() + self.offset

    def _seconds(self) -> float:
        return self.loop.time() - self.slept / 1000

    def at(self, now: int, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What it answers when its clock says this."""
        kept, self.offset = self.offset, self.offset + now - self.now()
        try:
            return self.loop.finish(ask())
        finally:
            self.offset = kept

    @property
    def node(self) -> Node:
        """The node of the running process."""
        assert self.process is not None
        return self.process.node

    def start(self) -> None:
        """Start a process on what lies on the disks, as `exchange.startup.open_node` does."""
        node = self._load(self.main.open(), self.secret.open())

        async def opening() -> None:
            await startup._sweep(node)
            await publish_own_epochs(node)

        dies, self.dies = self.dies, _never
        self.loop.finish(opening())
        self.dies = dies

    def begin_anew(self) -> None:
        """A fresh history: the template on both disks, and a process that remembers nothing."""
        if self.process is not None and (self.process.tasks or not self.process.alive):
            self.bury()
        databases = self.process.databases if self.process is not None else (self.main.open(), self.secret.open())
        self.main.reset()
        self.secret.reset()
        self._load(*databases)

    def _load(self, database: Database, key_database: Database) -> Node:
        node = self._node(database, key_database)
        process = Process(node, Courier(node, _NO_TRANSPORT), (database, key_database))
        self.process = process
        for one, name in ((database, "main"), (key_database, "keys")):
            one._writer._lane._executor.around = self._around(process, name)
            # Whether a disk takes writes is tried once a second, by a clock that no history has.
            one._written = inf
        assert self.connect is not None
        process.courier = Courier(node, self.connect(self, process), seconds=self._seconds)
        return node

    def private_half(self, key_id: str) -> bytes | None:
        """The private half of one of its weeks, as it lies in the key store now."""
        rows = self.secret.rows("SELECT wrapped FROM epoch_private WHERE key_id = ?", key_id)
        if not rows:
            return None
        sealed = SealedRows(self.keys.storage.row_key())
        return sealed.open(rows[0][0], table="epoch_private", column="wrapped", row=key_id)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that dies with the process. What goes wrong in a living one is a failure of the history."""
        process = self.process
        assert process is not None
        tasks = process.tasks

        async def until_death() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - a dead process says nothing
                if process.alive:
                    self.loop.failures.append(error)

        task = self.loop.create_task(until_death())
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None))
        return task

    def bury(self) -> None:
        """End what the process was doing, and give its connections back."""
        process = self.process
        if process is None:
            return
        process.die()
        while process.tasks:
            for task in list(process.tasks):
                task.cancel()
            self.loop.settle()
        for database in process.databases:
            # As `close` does, but for the engines, which have no connection of their own and know every statement.
            database._writer._lane._discard()
            database._forget_reader()
        self.process = None

    def close(self) -> None:
        """End the process and give both files back."""
        self.bury()
        self.main.close()
        self.secret.close()

    def _around(self, process: Process, name: str) -> Callable[[Callable[[], Any]], Any]:
        def around(commit: Callable[[], Any]) -> Any:
            if not process.alive:
                raise PowerCutError
            if self.dies(f"before {name} commit"):
                process.die()
                raise PowerCutError
            result = commit()
            if self.dies(f"after {name} commit"):
                process.die()
                raise PowerCutError
            return result

        return around

    def _node(self, database: Database, key_database: Database) -> Node:
        store = KeyStore(key_database, self.keys.storage.row_key())

        async def fetch(_peer: Member) -> None:
            """Replaced by the network."""

        async def nobody_answers(_peer: Member, _receipts: object) -> None:
            """Replaced by the network."""

        return Node(
            agency=self.agency,
            issuer=f"https://{self.agency}.example",
            synthetic=True,
            limits=LIMITS,
            storage_key=self.keys.storage,
            node_key=self.keys.node,
            keyring=None if self.blind else NodeKeyring(self.keys.agency, store),
            sealed_rows=SealedRows(self.keys.storage.row_key()),
            database=database,
            key_store=store,
            token_server=self._tokens,
            statements=STATEMENTS,
            measurements=MEASUREMENTS,
            exercise=False,
            clock=self.now,
            entropy=self.entropy.randbytes,
            world=self._world,
            refresh_world=self._refresh,
            fetch_peer_keys=fetch,
            ask_consent_status=nobody_answers,
        )

    def _world(self) -> World:
        assert self.world is not None
        return self.world

    async def _refresh(self) -> None:
        self.world = self.newest()

    def _no_world(self) -> World:
        raise AssertionError("no roster was put here")


def _never(_point: str) -> bool:
    return False


_NO_TRANSPORT: Any = None
