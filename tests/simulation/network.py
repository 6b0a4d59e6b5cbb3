"""The network between the nodes: loses, delays, doubles, overtakes, and is cut; it never changes a byte.

A request lies here until somebody lets it go on. The oracle sees each batch when it leaves its sender and each answer
when its maker hands it over: what was said from then on counts, whatever the network does with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.machines import Machine, Process
from simulation.one_thread import OneThread

from exchange.federation.transport import PeerUnreachableError
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer
from exchange.schemas.node import NodeCard
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.errors import UseCaseError
from exchange.use_cases.receive_envelopes import receive_envelopes

OLD_LETTERS = 12


@dataclass(slots=True, eq=False)
class Letter:
    """One batch on its way, and then its answer on the way back."""

    number: int
    sender: Machine
    receiver: Machine
    body: bytes
    waiting: asyncio.Future[BatchAnswer] | None
    """The courier that waits for the answer; nothing for a copy."""
    answer: BatchAnswer | None = None


@dataclass(slots=True)
class Watch:
    """Who hears what leaves and what is answered."""

    leaves: Callable[[Machine, Machine, bytes], None]
    answered: Callable[[Machine, Machine, bytes, BatchAnswer], None]


@dataclass(slots=True)
class Network:
    """All letters under way."""

    loop: OneThread
    machines: dict[str, Machine]
    watch: Watch
    cut: set[frozenset[str]] = field(default_factory=set)
    """Pairs that cannot reach each other now."""
    under_way: list[Letter] = field(default_factory=list)
    old: list[Letter] = field(default_factory=list)
    """What arrived before, and may arrive again."""
    sent: int = 0

    def transport(self, machine: Machine, process: Process) -> Way:
        """The port of one process."""
        return Way(self, machine, process)

    def reachable(self, one: Machine, other: Machine) -> bool:
        """Whether a letter can get through now."""
        return (
            frozenset({one.agency, other.agency}) not in self.cut and other.process is not None and other.process.alive
        )

    def arrive(self, letter: Letter) -> None:
        """The batch reaches the receiver's node, which begins to work on it."""
        receiver = letter.receiver
        if not self.reachable(letter.sender, receiver):
            self.lose(letter)
            return
        self.old = [*self.old[-OLD_LETTERS:], Letter(letter.number, letter.sender, receiver, letter.body, None)]
        process = receiver.process
        assert process is not None

        async def work() -> None:
            try:
                answer = await receive_envelopes(process.node, letter.sender.agency, letter.body)
            except UseCaseError:
                self.lose(letter)
                return
            except Exception:
                self.lose(letter)
                raise
            if not process.alive:
                self.lose(letter)
                return
            self.watch.answered(letter.sender, receiver, letter.body, answer)
            letter.answer = answer
            if letter.waiting is not None:
                self.under_way.append(letter)

        task = receiver.run(work())
        task.add_done_callback(lambda done: self._cancelled(done, letter))

    def come_back(self, letter: Letter) -> None:
        """The answer reaches the courier that waits for it."""
        assert letter.answer is not None
        if not self.reachable(letter.receiver, letter.sender):
            self.lose(letter)
        elif letter.waiting is not None and not letter.waiting.done():
            letter.waiting.set_result(letter.answer)

    def lose(self, letter: Letter) -> None:
        """It is gone; whoever waits is told that nothing came."""
        if letter.waiting is not None and not letter.waiting.done():
            letter.waiting.set_exception(PeerUnreachableError("no-connection"))

    def copy(self, letter: Letter) -> None:
        """The same batch once more."""
        self.under_way.append(Letter(letter.number, letter.sender, letter.receiver, letter.body, None))

    def _cancelled(self, task: asyncio.Task[None], letter: Letter) -> None:
        if task.cancelled():
            self.lose(letter)


class Way:
    """`PeerTransport` in memory, of one process."""

    def __init__(self, network: Network, machine: Machine, process: Process) -> None:
        self._network = network
        self._machine = machine
        self._process = process

    async def post_envelopes(self, peer: Member, body: bytes) -> BatchAnswer:
        network, receiver = self._network, self._network.machines.get(peer.agency)
        if receiver is None or not self._process.alive:
            raise PeerUnreachableError("no-connection")
        network.watch.leaves(self._machine, receiver, body)
        network.sent += 1
        waiting: asyncio.Future[BatchAnswer] = network.loop.create_future()
        network.under_way.append(Letter(network.sent, self._machine, receiver, body, waiting))
        return await waiting

    async def node_card(self, peer: Member) -> NodeCard:
        receiver = self._network.machines.get(peer.agency)
        if receiver is None or not self._network.reachable(self._machine, receiver):
            raise PeerUnreachableError("no-connection")
        return await node_card(receiver.node, revocations=True)

    async def greet(self, peer: Member) -> None:
        """Not simulated: a peer hears of this node with the next batch."""

    async def close(self) -> None:
        pass
