"""A TCP relay on loopback that counts what passes: between two nodes, so that bytes on the wire are bytes that went.

It counts what TCP carries: requests, answers, headers, tokens. Not counted: headers of TCP and IP (about 40 bytes a
packet), and TLS, which the proxy in front of a node adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.nodes import Node
from exchange.demo.federation import LOOPBACK

PACKET_BYTES: Final = 1400


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


@dataclass(frozen=True, slots=True)
class Shape:
    """A bad line. What TCP makes of a lost packet is seen here: it comes a round trip later, and counts twice."""

    bytes_a_s: float
    one_way_s: float
    loss: float


class Relay:
    """Listens at a node's public address and passes on to where the node listens."""

    shape: Shape | None = None
    """What connections from now on go over; loopback unless set."""

    def __init__(self, node: Node) -> None:
        self._from_port, self._to_port = node.made.port, node.port
        self._counted = Counted()
        self._free_at = {"bytes_asked": 0.0, "bytes_answered": 0.0}
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
        shape = self.shape
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                if shape is not None:
                    await self._shake_hands(shape)
                to_reader, to_writer = await asyncio.open_connection(LOOPBACK, self._to_port)
                there, back = (reader, to_writer, "bytes_asked"), (to_reader, writer, "bytes_answered")
                try:
                    if shape is None:
                        await asyncio.gather(self._pass(*there), self._pass(*back))
                    else:
                        await asyncio.gather(self._pass_slowly(*there, shape), self._pass_slowly(*back, shape))
                finally:
                    to_writer.close()
        finally:
            writer.close()

    async def _shake_hands(self, shape: Shape) -> None:
        wait = 1.0
        while random.random() < 1 - (1 - shape.loss) ** 2:  # noqa: S311 - a model
            await asyncio.sleep(wait)
            wait *= 2
        await asyncio.sleep(2 * shape.one_way_s)

    async def _pass_slowly(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, shape: Shape
    ) -> None:
        on_their_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await on_their_way.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        arriving, last = asyncio.create_task(arrive()), 0.0
        try:
            while True:
                data = await reader.read(PACKET_BYTES)
                sent = 1
                while data and random.random() < shape.loss:  # noqa: S311 - a model
                    sent += 1
                setattr(self._counted, name, getattr(self._counted, name) + sent * len(data))
                now = time.monotonic()
                free = self._free_at[name] = max(now, self._free_at[name]) + sent * len(data) / shape.bytes_a_s
                last = max(last, free + shape.one_way_s * (2 * sent - 1))
                on_their_way.put_nowait((last, data))
                if not data:
                    break
                await asyncio.sleep(free - now)
            await arriving
        finally:
            arriving.cancel()

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
