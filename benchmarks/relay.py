"""A TCP relay on loopback that counts what passes: between two nodes, so that bytes on the wire are bytes that went.

It counts what TCP carries: requests, answers, headers, tokens. Not counted: headers of TCP and IP (about 40 bytes a
packet), and TLS, which the proxy in front of a node adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.nodes import Node
from exchange.demo.federation import LOOPBACK


@dataclass(slots=True)
class Counted:
    """What has passed so far."""

    bytes_asked: int = 0
    bytes_answered: int = 0
    connections: int = 0

    def __sub__(self, earlier: Counted) -> Counted:
        return Counted(
            self.bytes_asked - earlier.bytes_asked,
            self.bytes_answered - earlier.bytes_answered,
            self.connections - earlier.connections,
        )

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.bytes_asked + other.bytes_asked,
            self.bytes_answered + other.bytes_answered,
            self.connections + other.connections,
        )

    @property
    def both_ways(self) -> int:
        """Bytes of both directions."""
        return self.bytes_asked + self.bytes_answered


class Relay:
    """Listens at a node's public address and passes on to where the node listens."""

    def __init__(self, node: Node) -> None:
        self._from_port, self._to_port = node.made.port, node.port
        self._counted = Counted()
        self._tasks: set[asyncio.Task[None]] = set()

    def counted(self) -> Counted:
        """What has passed so far."""
        return Counted() + self._counted

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Until told to stop."""
        server = await asyncio.start_server(self._connection, LOOPBACK, self._from_port)
        ready.set()
        async with server:
            await stop.wait()
            ending = list(self._tasks)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._counted.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                to_reader, to_writer = await asyncio.open_connection(LOOPBACK, self._to_port)
                try:
                    await asyncio.gather(
                        self._pass(reader, to_writer, "bytes_asked"), self._pass(to_reader, writer, "bytes_answered")
                    )
                finally:
                    to_writer.close()
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        while data := await reader.read(65536):
            setattr(self._counted, name, getattr(self._counted, name) + len(data))
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@dataclass(frozen=True, slots=True)
class Between:
    """The relays in front of both nodes."""

    to_shelter: Relay
    to_helpline: Relay

    def counted(self) -> Counted:
        """What has passed between the nodes so far, whoever asked."""
        return self.to_shelter.counted() + self.to_helpline.counted()


@contextmanager
def relayed(helpline: Node, shelter: Node) -> Iterator[Between]:
    """Relays at the public addresses of two nodes that listen elsewhere."""
    with ExitStack() as running:
        between = Between(Relay(shelter), Relay(helpline))
        for relay in (between.to_shelter, between.to_helpline):
            running.enter_context(_running(relay))
        yield between


@contextmanager
def _running(relay: Relay) -> Iterator[None]:
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(relay.run(ready, stop)), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
