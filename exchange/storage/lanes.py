"""How a batch is executed on each kind of database.

On SQLite the statements run on the event loop and only the commit (the wait for the disk) in a thread: a thread that
executes statements fights for the interpreter lock at each of them. Where one function is alone and the disk was quick
the last time, its commit goes to no thread either: waking one takes longer than the disk. The lock of the file is asked
for without waiting, and again a moment later where another process holds it. On PostgreSQL a few threads each carry a
batch over their own connection. `docs/decisions/0007-writer.md` has the measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine

from exchange.storage.engine import BUSY_TIMEOUT_MS, WRITE_CONNECTIONS, FileIdentity, SqliteFile
from exchange.storage.errors import (
    BatchConflictError,
    BatchLostError,
    CommitFailedError,
    StorageBusyError,
    as_unavailable,
)
from exchange.storage.transaction import Effects, Share, Together, Transaction, TransactionFunction

T = TypeVar("T")
P = ParamSpec("P")

_LOCK_AGAIN_S: Final = 0.001
_QUICK_S: Final = 0.005
"""A disk that took less for the last commit is waited for on the event loop by whoever is alone."""
YIELD_EVERY: Final = 32
"""Functions of a SQLite batch between two turns of the event loop."""

Announce = Callable[[Connection, Iterable[str]], None]
"""Tells other processes about signals, inside the transaction, where the database can do that."""


@dataclass(slots=True, eq=False)
class Job:
    """One function, and what came of it in the latest attempt."""

    function: TransactionFunction[Any]
    durable: bool = True
    """Whether it has to outlive a power cut; a batch of which nothing has to does not wait for the disk."""
    result: Any = None
    error: Exception | None = None


class Lane(Protocol):
    """How a batch is executed on one kind of database."""

    width: int
    """How many batches may be under way at the same time."""

    async def execute(self, jobs: Sequence[Job]) -> Effects:
        """Runs and commits a batch, leaving results and errors in the jobs."""

    def close(self) -> None:
        """Gives back connections and threads; nothing is under way any more."""


def _run_all(transaction: Transaction, jobs: Sequence[Job], *, alone: bool) -> None:
    """Runs what neighbours ask of one function for all of them at once; if that fails, and all else, one by one."""
    for function, group in groupby(jobs, _shared):
        some = list(group)
        if function is None or len(some) == 1 or not _run_together(transaction, function, some):
            for job in some:
                _run(transaction, job, alone=alone)


def _shared(job: Job) -> Together[Any] | None:
    return job.function.function if isinstance(job.function, Share) else None


def _run_together(transaction: Transaction, function: Together[Any], jobs: Sequence[Job]) -> bool:
    """Returns whether it is done; if not, nothing is, and nobody is told why."""
    items = [job.function.item for job in jobs if isinstance(job.function, Share)]
    together = Job(lambda connection: function(connection, items))
    _run(transaction, together, alone=False)
    if together.error is not None:
        return False
    for job in jobs:
        job.result = job.error = None
    return True


def _run(transaction: Transaction, job: Job, *, alone: bool) -> None:
    """Leaves the outcome in the job; lets only those exceptions out that concern the whole batch."""
    job.result = job.error = None
    try:
        job.result = transaction.run(job.function, alone=alone)
    except (BatchConflictError, BatchLostError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a function raises belongs to its own caller
        job.error = error


def _durable(jobs: Sequence[Job]) -> bool:
    return any(job.durable for job in jobs)


def _commit(transaction: Transaction) -> None:
    try:
        transaction.commit()
    except BatchConflictError:
        raise
    except Exception as error:
        raise CommitFailedError("The commit was not confirmed; repeat the same request.") from error


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _unavailable(error: Exception) -> Exception:
    return as_unavailable(error) or error


async def in_thread(executor: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function in a thread; a cancelled caller still waits, so that nobody touches the connection meanwhile."""
    running = executor.submit(function, *args, **kwargs)
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        wait([running])
        raise


