"""Signals "there is something new": between the tasks of a process, and between the processes of a node.

Rules:

* A signal belongs to a transaction (`exchange.storage.transaction.signal`) and is sent only if that is committed.
* A signal carries its name and nothing else; whoever wakes looks into the database.
* Signals between processes may get lost (a process killed between its commit and its signal), so nobody waits without
  a timeout, and looks again when it ends.
* A process that is about to end lets go: who waits is woken, and nobody waits any more (`ending`).

Between look and wait nothing is missed with a mark:

    mark = wake.mark("inbox")
    rows = await database.read(...)
    if not rows:
        await wake.wait("inbox", 25.0, since=mark)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from exchange.storage.wake_channels import SIGNALS, Channel, SignalName


class Wake:
    """The waiting side, and the sending side of this process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._counts: dict[str, int] = dict.fromkeys(SIGNALS, 0)
        self._waiting: dict[str, set[asyncio.Future[None]]] = {name: set() for name in SIGNALS}
        self._heard: set[SignalName] = set()
        self.ending = False
        """This process is about to end: answer with what is there."""

    def mark(self, name: SignalName) -> int:
        """How often `name` was signalled; take it before looking into the database."""
        self._listen(name)
        return self._counts[name]

    async def wait(self, name: SignalName, timeout: float, *, since: int | None = None) -> bool:  # noqa: ASYNC109
        """Waits until `name` is signalled, at most `timeout` seconds; False if it was not.

        Args:
            name: what to wait for.
            timeout: seconds.
            since: an earlier `mark`; a signal that came after it ends the wait at once.
        """
        self._listen(name)
        if since is not None and self._counts[name] != since:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name].add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting[name].discard(future)
        return True

    def wake(self, names: Iterable[str]) -> None:
        """Wakes those who wait in this process."""
        for name in names:
            # A newer version of another process may know names that this one does not.
            if name not in self._counts:
                continue
            self._counts[name] += 1
            for future in self._waiting[name]:
                if not future.done():
                    future.set_result(None)

    def send(self, names: Iterable[str]) -> None:
        """Wakes those who wait in this process and in the others of the node; called after the commit."""
        names = tuple(names)
        self.wake(names)
        self._channel.send(names)

    def let_go(self) -> None:
        """Wakes everybody for good: this process is about to end."""
        self.ending = True
        self.wake(SIGNALS)

    async def close(self) -> None:
        """Stops listening. Who still waits is woken, finds the database closed, and ends."""
        self._heard.clear()
        await self._channel.close()
        self.wake(SIGNALS)

    def _listen(self, name: SignalName) -> None:
        if name not in self._heard:
            self._channel.listen(self.wake, name)
            self._heard.add(name)
