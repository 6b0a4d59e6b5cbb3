"""One peer, while a courier holds its lease: batch after batch, until nothing is left that may go.

Rules:

* At-least-once: an envelope leaves the queue only when the peer's signed receipt for exactly these bytes is stored.
* A batch is filled by bytes, as many as the line has shown that it carries in time (`use_cases.line`).
* Where each batch goes is the roster's to say at that moment.
* What does not go at once is looked at again when the line is there: she may have said no meanwhile. A process that was
  stopped with a batch in hand would otherwise send it when it goes on, hours after her no. So is what was looked at
  under another roster, or other contracts, than those of the moment at which it is posted.
* An envelope that draws no answer but an error, alone, holds up nothing but what is about its own referral: what lies
  behind it goes, stops first (`use_cases.passed_over`).
* A batch is settled while the next one is on its way; what the peer has signed for is written down whatever became of
  the one behind it.
* The lease is renewed meanwhile, so that a slow line is not given the same envelopes twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from exchange.federation.transport import PeerTransport, PeerUnreachableError
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer
from exchange.storage.peer_leases import PeerLease
from exchange.telemetry.logs import get_logger
from exchange.use_cases.deliver import Batch, load_next
from exchange.use_cases.leasing import Last, end_lease, renew
from exchange.use_cases.line import Line
from exchange.use_cases.node import Node
from exchange.use_cases.settle import settle

_LOOKS: Final = 4
"""So often a batch is looked at at once. The second time token and connection are there already; a line on which they
never are, or a database that is slower than a look holds, is tried again later, as one that does not answer."""


class Way:
    """What goes to one peer under one lease."""

    def __init__(
        self,
        node: Node,
        transport: PeerTransport,
        lease: PeerLease,
        line: Line,
        *,
        seconds: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        """`seconds` measures what the line does; once `stopping` says so, no batch is begun behind another."""
        self._node = node
        self._transport = transport
        self._lease = lease
        self._line = line
        self._seconds = seconds
        self._stopping = stopping
        self._waits = list[int]()
        """What each batch that was settled has to wait for."""

    @property
    def something_waits(self) -> bool:
        """Whether something went that goes again."""
        return any(self._waits)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew the lease as long as this lasts."""

        async def hold() -> None:
            held = True
            while held:
                await asyncio.sleep(self._node.limits.lease_default_s / 3)
                held = await renew(self._node, self._lease)

        holding = asyncio.create_task(hold())
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    async def deliver(self) -> None:
        """Deliver until the queue is empty; the lease goes back with what the last batch came to.

        Raises:
            PeerUnreachableError: there was no answer; or `too-late`, however often it was looked at. The lease is held.
            UnknownMemberError: the roster does not list the peer any more. The lease is held.
        """
        batch = await self._next()
        if batch is None:
            await end_lease(self._node, self._lease, Last(self._line, None))
            return
        answered: tuple[Batch, BatchAnswer] | None = None
        settling: asyncio.Task[int | None] | None = None
        try:
            while batch is not None:
                posted = await self._post(batch)
                if settling is not None:
                    self._waits.append(await settling or 0)
                answered, settling = posted, None
                if answered is None:
                    await end_lease(self._node, self._lease, self._last())
                    break
                self._line.turns.went(answered[0].items, answered[0].last_seq)
                batch = None if self._stopping() else await self._next()
                last = self._last() if batch is None else None
                settling = asyncio.create_task(settle(self._node, self._lease, *answered, last=last))
                answered = None
        finally:
            if answered is not None:
                self._waits.append(await settle(self._node, self._lease, *answered) or 0)
            if settling is not None:
                self._waits.append(await settling or 0)

    def _last(self) -> Last:
        return Last(self._line, max(self._waits, default=None))

    async def _next(self) -> Batch | None:
        """The next batch; where something failed there are several turns (`use_cases.passed_over`)."""
        turns = self._line.turns
        while (batch := await load_next(self._node, self._lease, self._line)) is None and turns.next_turn():
            pass
        return batch

    async def _post(self, batch: Batch) -> tuple[Batch, BatchAnswer] | None:
        """What went, and its answer; nothing where nothing is left.

        Where one envelope fails alone, or a batch was looked at too long ago, the next one that may go is posted.
        """
        going: Batch | None = batch
        failed: PeerUnreachableError | None = None
        looks = 0
        while going is not None:
            try:
                return going, await self._post_now(going)
            except PeerUnreachableError as error:
                if error.may_be_about_what_was_sent and self._line.turns.goes_on(going.items):
                    failed = error
                    get_logger().info("envelope-passed-over", peer=self._lease.agency, code=error.code)
                elif error.code != "too-late" or looks == _LOOKS - 1:
                    raise
                else:
                    looks += 1
            going = await self._next()
        if failed is not None and not self._line.used:
            raise failed  # nothing was there that the peer takes: it is tried again like one that is down
        return None

    async def _post_now(self, batch: Batch) -> BatchAnswer:
        """One batch; the line learns from it."""
        peer = self._listed()
        if batch.world is not self._node.world():
            raise PeerUnreachableError("too-late")
        started = self._seconds()
        try:
            answer = await self._transport.post_envelopes(peer, batch.body, until=batch.until)
        except PeerUnreachableError as error:
            if error.code not in {"busy", "too-late"}:
                self._line.failed(len(batch.body))
            raise
        self._line.answered(len(batch.body), self._seconds() - started, len(batch.items))
        return answer

    def _listed(self) -> Member:
        """The peer as the roster has it at this moment: while a line is slow another one may come."""
        return self._node.world().roster.member(self._lease.agency)
