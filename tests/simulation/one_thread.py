"""An event loop without threads, sockets or a clock of its own: the same steps in the same order, every time.

Time is the simulation's. What the node does in a thread (the wait for a commit) is done at once, in this thread, and
answered through the loop like any other. Nothing ever waits for real: where nothing can go on, `settle` returns.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class _NothingToSelect:
    def select(self, _timeout: float | None) -> list[Any]:
        return []


class OneThread(asyncio.BaseEventLoop):
    """The loop of a whole federation; its clock is `clock`, in Unix milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NothingToSelect()
        # Below this, times are equal: a timer that is due now runs now, also where a float holds no smaller step.
        self._clock_resolution = 0.0005
        self.set_default_executor(AtOnce())
        self.failures: list[BaseException] = []
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self._clock() / 1000

    def settle(self) -> None:
        """Run everything that can run now; what waits for the network goes on waiting."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()):
                self._run_once()
        finally:
            events._set_running_loop(before)

    def begin_anew(self) -> None:
        """Forget what a history that is over was still waiting for."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        for timer in self._scheduled:
            timer.cancel()
        self._scheduled.clear()
        self.failures.clear()

    def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that needs nobody else."""
        task = self.create_task(work)
        self.settle()
        if not task.done():
            task.cancel()
            self.settle()
            raise RuntimeError("this waits for something that never comes")
        return task.result()

    def _failed(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(error if isinstance(error, BaseException) else RuntimeError(context["message"]))

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class AtOnce(ThreadPoolExecutor):
    """Does what it is given at once, in the caller's thread; `around` may refuse, before or after."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        super().__init__(1)
        self.around: Callable[[Callable[[], Any]], Any] | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            result = fn(*args, **kwargs) if self.around is None else self.around(lambda: fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits
            done.set_exception(error)
        else:
            done.set_result(result)
        return done
