"""Load on two real nodes: hand in, deliver, open, and all of it at once.

The load is made by one process with the lean client of `benchmarks.plain_http`; tokens and consents come through the
SDK. Each consent serves many referrals, as a woman's consent serves several agencies.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy import select

from benchmarks.nodes import Node, Pair
from benchmarks.people import consent_request, referral_body
from benchmarks.plain_http import HTTPFailedError, Lines
from exchange.storage.database import Connection, Database
from exchange.storage.tables import INBOX

CONSENTS: Final = 32
OPEN_AT_ONCE: Final = 50
LONGEST_S: Final = 90
WORKS_WITHIN_S: Final = 60
ACTOR: Final = "w-bench"

Handed = Callable[[], Awaitable[asyncio.Future[None]]]
"""Hands in one referral; what it answers is done when the receiver's client has opened it."""


class Load:
    """The two agencies' own systems."""

    def __init__(self, pair: Pair) -> None:
        self._helpline, self._shelter = pair.helpline, pair.shelter
        self._sending, self._receiving = Lines(pair.helpline.url), Lines(pair.shelter.url)
        self._headers: dict[str, dict[str, str]] = {}
        self._bodies: list[bytes] = []
        self._cursor = "0"

    async def prepare(self) -> None:
        """Tokens, consents, and one referral all the way, so that the nodes know each other's keys."""
        await self.sign_in()
        async with asyncio.timeout(WORKS_WITHIN_S):
            while True:
                try:
                    referral = await self.hand_in()
                    break
                except HTTPFailedError:
                    await asyncio.sleep(0.2)  # the peer's keys are not fetched yet
            while referral not in await self.open_some(wait_s=10):
                pass

    async def sign_in(self) -> None:
        """Tokens and consents."""
        for node in (self._helpline, self._shelter):
            await self._sign_in(node)

    async def _sign_in(self, node: Node) -> None:
        async with node.client(ACTOR) as client:
            token = await client.access_token()
            self._headers[node.agency] = {
                "authorization": f"Bearer {token}",
                "actor": ACTOR,
                "content-type": "application/json",
            }
            if node is self._helpline:
                for _ in range(CONSENTS):
                    consent = await client.consents.record(consent_request(self._shelter.agency))
                    self._bodies.append(referral_body(self._shelter.agency, consent.id))

    def close(self) -> None:
        """Hang up."""
        self._sending.close()
        self._receiving.close()

    async def hand_in(self) -> str:
        """One referral; its id."""
        headers = self._headers[self._helpline.agency] | {"idempotency-key": secrets.token_hex(8)}
        answer = await self._sending.ask("POST", "/v1/referrals", secrets.choice(self._bodies), headers)
        found: str = json.loads(answer)["id"]
        return found

    async def hand_in_many(self, count: int, in_flight: int) -> float:
        """So many a second."""
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await self.hand_in()

        started = time.perf_counter()
        async with asyncio.timeout(LONGEST_S):
            await asyncio.gather(*(work() for _ in range(in_flight)))
        return count / (time.perf_counter() - started)

    async def delivered(self, count: int) -> float:
        """Wait until so many more have arrived than were listed; how many a second, by the receiver's own clock."""
        async with asyncio.timeout(LONGEST_S):
            # Looking often would cost the receiver what is measured.
            while len(times := self.arrivals()) < count:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.25)
        first, last = min(times), max(times)
        # The times are those at which batches came in: the last batch's own work is not between them.
        return sum(at < last for at in times) / max(1, last - first) * 1000

    def arrivals(self) -> list[int]:
        """When (Unix milliseconds) what was not listed yet has arrived."""
        query = select(INBOX.c.received_at).where(INBOX.c.seq > int(self._cursor))

        def read(conn: Connection) -> list[int]:
            return list(conn.execute(query).scalars())

        database = Database.open(self._shelter.main_database)
        try:
            return database.read_sync(read)
        finally:
            database.close_sync()

    async def receiver_get(self, path: str) -> Any:
        """What the receiver's node answers."""
        return json.loads(await self._receiving.ask("GET", path, headers=self._headers[self._shelter.agency]))

    async def bytes_of_a_poll(self) -> int:
        """What asking for news and hearing that there are none takes, both ways."""
        lines = self._receiving
        before = lines.asked_bytes + lines.answered_bytes
        await self.receiver_get(f"/v1/inbox?cursor={self._cursor}&wait=1")
        return lines.asked_bytes + lines.answered_bytes - before

    async def open_some(self, wait_s: int = 0) -> list[str]:
        """List and open up to 50 items after the cursor; the referrals they are about."""
        wait = f"&wait={wait_s}" if wait_s else ""
        page = await self.receiver_get(f"/v1/inbox?cursor={self._cursor}&limit={OPEN_AT_ONCE}{wait}")
        if not page["items"]:
            return []
        self._cursor = page["next_cursor"]
        body = json.dumps({"ids": [item["id"] for item in page["items"]]}).encode()
        headers = self._headers[self._shelter.agency]
        opened = json.loads(await self._receiving.ask("POST", "/v1/inbox/open", body, headers))
        assert all(item["content"] for item in opened["items"])
        assert len(opened["items"]) == len(page["items"])
        return [item["referral"] for item in page["items"]]

    async def offer(self) -> None:
        """One referral, handed in and opened."""
        referral = await self.hand_in()
        while referral not in await self.open_some(wait_s=10):
            pass

    async def whole(self) -> None:
        """One referral: offered, opened, accepted, disclosed, opened again."""
        referral = await self.hand_in()
        path = f"/v1/inbox?cursor={self._cursor}&limit=1&wait=20"
        while not (items := (await self.receiver_get(path))["items"]):
            pass
        (item,) = items
        while referral not in await self.open_some(wait_s=10):
            pass
        headers = self._headers[self._shelter.agency] | {"idempotency-key": secrets.token_hex(8)}
        await self._receiving.ask("POST", f"/v1/inbox/{item['id']}/decision", b'{"decision":"accepted"}', headers)
        while referral not in await self.open_some(wait_s=10):
            pass

    async def open_many(self, count: int) -> float:
        """Open so many that are there; so many a second."""
        started, done = time.perf_counter(), 0
        async with asyncio.timeout(LONGEST_S):
            while done < count:
                done += len(await self.open_some())
        return done / (time.perf_counter() - started)

    async def end_to_end(self, count: int, in_flight: int) -> tuple[float, dict[str, float]]:
        """So many a second, and milliseconds from handed in to opened. The next begins when one is opened."""

        async def until_opened(one: Handed) -> None:
            await (await one())

        return await self._by_callers(count, in_flight, until_opened)

    async def by_callers(self, count: int, callers: int) -> tuple[float, dict[str, float]]:
        """The same, handed in by callers who go on when they are answered, as systems of helplines do."""

        async def until_answered(one: Handed) -> None:
            await one()

        return await self._by_callers(count, callers, until_answered)

    async def _by_callers(
        self, count: int, callers: int, caller: Callable[[Handed], Awaitable[None]]
    ) -> tuple[float, dict[str, float]]:
        left = iter(range(count))

        def workers(one: Handed) -> list[Awaitable[None]]:
            async def work() -> None:
                for _ in left:
                    await caller(one)

            return [work() for _ in range(callers)]

        started = time.perf_counter()
        ways = await self._to_opened(count, workers, LONGEST_S)
        return count / (time.perf_counter() - started), percentiles(ways)

    async def at_a_rate(self, count: int, a_second: float) -> dict[str, float]:
        """Milliseconds from handed in to opened when referrals come at their own times, whatever became of others.

        One in each slot of `1 / a_second`, at a random moment of it.
        """
        slot = 1 / a_second

        def due(one: Handed) -> list[Awaitable[None]]:
            async def at(moment: float) -> None:
                await asyncio.sleep(moment)
                await one()

            return [at((number + random.random()) * slot) for number in range(count)]  # noqa: S311 - not a secret

        return percentiles(await self._to_opened(count, due, count * slot + LONGEST_S))

    async def _to_opened(
        self, count: int, spread: Callable[[Handed], list[Awaitable[None]]], longest_s: float
    ) -> list[float]:
        """Milliseconds of each way; `spread` says when each begins."""
        opened: dict[str, asyncio.Future[None]] = {}
        ways: list[float] = []

        def when_opened(referral: str) -> asyncio.Future[None]:
            return opened.setdefault(referral, asyncio.get_running_loop().create_future())

        async def one() -> asyncio.Future[None]:
            started = time.perf_counter()
            # It may be opened before its sender has read the answer.
            found = when_opened(await self.hand_in())
            found.add_done_callback(lambda _: ways.append((time.perf_counter() - started) * 1000))
            return found

        async def open_all() -> None:
            done = 0
            while done < count:
                for referral in await self.open_some(wait_s=10):
                    when_opened(referral).set_result(None)
                    done += 1

        async with asyncio.timeout(longest_s):
            await asyncio.gather(open_all(), *spread(one))
        return ways


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """The middle, and what is seldom exceeded."""
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "most_ms": max(milliseconds)}
