"""Load on two real nodes, a helpline and a shelter: hand in, deliver, open, and all of it at once.

The load is made by one process with the lean client of `benchmarks.plain_http`; tokens and consents come through the
SDK. Each consent serves many referrals, as a woman's consent serves several agencies.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psutil
from sqlalchemy import select

from benchmarks.people import consent_request, referral_body
from benchmarks.plain_http import Lines
from exchange.cli.serve import GRACE_S, Child, Supervisor
from exchange.demo.federation import HELPLINE, SHELTER, RunningFederation
from exchange.storage.database import Connection, Database
from exchange.storage.tables import INBOX

CONSENTS: Final = 32
OPEN_AT_ONCE: Final = 50
LONGEST_S: Final = 90
ACTOR: Final = "w-bench"


class Load:
    """The two agencies' own systems."""

    def __init__(self, federation: RunningFederation, shelter_database: str) -> None:
        self._helpline, self._shelter = federation[HELPLINE], federation[SHELTER]
        self._shelter_database = shelter_database
        self._sending, self._receiving = Lines(self._helpline.url), Lines(self._shelter.url)
        self._headers: dict[str, dict[str, str]] = {}
        self._bodies: list[bytes] = []
        self._cursor = "0"

    async def prepare(self) -> None:
        """Tokens, consents, and one referral all the way, so that the nodes know each other's keys."""
        for node in (self._helpline, self._shelter):
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
        after = int(self._cursor)
        async with asyncio.timeout(LONGEST_S):
            # Looking often would cost the receiver what is measured.
            while len(times := self._arrived_after(after)) < count:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.25)
        first, last = min(times), max(times)
        # The times are those at which batches came in: the last batch's own work is not between them.
        return sum(at < last for at in times) / max(1, last - first) * 1000

    def _arrived_after(self, after: int) -> list[int]:
        query = select(INBOX.c.received_at).where(INBOX.c.seq > after)

        def read(conn: Connection) -> list[int]:
            return list(conn.execute(query).scalars())

        database = Database.open(self._shelter_database)
        try:
            return database.read_sync(read)
        finally:
            database.close_sync()

    async def open_some(self, wait_s: int = 0) -> list[str]:
        """List and open up to 50 items after the cursor; the referrals they are about."""
        headers = self._headers[self._shelter.agency]
        path = f"/v1/inbox?cursor={self._cursor}&limit={OPEN_AT_ONCE}" + (f"&wait={wait_s}" if wait_s else "")
        page: dict[str, Any] = json.loads(await self._receiving.ask("GET", path, headers=headers))
        if not page["items"]:
            return []
        self._cursor = page["next_cursor"]
        body = json.dumps({"ids": [item["id"] for item in page["items"]]}).encode()
        opened = json.loads(await self._receiving.ask("POST", "/v1/inbox/open", body, headers))
        assert all(item["content"]["needs"] for item in opened["items"])
        assert len(opened["items"]) == len(page["items"])
        return [item["referral"] for item in page["items"]]

    async def open_many(self, count: int) -> float:
        """Open so many that are there; so many a second."""
        started, done = time.perf_counter(), 0
        async with asyncio.timeout(LONGEST_S):
            while done < count:
                done += len(await self.open_some())
        return done / (time.perf_counter() - started)

    async def end_to_end(self, count: int, in_flight: int) -> tuple[float, dict[str, float]]:
        """From handed in to opened: so many a second, and milliseconds of the way."""
        left = iter(range(count))
        opened: dict[str, asyncio.Future[None]] = {}
        ways: list[float] = []

        def when_opened(referral: str) -> asyncio.Future[None]:
            return opened.setdefault(referral, asyncio.get_running_loop().create_future())

        async def work() -> None:
            for _ in left:
                started = time.perf_counter()
                # It may be opened before its sender has read the answer.
                referral = await self.hand_in()
                await when_opened(referral)
                del opened[referral]
                ways.append((time.perf_counter() - started) * 1000)

        async def open_all() -> None:
            done = 0
            while done < count:
                for referral in await self.open_some(wait_s=10):
                    when_opened(referral).set_result(None)
                    done += 1

        started = time.perf_counter()
        async with asyncio.timeout(LONGEST_S):
            await asyncio.gather(open_all(), *(work() for _ in range(in_flight)))
        took = time.perf_counter() - started
        return count / took, {"p50_ms": statistics.median(ways), "p99_ms": statistics.quantiles(ways, n=100)[98]}

    async def one_by_one(self, count: int, a_second: float) -> dict[str, float]:
        """The way of a referral when there is time: milliseconds from handed in to opened."""
        ways = []
        for _ in range(count):
            started = time.perf_counter()
            referral = await self.hand_in()
            while referral not in await self.open_some(wait_s=10):
                pass
            ways.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(max(0.0, 1 / a_second - (time.perf_counter() - started)))
        return {"p50_ms": statistics.median(ways), "most_ms": max(ways)}

    def cpu_seconds(self) -> dict[str, float]:
        """What each process has used so far."""
        found = {"client": _cpu(psutil.Process())}
        for name, node in (("sender", self._helpline), ("receiver", self._shelter)):
            for child in node.supervisor.children:
                role = "courier" if child.role == "courier" else "api"
                found[f"{name}_{role}"] = _cpu(psutil.Process(child.process.pid))
        return found

    @asynccontextmanager
    async def nothing_delivered(self) -> AsyncIterator[None]:
        """The sender's courier is away, so that handing in and delivering are measured each by itself."""
        # Ended and started again, not stopped in its tracks: it might hold the lock of the database.
        supervisor = self._helpline.supervisor
        place = next(place for place, child in enumerate(supervisor.children) if child.role == "courier")
        supervisor.children[place].process.terminate()
        await asyncio.to_thread(supervisor.children[place].process.wait, GRACE_S)
        try:
            yield
        finally:
            supervisor.children[place] = Child("courier", _courier(supervisor))


def _courier(supervisor: Supervisor) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange.cli.node_process", "courier"],
        stdin=subprocess.PIPE,
        stdout=supervisor.output,
        stderr=supervisor.output,
        env=dict(supervisor.environment),
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(b"\n")  # no passphrase was typed: the settings name its file
    process.stdin.flush()
    return process


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system
