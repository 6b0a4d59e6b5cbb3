"""The network between the nodes: loses, delays, doubles, overtakes, and is cut; it never changes a byte.

A request lies here until somebody lets it go on. The oracle sees each batch when it leaves its sender and each answer
when its maker hands it over: what was said from then on counts, whatever the network does with it.

A question about consents goes the same way, and may go astray: to another node than it is for, or what comes back is
what was said to an earlier one. Its asker waits as long as over HTTP; what comes later reaches nobody. Of a greeting
there is what its receiver's node does with the proof in it, and with the time in that; signing and checking it is not
simulated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation.federations import NO_OTHERS
from simulation.machines import Machine, Process
from simulation.one_thread import OneThread

from exchange.federation.transport import CONSENT_STATUS_S, PeerUnreachableError, exchange_s
from exchange.oauth.client_proof import UsedJti
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer, ConsentStatusAnswer, ConsentStatusRequest
from exchange.schemas.node import NodeCard
from exchange.use_cases.authenticate import remember_jti
from exchange.use_cases.consent_status import consent_status
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.errors import UseCaseError
from exchange.use_cases.node import Node
from exchange.use_cases.receive_envelopes import receive_envelopes

OLD_LETTERS = 12
_TOKEN_LIVES_MS = 300_000


class Heard:
    """A greeting was heard: there is nothing to say to it."""


Answer = BatchAnswer | ConsentStatusAnswer | Heard


@dataclass(slots=True, eq=False)
class Letter:
    """One batch on its way, and then its answer on the way back."""

    number: int
    sender: Machine
    receiver: Machine
    body: bytes
    waiting: asyncio.Future[Any] | None
    """Who waits for the answer; nobody for a copy."""
    key: bytes
    """By which node key its sender proves who it is."""
    answer: Answer | None = None

    async def read(self, node: Node) -> Answer:
        """What a node makes of it."""
        return await receive_envelopes(node, self.sender.agency, self.body)

    def again(self) -> Letter:
        """The same, for whose answer nobody waits."""
        return type(self)(self.number, self.sender, self.receiver, self.body, None, self.key)

    def __str__(self) -> str:
        return f"letter {self.number}"


@dataclass(slots=True, eq=False)
class Question(Letter):
    """One question about consents, and then what was said to it."""

    async def read(self, node: Node) -> ConsentStatusAnswer:
        return await consent_status(node, self.sender.agency, ConsentStatusRequest.model_validate_json(self.body))

    @property
    def receipts(self) -> tuple[str, ...]:
        """What is asked about."""
        return ConsentStatusRequest.model_validate_json(self.body).receipts

    def __str__(self) -> str:
        return f"question {self.number}"


@dataclass(slots=True, eq=False)
class Greeting(Letter):
    """A node that was away says that it is there; a copy of it is a replay."""

    async def read(self, node: Node) -> Heard:
        _, said = self.body.decode().split()
        if abs(int(said) - node.clock()) > _TOKEN_LIVES_MS:
            raise UseCaseError("clocks-differ", "Set the clock.")
        used = UsedJti(self.sender.agency, self.body.decode(), node.clock() + _TOKEN_LIVES_MS)
        await remember_jti(node, used, peer=True)
        return Heard()

    def __str__(self) -> str:
        return f"greeting {self.number}"


@dataclass(slots=True)
class Watch:
    """Who hears what leaves, what is answered, and what was said about consents where it is waited for."""

    leaves: Callable[[Machine, Machine, bytes], None]
    answered: Callable[[Letter], None]
    heard: Callable[[Question, str], None]
    """The question, and whom its asker meant."""


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
    said: list[ConsentStatusAnswer] = field(default_factory=list)
    """What was said about consents before, and may come back for another question."""
    meant: dict[int, str] = field(default_factory=dict)
    """By question: whom its asker meant."""
    sent: int = 0
    addresses: Callable[[str], str] = NO_OTHERS.address
    """Who is at an address now; two that have exchanged theirs are at each other's."""

    def begin_anew(self, machines: dict[str, Machine], watch: Watch) -> None:
        """Nothing is under way, nothing ever was, and everybody is at the first address."""
        self.addresses = NO_OTHERS.address
        self.machines, self.watch, self.sent = machines, watch, 0
        for kept in (self.cut, self.under_way, self.old, self.said, self.meant):
            kept.clear()

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
        if not (self.reachable(letter.sender, receiver) and self._lets_in(receiver, letter)):
            self.lose(letter)
            return
        self.old = [*self.old[-OLD_LETTERS:], letter.again()]
        process = receiver.process
        assert process is not None

        async def work() -> None:
            try:
                answer = await letter.read(process.node)
            except UseCaseError:
                self.lose(letter)
                return
            except Exception:
                self.lose(letter)
                raise
            if not process.alive:
                self.lose(letter)
                return
            letter.answer = answer
            self.watch.answered(letter)
            if isinstance(answer, ConsentStatusAnswer):
                self.said = [*self.said[-OLD_LETTERS:], answer]
            if letter.waiting is not None:
                self.under_way.append(letter)

        task = receiver.run(work())
        task.add_done_callback(lambda done: self._cancelled(done, letter))

    def _lets_in(self, receiver: Machine, letter: Letter) -> bool:
        """Nobody gets a token by another key than the one that the roster there lists."""
        member = receiver.node.world().roster.members.get(letter.sender.agency)
        return member is not None and member.node_key == letter.key

    def come_back(self, letter: Letter) -> None:
        """The answer reaches whoever waits for it."""
        assert letter.answer is not None
        if not self.reachable(letter.receiver, letter.sender):
            self.lose(letter)
        elif letter.waiting is not None and not letter.waiting.done():
            if isinstance(letter, Question):
                self.watch.heard(letter, self.meant[letter.number])
            letter.waiting.set_result(letter.answer)

    def lose(self, letter: Letter) -> None:
        """It is gone; whoever waits is told that nothing came."""
        if letter.waiting is not None and not letter.waiting.done():
            letter.waiting.set_exception(PeerUnreachableError("no-connection"))

    def copy(self, letter: Letter) -> None:
        """The same once more."""
        self.under_way.append(letter.again())

    def goes_astray(self, question: Question, chance: random.Random) -> None:
        """Any node gets it, perhaps the asker's own; on its way back it becomes what was said to any other."""
        if question.answer is None:
            question.receiver = chance.choice(list(self.machines.values()))
        else:
            question.answer = chance.choice(self.said)

    def _cancelled(self, task: asyncio.Task[None], letter: Letter) -> None:
        if task.cancelled():
            self.lose(letter)


