"""The writer: functions that are queued at the same moment share one commit.

Rules:

* A caller gets its answer only after the commit that holds its work. If that commit fails, every caller of the batch
  gets an error, and nobody is told that something is stored.
* Each function has its own savepoint: what one raises undoes that one only and reaches its own caller. What neighbours
  ask of one function together shares one; if it fails, each of them gets its own.
* Where PostgreSQL asks to run a batch again it runs again once as a whole, then each function by itself. A commit of
  unknown outcome is never repeated here; the caller repeats it under the same id.
* A caller that is cancelled before its function started has asked for nothing; afterwards the work is finished and
  nobody waits for the answer. The others of the batch do not notice either.
* Signals and hooks happen after the commit and before the answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from exchange.storage.errors import (
    BatchConflictError,
    BatchLostError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
    for_caller,
)
from exchange.storage.lanes import Job, Lane
from exchange.storage.transaction import Effects, TransactionFunction

T = TypeVar("T")

BATCH_LIMIT: Final = 200
QUEUE_LIMIT: Final = 5_000
"""Above this the node is overloaded, and says so at once instead of letting every caller time out."""
_ATTEMPTS_TOGETHER: Final = 2
_ATTEMPTS_ALONE: Final = 3

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call(Job):
    """A job whose caller waits."""

    future: asyncio.Future[Any] = field(kw_only=True)


class Writer:
    """Queues the transaction functions of one process; belongs to one event loop."""

    def __init__(self, lane: Lane, signal: Callable[[Iterable[str]], None]) -> None:
        self._lane = lane
        self._signal = signal
        self._queue: deque[_Call] = deque()
        self._carriers: set[asyncio.Task[None]] = set()
        self._carrying = 0
        self._closed = False

    async def submit(self, function: TransactionFunction[T], *, durable: bool = True) -> T:
        """What the function returned, once it is committed, and durable unless that is not asked for.

        Raises:
            StorageUnavailableError: nothing is stored, or (`CommitFailedError`) nobody knows.
            Exception: what the function raised; nothing of it is stored.
        """
        if self._closed:
            raise StorageClosedError("This node is shutting down.")
        if len(self._queue) >= QUEUE_LIMIT:
            raise StorageBusyError("Too many writes are waiting already.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Call(function, durable, future=future))
        if self._carrying < self._lane.width:
            # Counted here, and uncounted by the carrier's own last step: between its end and its task's callbacks
            # somebody may queue a function, which must not be left lying.
            self._carrying += 1
            carrier = asyncio.create_task(self._carry())
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)
        return await future

    async def close(self) -> None:
        """Finishes what is queued, takes nothing more, and gives back connections and threads."""
        self._closed = True
        while self._carriers:
            await asyncio.wait(self._carriers)
        self._lane.close()

    async def _carry(self) -> None:
        try:
            while self._queue:
                await self._carry_out(self._take())
        finally:
            self._carrying -= 1

    async def _carry_out(self, jobs: list[_Call]) -> None:
        if not jobs:
            return
        try:
            await self._settle(jobs)
        except BaseException as error:
            # A cancelled loop or a mistake in here: no caller may wait for ever.
            _fail(jobs, StorageClosedError("The work was interrupted; repeat the same request."))
            if not isinstance(error, Exception):
                raise
            _LOG.error("storage writer failed", extra={"error": type(error).__name__})

    def _take(self) -> list[_Call]:
        jobs: list[_Call] = []
        while self._queue and len(jobs) < BATCH_LIMIT:
            job = self._queue.popleft()
            if not job.future.done():
                jobs.append(job)
        return jobs

    async def _settle(self, jobs: list[_Call]) -> None:
        for _ in range(_ATTEMPTS_TOGETHER):
            try:
                effects = await self._lane.execute(jobs)
            except BatchConflictError:
                continue
            except BatchLostError as lost:
                if isinstance(lost.reason, StorageUnavailableError):
                    _fail(jobs, lost.reason)
                    return
                break
            except Exception as error:  # noqa: BLE001 - nothing of the batch is stored, whatever it was
                _fail(jobs, error)
                return
            self._finish(jobs, effects)
            return
        for job in jobs:
            await self._settle_alone(job)

    async def _settle_alone(self, job: _Call) -> None:
        for _ in range(_ATTEMPTS_ALONE):
            if job.future.done():
                return
            try:
                effects = await self._lane.execute([job])
            except BatchConflictError:
                continue
            except BatchLostError as lost:
                _fail([job], lost.reason)
            except Exception as error:  # noqa: BLE001 - nothing of it is stored, whatever it was
                _fail([job], error)
            else:
                self._finish([job], effects)
            return
        _fail([job], StorageBusyError("Other writers change the same rows; try again."))

    def _finish(self, jobs: list[_Call], effects: Effects) -> None:
        happen(effects, self._signal)
        for job in jobs:
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(for_caller(job.error))
            else:
                job.future.set_result(job.result)


def happen(effects: Effects, signal: Callable[[Iterable[str]], None]) -> None:
    """Sends signals and runs hooks of a committed transaction; its rows are stored, so nothing here can fail it."""
    try:
        if effects.signals:
            signal(dict.fromkeys(effects.signals))
        for hook in effects.hooks:
            hook()
    except Exception as error:  # noqa: BLE001
        _LOG.error("after-commit work failed", extra={"error": type(error).__name__})


def _fail(jobs: list[_Call], error: Exception) -> None:
    seen = for_caller(error)
    for job in jobs:
        if not job.future.done():
            # One instance each: a traceback belongs to one raise.
            job.future.set_exception(type(seen)(*seen.args) if isinstance(seen, StorageUnavailableError) else seen)
