"""How a signal reaches the other processes of a node.

On PostgreSQL it is a NOTIFY inside the transaction: it arrives exactly if the commit does. On SQLite a process owns a
named pipe for each signal it waits for, in the folder `<database>-wake`, and a committing process writes one byte into
each pipe of its signals: who does not wait for a signal is not woken by it.
`docs/decisions/0006-two-databases.md` says what else was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

import psycopg
from sqlalchemy import URL, Connection, text

from exchange.storage.engine import CONNECT_TIMEOUT_S, ends_when_gone, own_options
from exchange.storage.errors import NOT_OPENED, StorageUnavailableError

SignalName = Literal["outbox", "inbox", "changes"]
SIGNALS: Final[tuple[SignalName, ...]] = get_args(SignalName)
Wakeful = Callable[[Iterable[str]], None]

_LOG: Final = logging.getLogger(__name__)
_RECONNECT_AFTER_S: Final = 1.0
_PIPE_READ_BYTES: Final = 4096
_SIGN: Final = b"\x01"


class Channel(Protocol):
    """The way between processes."""

    def listen(self, wake: Wakeful, name: SignalName) -> None:
        """Passes on this signal of others; called inside the event loop, once a name until `close`."""

    def announce(self, connection: Connection, names: Iterable[str]) -> None:
        """Adds signals to the transaction."""

    def send(self, names: Iterable[str]) -> None:
        """Sends signals after the commit; never raises."""

    async def close(self) -> None:
        """Stops listening."""


class PipeChannel:
    """Named pipes beside a SQLite file, readable and writable for the owner of the node alone."""

    def __init__(self, database: Path) -> None:
        """Look whether this user may listen.

        Raises:
            StorageUnavailableError: another one made the folder.
        """
        self._folder = database.with_name(database.name + "-wake")
        self._pipes: dict[str, int] = {}
        if self._folder.exists() and not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise StorageUnavailableError(NOT_OPENED)

    def listen(self, wake: Wakeful, name: SignalName) -> None:
        """Creates this process's pipe for the signal and reads it whenever something arrives."""
        self._make_folder()
        own = f"{os.getpid()}-{secrets.token_hex(4)}.{name}"
        unopened = self._folder / f".{own}"
        os.mkfifo(unopened, 0o600)
        # Open for both directions: a pipe whose last writer closed would report end-of-file for ever.
        descriptor = os.open(unopened, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        # Visible only now, since a sender removes a pipe that nobody has open.
        self._pipes[str(unopened.rename(self._folder / own))] = descriptor

        def receive() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, _PIPE_READ_BYTES)
                wake([name])

        asyncio.get_running_loop().add_reader(descriptor, receive)

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                # Served once by root, and then by its own user, who could not listen.
                above = self._folder.parent.stat()
                os.chown(self._folder, above.st_uid, above.st_gid)

    def announce(self, connection: Connection, names: Iterable[str]) -> None:
        """Nothing: SQLite has no signals of its own."""

    def send(self, names: Iterable[str]) -> None:
        """Writes a byte into every pipe of other processes for one of these names."""
        endings = tuple(f".{name}" for name in names)
        try:
            pipes = [
                entry.path
                for entry in os.scandir(self._folder)
                if entry.name.endswith(endings) and not entry.name.startswith(".")
            ]
        except OSError:
            return  # Nobody has ever waited here.
        for pipe in pipes:
            if pipe not in self._pipes:
                _write(pipe)

    async def close(self) -> None:
        """Removes this process's pipes."""
        pipes, self._pipes = self._pipes, {}
        for pipe, descriptor in pipes.items():
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
            _remove(pipe)


def _write(pipe: str) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Nobody has it open: its process was killed.
        _remove(pipe)
        return
    try:
        with contextlib.suppress(OSError):  # Full: its reader has more than enough to wake for.
            os.write(descriptor, _SIGN)
    finally:
        os.close(descriptor)


def _remove(pipe: str) -> None:
    with contextlib.suppress(OSError):
        Path(pipe).unlink()


class NotifyChannel:
    """LISTEN and NOTIFY, over one connection of its own that is opened again when it breaks."""

    _CHANNEL: Final = "exchange_wake"

    def __init__(self, url: URL) -> None:
        # It only listens: without that it would never hear that the server's machine is gone.
        url = ends_when_gone(url)
        # As the engines read the address: libpq reads some that were written by SQLAlchemy otherwise, or not at all.
        _, said = url.get_dialect()().create_connect_args(url)
        self._arguments: dict[str, Any] = {**said, "options": own_options(url), "connect_timeout": CONNECT_TIMEOUT_S}
        # Marks this process's own signals, which have woken everybody here already.
        self._own = secrets.token_hex(8)
        self._listener: asyncio.Task[None] | None = None
        self._interrupted = False

    def listen(self, wake: Wakeful, name: SignalName) -> None:  # noqa: ARG002 - one connection hears them all
        """Starts the task that listens."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen_for_ever(wake))

    async def _listen_for_ever(self, wake: Wakeful) -> None:
        while True:
            try:
                await self._listen_once(wake)
            except psycopg.Error as error:
                if not self._interrupted:  # said once, and not every second of an outage
                    _LOG.warning("signals of the database are interrupted", extra={"error": type(error).__name__})
                self._interrupted = True
            await asyncio.sleep(_RECONNECT_AFTER_S)

    async def _listen_once(self, wake: Wakeful) -> None:
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **self._arguments)
        async with connection:
            await connection.execute(f"LISTEN {self._CHANNEL}")
            self._interrupted = False
            # Whatever was signalled before this moment was missed.
            wake(SIGNALS)
            async for notice in connection.notifies():
                sender, _, names = notice.payload.partition(" ")
                if sender != self._own:
                    wake(names.split())

    def announce(self, connection: Connection, names: Iterable[str]) -> None:
        """Adds one NOTIFY to the transaction."""
        payload = " ".join([self._own, *names])
        if payload != self._own:
            values = {"channel": self._CHANNEL, "payload": payload}
            connection.execute(text("SELECT pg_notify(:channel, :payload)"), values)

    def send(self, names: Iterable[str]) -> None:
        """Nothing: the commit has sent them."""

    async def close(self) -> None:
        """Ends the task that listens."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener
