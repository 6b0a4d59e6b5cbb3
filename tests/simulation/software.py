"""An agency's own software, where its node holds no agency key: the real vault on a key store of its own.

Rules:

* The vault (`exchange.client.vault`) is the real one, and so is its key store: a file that outlives every run.
* A run dies before or after any commit of the store, and before or after any call of the node. The next one opens the
  same file. What the dead one was still doing writes nothing and hears nothing.
* It believes the roster that is installed here, which never goes back and may be another than the node's.
* Its clock is the node's: what is judged by a moment is judged by one.
* A history begins with the weekly keys of the template, which lie here and not on the node.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Final, TypeVar, cast

from simulation.line import Line, SoftwareDiedError
from simulation.machines import Machine

from exchange.client.errors import ProblemError
from exchange.client.vault import AgencyVault, VaultError
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.store import AgencyKeyStore, OwnEpoch
from exchange.envelope.epochs import private_half_ends
from exchange.envelope.keys import EpochKey, StorageKey
from exchange.use_cases.errors import ConflictError, GoneError
from exchange.use_cases.node import Node, World

if TYPE_CHECKING:
    from exchange.client.agency_client import AgencyClient

T = TypeVar("T")
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"
"""Of the store itself: one that is added later would else carry what a history left into the next."""
_GONE: Final = 410


class _Store(AgencyKeyStore):
    """The key store as one run of the software has it."""

    def __init__(self, path: Path, software: Software) -> None:
        super().__init__(path, software.storage.row_key(), software.random_bytes)
        self._goes_on = software.watch()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._goes_on("before a commit of the agency's store")
        with super()._writing() as conn:
            yield conn
        self._goes_on("after a commit of the agency's store")


class Software:
    """The software of one agency, beside its machine."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.agency = machine.agency
        self.storage = StorageKey(sha256(f"simulation {machine.agency} office".encode()).digest())
        self.dies: Callable[[str], bool] = _never
        self._chance = random.Random()
        self._path = folder / f"{machine.agency}-office.db"
        self._run: object = object()
        self._world: World | None = None
        self._keys = 0
        self._dead: list[_Store] = []
        self.store = _Store(self._path, self)

    def begin_anew(self, seed: object) -> None:
        """A fresh history: the weekly keys lie here and not on the node, and nothing else does."""
        self._close_the_dead()
        self.dies, self._world, self._keys = _never, None, 0
        self._chance = random.Random(f"software {self.agency} {seed}")
        conn = self.store._connection
        for (table,) in conn.execute(_TABLES).fetchall():
            conn.execute(f"DELETE FROM {table}")
        secret = self.machine.secret
        rows = self.machine.main.rows("SELECT key_id, seq, not_before, not_after, statement FROM own_epoch")
        halves = {row[0]: self.machine.private_half(row[0]) for row in rows}
        self.store.put_epochs(
            OwnEpoch(EpochKey(half), statement, begins, ends, seq, private_half_ends(ends))
            for key_id, seq, begins, ends, statement in rows
            if (half := halves[key_id]) is not None
        )
        secret.eye.execute("DELETE FROM epoch_private")

    def close(self) -> None:
        """Give the file back."""
        self._close_the_dead()
        self.store.close()

    def _close_the_dead(self) -> None:
        for store in self._dead:
            store.close()
        self._dead.clear()

    def random_bytes(self, count: int) -> bytes:
        """From the seed."""
        return self._chance.randbytes(count)

    def private_half(self, key_id: str) -> bytes | None:
        """The private half of one of its weeks, as it lies here now."""
        key = self.store.epoch_key(key_id)
        return None if key is None else key.secret_bytes()

    def watch(self) -> Callable[[str], None]:
        """Asked by this run at each point; raises where it dies, and wherever it is dead."""
        run = self._run

        def goes_on(point: str) -> None:
            if run is self._run and self.dies(point):
                self._starts_again()
            if run is not self._run:
                raise SoftwareDiedError

        return goes_on

    def _starts_again(self) -> None:
        # The dead run's connection stays open for whatever still waits in it: it may read once more, and its next call
        # or commit ends it.
        self._dead.append(self.store)
        self._run = object()
        self.store = _Store(self._path, self)

    async def act(self, node: Node, work: Callable[[AgencyVault], Awaitable[T]]) -> T:
        """One act of this run.

        Raises:
            SoftwareDiedError: it died before it could say.
            ConflictError, GoneError: node or vault refuses, with the code.
        """
        if self.agency not in self.world.roster.members:
            # Its folder does not open: who is not listed is nobody in the federation.
            raise ConflictError("sender-not-active", "The roster here does not list this agency.")
        line = Line(node, self.watch(), self._fresh_key)
        try:
            vault = AgencyVault(self._identity(), cast("AgencyClient", line))
            return await work(vault)
        except VaultError as error:
            raise ConflictError(error.code, error.sentence) from error
        except ProblemError as error:
            kind = GoneError if error.problem.status == _GONE else ConflictError
            raise kind(error.problem.code, error.problem.detail or "") from error

    @property
    def world(self) -> World:
        """The roster and contracts that were put here last."""
        assert self._world is not None
        return self._world

    def _identity(self) -> Identity:
        world = self.world
        roster = world.roster
        self.store.pin_roster(roster.version, roster.digest)
        return Identity(
            roster.member(self.agency),
            self.machine.keys.agency,
            self.store,
            roster,
            world.contracts,
            self.storage.keyed_digest,
            clock=self.machine.now,
            entropy=self.random_bytes,
        )

    def installs(self, world: World) -> None:
        """Somebody puts a roster here; an older one than was used before is left out."""
        if self._world is None or world.roster.version >= self._world.roster.version:
            self._world = world

    def _fresh_key(self) -> str:
        self._keys += 1
        return f"{self.agency}-software-{self._keys}"


def _never(_point: str) -> bool:
    return False
