"""The courier: takes what is queued to the peers it is for. As many processes as you like on one database.

Rules:

* It leases peers, not envelopes: order, batching and retry state of one way are one row. What goes to one of them,
  meanwhile, is `federation.way`.
* Waiting is in the database (`due_at`), so a restart forgets nothing. A peer that is away is tried again on the
  schedule of `limits.retry`, and at once when it gives a sign of life.
* A peer that says that it is enough for now is not called before its time, but with her stops, alone, until it puts off
  these as well.
* A node that was away (started, woken from sleep, listed again by its own roster, or no member has answered when it was
  asked for its card) greets its peers once a minute until something answers: what waits for it there, and what waits
  here for them, goes at once when the line is back, and not when the schedule says. Where a proxy says that there is no
  node, the line is there.
* It is woken by commits; it never relies on being woken.
* By a clock that has jumped ahead nothing is sent before some peer has taken our word for the time: its token is the
  confirmation (`use_cases.clock_jumps`). Until one has, all members are greeted as by a node that is back.
* Whatever goes to a member, its card was asked for as if it were sealed now (`use_cases.peer_cards`): who watches the
  line does not tell her no by a question that is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from exchange.federation.peers import greet_peers, refresh_peers
from exchange.federation.transport import HTTPTransport, PeerTransport, PeerUnreachableError
from exchange.federation.way import Way
from exchange.limits import MINUTE_MS, SECOND_MS
from exchange.roster import Status, UnknownMemberError
from exchange.storage.clock_look import ClockLook
from exchange.storage.peer_leases import PeerLease
from exchange.telemetry.logs import get_logger
from exchange.use_cases.clock_jumps import ClockWatch, clock_jumped, confirm_clock
from exchange.use_cases.destroy import destroy_due
from exchange.use_cases.leasing import claim, give_back, next_wait_ms
from exchange.use_cases.line import Line
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.node import Node
from exchange.use_cases.peer_cards import read_card_again
from exchange.use_cases.release_disclosure import release_due
from exchange.use_cases.row_by_row import PartlyFailedError
from exchange.use_cases.storage_lost import as_outage

WAYS: Final = 16
"""How many peers are served at the same time."""
IDLE_MS: Final = 2 * SECOND_MS
"""The longest sleep without being woken: what a lost signal costs."""
FINISH_MS: Final = 8 * SECOND_MS
"""How long a batch that is under way may take when the courier is told to stop."""
MAINTAIN_EVERY_MS: Final = 5 * SECOND_MS
REFRESH_PEERS_EVERY_MS: Final = 10 * MINUTE_MS
ASLEEP_MS: Final = MINUTE_MS
"""A courier looks at the clock every few seconds; where more than this has passed the machine slept."""


class Courier:
    """Delivers, and keeps the node's clocks. `run` until `stop` is set; `run_once` for tests and simulations."""

    def __init__(self, node: Node, transport: PeerTransport, *, seconds: Callable[[], float] = time.monotonic) -> None:
        """Serve this node over this transport; `seconds` measures what the lines do, and how long this has run."""
        self._node = node
        self._transport = transport
        self._seconds = seconds
        self._ways: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._maintained = 0
        self._destroyed = 0
        self._refreshed = 0
        self._awake = 0
        self._greeted = 0
        self._away = False
        """Whether nothing has answered since this node is back."""
        self._silent = frozenset[str]()
        """Members of whom nothing answered when they were asked for their card the last time."""
        self._is_member = False
        self._watch = ClockWatch(node, seconds)
        self._look: ClockLook | None = None
        self._jumped = False
        self._left: dict[str, dict[str, str | None]] = {}
        """By peer, behind what its next try begins."""
        self._outages: dict[str, str] = {}
        """What each kind of work last said of a database that is away."""
        self._failing: dict[str, dict[str, str]] = {}
        """What of each kind of work failed the last time, and how."""
        self._beside: dict[str, asyncio.Task[None]] = {}
        """What runs beside the clocks: a peer that takes its time, or a destruction that waits for open transactions,
        must not hold up releases and the post."""

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then finish what is on its way."""
        stopping, clocks = asyncio.create_task(stop.wait()), asyncio.create_task(self._keep_clocks(stop))
        stopping.add_done_callback(self._look_again)
        wake = self._node.database.wake
        try:
            while not stop.is_set():
                mark = wake.mark("outbox")
                wait_ms = await self._round()
                if wait_ms > 0:
                    await wake.wait("outbox", wait_ms / SECOND_MS, since=mark)
        finally:
            self._stopping = True
            # What the clocks are at, and a destruction, is finished where there is time.
            others = {stopping, clocks, *self._beside.values()}
            finish = {clocks, self._beside.get("destroy")} if stop.is_set() else set()
            for task in others - finish:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._end_ways()

    async def run_once(self) -> int:
        """Deliver everything that is due now, once; returns how many peers were tried."""
        tried = 0
        while (lease := await self._claim()) is not None:
            await self._serve(lease)
            tried += 1
        return tried

    async def _round(self) -> int:
        """Start to deliver what is due, then do what else must not wait; how long nothing is due."""
        try:
            await self._start_ways()
            self._start_beside("release", self._release_due)
            self._start_beside("destroy", self._destroy_due)
            wait_ms = await self._wait_ms()
        except Exception as error:
            if not self._says_outage("deliver", error):
                raise
            return IDLE_MS
        self._outages.pop("deliver", None)
        return wait_ms

    async def _start_ways(self) -> None:
        while len(self._ways) < WAYS and (lease := await self._claim()) is not None:
            way = asyncio.create_task(self._serve(lease))
            self._ways.add(way)
            way.add_done_callback(self._ways.discard)
            way.add_done_callback(self._look_again)

    def _look_again(self, _: asyncio.Task[Any]) -> None:
        self._node.database.wake.wake(("outbox",))

    async def _wait_ms(self) -> int:
        # With every way taken, whatever is due has to wait until one ends.
        return IDLE_MS if len(self._ways) >= WAYS else await next_wait_ms(self._node, IDLE_MS)

    async def _end_ways(self) -> None:
        """Let what is on its way arrive; a peer that takes too long gets it again after the next start."""
        if self._ways:
            _, late = await asyncio.wait(self._ways, timeout=FINISH_MS / SECOND_MS)
            for way in late:
                way.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _claim(self) -> PeerLease | None:
        return await claim(self._node, secrets.token_hex(8))

    async def _serve(self, lease: PeerLease) -> None:
        """Deliver to one peer and give the lease back; never raises, so that no peer can stop the courier."""
        retry_after_ms = None
        line = Line(lease.carries, self._node.limits, before=self._left.pop(lease.agency, None))
        way = Way(self._node, self._transport, lease, line, seconds=self._seconds, stopping=lambda: self._stopping)
        try:
            try:
                async with way.held():
                    await self._begin(lease)
                    await way.deliver()
            except PeerUnreachableError as error:
                retry_after_ms = error.retry_after_s * SECOND_MS if error.retry_after_s is not None else None
                get_logger().info("peer-not-reached", peer=lease.agency, code=error.code)
            except UnknownMemberError:
                listed = lease.agency in self._node.world().roster.members
                get_logger().warning("not-a-member" if listed else "peer-not-in-roster", peer=lease.agency)
            except asyncio.CancelledError:
                await give_back(self._node, lease, line, reached=False, retry_after_ms=None)
                raise
            else:
                return
            # Who took a batch and then says that it is enough for now is there: the rest goes when it said. Who took it
            # and then does not answer is asked again at once, unless something of it goes again: that would never end.
            there = line.used and (bool(retry_after_ms) or not way.something_waits)
            await give_back(self._node, lease, line, reached=there, retry_after_ms=retry_after_ms)
        except Exception as error:  # noqa: BLE001 - the type says enough for the log
            # The lease ends by itself; whatever the peer got will be answered again with the same receipt.
            if not self._says_outage("deliver", error):
                get_logger().error("courier-failed", peer=lease.agency, error_type=type(error).__name__)
        finally:
            if left := line.turns.left:
                self._left[lease.agency] = left

    async def _begin(self, lease: PeerLease) -> None:
        """Ask for the peer's card, and where the clock has jumped for its word on the time."""
        node, peer = self._node, self._node.world().roster.member(lease.agency)
        if peer.status is Status.ACTIVE:
            await read_card_again(node, peer)
        if (self._look is None or self._look.doubts(node.clock())) and await clock_jumped(node):
            at = node.clock()
            await self._transport.greet(peer)
            await self._clock_is_right(at)

    async def _keep_clocks(self, stop: asyncio.Event) -> None:
        """By the time and not by the post: it takes longer than to deliver, and nobody waits for it."""
        while not stop.is_set():
            # A difference in either direction: what was done by a clock that was ahead is done again when it is right.
            now = self._node.clock()
            await self._never_raising("clock", self._look_at_clock)
            if abs(now - self._maintained) >= MAINTAIN_EVERY_MS:
                self._maintained = now
                await self._never_raising("maintain", self._maintain)
                self._start_beside("logs", self._carry_logs)
            if abs(now - self._destroyed) >= MAINTAIN_EVERY_MS and self._start_beside("destroy", self._destroy_ended):
                self._destroyed = now
            if abs(now - self._refreshed) >= REFRESH_PEERS_EVERY_MS and self._start_beside("refresh", self._refresh):
                self._refreshed = now
            self._away |= abs(now - self._awake) >= ASLEEP_MS
            self._awake = now
            greets = (self._away or self._jumped) and abs(now - self._greeted) >= ASLEEP_MS
            if greets and self._start_beside("greet", self._greet):
                self._greeted = now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_MS / SECOND_MS):
                    await stop.wait()

    async def _maintain(self) -> None:
        was_member, self._is_member = self._is_member, self._node.agency in self._node.world().roster.members
        self._away |= self._is_member and not was_member
        await maintain(self._node)

    async def _release_due(self) -> None:
        await release_due(self._node)

    async def _destroy_due(self) -> None:
        await destroy_due(self._node)

    async def _destroy_ended(self) -> None:
        await destroy_ended(self._node)

    async def _carry_logs(self) -> None:
        for database in (self._node.database, self._node.key_store.database):
            await database.carry_log()

    async def _refresh(self) -> None:
        asked = await refresh_peers(self._node, self._transport)
        silent = {agency for agency, came in asked.items() if not came.answered}
        self._silent = (self._silent - asked.keys()) | silent
        # That one member is away says nothing of the line: to greet all the others each time would fill a thin one.
        members = self._node.world().roster.members.values()
        others = {one.agency for one in members if one.status is Status.ACTIVE} - {self._node.agency}
        self._away |= bool(silent) and others <= self._silent

    async def _greet(self) -> None:
        at = self._node.clock()
        greeted = await greet_peers(self._node, self._transport)
        if greeted.answered:
            self._away, self._silent = False, frozenset()
        if greeted.heard:
            await self._clock_is_right(at)

    async def _look_at_clock(self) -> None:
        self._look = await self._watch.look()
        jumped = self._look.doubts(self._node.clock())
        if jumped and not self._jumped:
            get_logger().warning("clock-jumped")
        elif self._jumped and not jumped:
            get_logger().info("clock-confirmed")
        self._jumped = jumped

    async def _clock_is_right(self, at: int) -> None:
        """A peer has taken our word for this time: what waited for it is done now."""
        if await confirm_clock(self._node, at):
            self._maintained = self._destroyed = 0
            self._node.database.wake.wake(("outbox",))

    def _start_beside(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Start it, unless it still runs."""
        if name in self._beside and not self._beside[name].done():
            return False
        self._beside[name] = asyncio.create_task(self._never_raising(name, work))
        return True

    async def _never_raising(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - it comes again; the type says enough for the log
            # One row that cannot be read must not hold back her no to others.
            if not self._says_outage(name, error):
                self._say_failing(name, error.parts if isinstance(error, PartlyFailedError) else {name: error})
        else:
            self._outages.pop(name, None)
            self._failing.pop(name, None)

    def _say_failing(self, name: str, parts: Mapping[str, Exception]) -> None:
        """It is tried again every few seconds, and of each part said once until it goes well or fails otherwise."""
        said = {pair for failing in self._failing.values() for pair in failing.items()}
        self._failing[name] = {part: type(error).__name__ for part, error in parts.items()}
        for part, error_type in self._failing[name].items():
            if (part, error_type) not in said:
                get_logger().error("courier-beside-failed", kind=part, error_type=error_type)

    def _says_outage(self, name: str, error: Exception) -> bool:
        """Whether a database is away. It is tried again and again, and of one kind of work said once."""
        outage = as_outage(error)
        if outage is not None and self._outages.get(name) != outage.code:
            self._outages[name] = outage.code
            get_logger().warning("courier-storage-unavailable", code=outage.code)
        return outage is not None


async def run_courier(node: Node, stop: asyncio.Event) -> None:
    """Run a courier over HTTP until `stop` is set."""
    transport = HTTPTransport(node.agency, node.node_key, node.limits, node.clock)
    try:
        await Courier(node, transport).run(stop)
    finally:
        await transport.close()