class SqliteLane:
    """One connection; statements on the event loop, waiting in one thread."""

    width = 1

    def __init__(self, engine: Engine, file: SqliteFile) -> None:
        self._engine = engine
        self._file = file
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._connection: Connection | None = None
        self._opened: FileIdentity | None = None
        """The file to which the connection is."""
        self._durable = True
        self._disk_s = math.inf
        self._quick_s = _QUICK_S

    async def execute(self, jobs: Sequence[Job]) -> Effects:
        """Runs and commits a batch, leaving results and errors in the jobs."""
        try:
            transaction = await self._begin(_durable(jobs))
        except BaseException as error:
            self._discard()
            if isinstance(error, Exception):
                raise _unavailable(error) from error
            raise
        try:
            for start in range(0, len(jobs), YIELD_EVERY):
                if start:
                    await asyncio.sleep(0)
                _run_all(transaction, jobs[start : start + YIELD_EVERY], alone=len(jobs) == 1)
            if len(jobs) == 1 and jobs[0].error is not None:
                transaction.abandon()
            elif len(jobs) == 1 and self._disk_s < self._quick_s:
                self._timed_commit(transaction)
            else:
                await in_thread(self._executor, self._timed_commit, transaction)
        except BaseException as error:
            transaction.abandon()
            if not isinstance(error, BatchLostError):
                self._discard()
            raise
        return transaction.effects

    def _timed_commit(self, transaction: Transaction) -> None:
        # What changed nothing does not wait for the disk, and says nothing about it.
        waits = self._durable and transaction.changes_something
        started = time.monotonic()
        try:
            _commit(transaction)
        finally:
            if waits:
                self._disk_s = time.monotonic() - started

    async def _begin(self, durable: bool) -> Transaction:
        if self._connection is not None and self._connection.invalidated:
            self._discard()
        found = self._file.check(self._opened)
        if self._connection is None:
            self._connection = self._engine.connect()
            # Looked at again: it may have been replaced while it was opened.
            self._opened = self._file.check(found)
            _driver(self._connection).execute("PRAGMA busy_timeout=0")
            self._durable = True
        if durable != self._durable:
            # The next durable commit takes along what this one left to the operating system.
            _driver(self._connection).execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        await _begin_patiently(_driver(self._connection))
        return Transaction(self._connection)

    def _discard(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Gives back the connection and the thread."""
        self._executor.shutdown()
        self._discard()


async def _begin_patiently(driver: sqlite3.Connection) -> None:
    # Not by SQLite's own waiting: it sleeps longer each time, up to a tenth of a second, while another process takes
    # the lock again and again. And not in a thread: the lock would be held until the loop turns to it.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if time.monotonic() >= deadline or not isinstance(as_unavailable(error), StorageBusyError):
                raise
            await asyncio.sleep(_LOCK_AGAIN_S)
        else:
            return


class PostgresLane:
    """A few connections, each in its own thread."""

    width = WRITE_CONNECTIONS

    def __init__(self, engine: Engine, announce: Announce) -> None:
        self._engine = engine
        self._announce = announce
        self._executor = ThreadPoolExecutor(self.width, thread_name_prefix="write")

    async def execute(self, jobs: Sequence[Job]) -> Effects:
        """Runs and commits a batch, leaving results and errors in the jobs."""
        return await in_thread(self._executor, execute_in_this_thread, self._engine, jobs, self._announce)

    def close(self) -> None:
        """Gives back the threads; the engine's owner disposes of its connections."""
        self._executor.shutdown()


def execute_in_this_thread(engine: Engine, jobs: Sequence[Job], announce: Announce) -> Effects:
    """Runs and commits a batch on a connection of the engine, leaving results and errors in the jobs."""
    try:
        connection = engine.connect()
        if engine.dialect.name == "sqlite":
            _driver(connection).execute("BEGIN IMMEDIATE")
    except Exception as error:
        raise _unavailable(error) from error
    with connection:
        transaction = Transaction(connection)
        try:
            if engine.dialect.name == "postgresql" and not _durable(jobs):
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            _run_all(transaction, jobs, alone=len(jobs) == 1)
            if len(jobs) == 1 and jobs[0].error is not None:
                transaction.abandon()
            else:
                announce(connection, dict.fromkeys(transaction.effects.signals))
                _commit(transaction)
        except (BatchConflictError, BatchLostError, CommitFailedError):
            transaction.abandon()
            raise
        except Exception as error:
            transaction.abandon()
            raise _unavailable(error) from error
    return transaction.effects