class Way:
    """`PeerTransport` in memory, of one process."""

    def __init__(self, network: Network, machine: Machine, process: Process) -> None:
        self._network = network
        self._machine = machine
        self._process = process

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:  # noqa: ARG002 - at once
        receiver = self._other(peer)
        self._network.watch.leaves(self._machine, receiver, body)
        answer: BatchAnswer = await self._send(Letter, receiver, body)
        return answer

    async def consent_status(self, peer: Member, receipts: Sequence[str]) -> ConsentStatusAnswer:
        receiver = self._other(peer)
        body = ConsentStatusRequest(receipts=tuple(receipts)).model_dump_json().encode()
        try:
            async with asyncio.timeout(CONSENT_STATUS_S):
                answer: ConsentStatusAnswer = await self._send(Question, receiver, body, peer.agency)
        except TimeoutError:
            raise PeerUnreachableError("timeout") from None
        return answer

    def _other(self, peer: Member) -> Machine:
        """Who is at the address that the roster here says."""
        address = peer.node_url.removeprefix("https://").removesuffix(".example")
        receiver = self._network.machines.get(self._network.addresses(address))
        if receiver is None or not self._process.alive:
            raise PeerUnreachableError("no-connection")
        return receiver

    async def _send(self, what: type[Letter], receiver: Machine, body: bytes, meant: str = "") -> Any:
        network = self._network
        network.sent += 1
        network.meant[network.sent] = meant or receiver.agency
        waiting: asyncio.Future[Any] = network.loop.create_future()
        key = self._process.node.node_key.public
        network.under_way.append(what(network.sent, self._machine, receiver, body, waiting, key))
        return await waiting

    async def node_card(self, peer: Member) -> NodeCard:
        receiver = self._other(peer)
        if not self._network.reachable(self._machine, receiver):
            raise PeerUnreachableError("no-connection")
        try:
            return await node_card(receiver.node, revocations=True)
        except UseCaseError:
            raise PeerUnreachableError("busy") from None

    async def greet(self, peer: Member) -> None:
        proof = f"proof-{self._network.sent} {self._machine.now()}".encode()
        try:
            async with asyncio.timeout(exchange_s(len(proof))):
                await self._send(Greeting, self._other(peer), proof)
        except TimeoutError:
            raise PeerUnreachableError("timeout") from None

    async def close(self) -> None:
        pass
