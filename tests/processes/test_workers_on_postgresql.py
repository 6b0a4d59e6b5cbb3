"""`exchange serve --workers 2` on PostgreSQL: two API processes and a courier a node, many clients, many pollers.

What is counted: each referral that was answered 201 is delivered once and handled by one poller, also when the nodes
are told to stop while clients hand in. Each start is eight processes, so the nodes run on from one test to the next.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from support.node_processes import ONCE, PATIENCE_S, NodeProcesses, _ready, listening, node_processes, until
from support.postgres import Databases

from exchange.client import AgencyClient, ClientError, ProblemError, new_idempotency_key
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.people import melati
from exchange.schemas.referrals import ReferralRequest
from exchange.storage.tables import INBOX

REFERRALS, CLIENTS, POLLERS = 64, 8, 4


@contextmanager
def serving(node: NodeProcesses) -> Iterator[subprocess.Popen[bytes]]:
    """`exchange serve`; ended by its own process id."""
    with (node.home / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from exchange.cli import main; main()", "serve", "--workers", "2"],
            env=node.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


@dataclass
class Both:
    """A helpline and a shelter, and how the helpline was started."""

    helpline: NodeProcesses
    shelter: NodeProcesses
    serve: subprocess.Popen[bytes]

    async def stop(self) -> list[int]:
        """SIGTERM to both at once; the exit codes."""
        self.serve.send_signal(signal.SIGTERM)
        codes = await asyncio.to_thread(self.shelter.stop)
        return [*codes, await asyncio.to_thread(self.serve.wait, PATIENCE_S)]


def forked(node: NodeProcesses, *roles: str) -> None:
    """These processes of a node; its port is closed when they end, as with `exchange serve`."""
    with listening(urlsplit(node.member.node_url).port or 0) as node.listener:
        node.start(*roles)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres: Databases) -> Iterator[Both]:
    """On PostgreSQL, serving."""
    new_database: Callable[[str], str] = lambda _name: postgres.create()  # noqa: E731
    folder, two = tmp_path_factory.mktemp("workers") / "nodes", {"EXCHANGE_WORKERS": "2"}
    with node_processes(folder, (HELPLINE, SHELTER), new_database, two) as (helpline, shelter):
        for node in (helpline, shelter):
            node.listener.close()
        with serving(helpline) as serve:
            forked(shelter, "api 1", "api 2", "courier")
            until(lambda: _ready(helpline.member.node_url) or None, "the helpline ready")
            yield Both(helpline, shelter, serve)


async def requests(client: AgencyClient, count: int) -> list[ReferralRequest]:
    """Referrals under one consent."""
    now = datetime.now(UTC)
    person = melati(now)
    consent = await client.consents.record(person.consent(now))
    return [person.referral(consent.id)] * count


async def hand_in(node: NodeProcesses, count: int) -> list[str]:
    """One client's share; what was answered."""
    async with node.client() as client:
        return [(await client.referrals.send(request)).id for request in await requests(client, count)]


async def poll(node: NodeProcesses, actor: str, wanted: int, handled: list[tuple[str, str]]) -> None:
    """Lease, open, acknowledge; as the SDK's iterator does, until everything was handled by somebody."""
    async with node.client(actor=actor) as client:
        cursor: str | None = None
        while len(handled) < wanted:
            page = await client.inbox.list(cursor, wait_s=1, limit=20)
            for item in page.items:
                try:
                    lease = await client.inbox.lease(item.id, 60)
                except ProblemError as refused:
                    if refused.problem.status != 409:
                        raise
                    continue
                assert (await client.inbox.open(item.id)).content is not None
                await client.inbox.acknowledge(item.id, lease.token)
                handled.append((item.referral, actor))
            cursor = page.next_cursor


async def follow(node: NodeProcesses, wanted: int) -> list[str]:
    """A reader that only follows the cursor while others write."""
    seen: list[str] = []
    async with node.client() as client:
        cursor: str | None = None
        while len(seen) < wanted:
            page = await client.inbox.list(cursor, wait_s=1, limit=7)
            seen += [item.referral for item in page.items]
            cursor = page.next_cursor
    return seen


async def test_each_delivered_once_and_handled_once(both: Both) -> None:
    handled: list[tuple[str, str]] = []
    pollers = [asyncio.create_task(poll(both.shelter, f"w-{number}", REFERRALS, handled)) for number in range(POLLERS)]
    following = asyncio.create_task(follow(both.shelter, REFERRALS))
    async with asyncio.timeout(100):
        shares = await asyncio.gather(*(hand_in(both.helpline, REFERRALS // CLIENTS) for _ in range(CLIENTS)))
        await asyncio.gather(*pollers)
        seen = await following
    answered = [referral for share in shares for referral in share]
    assert len(set(answered)) == REFERRALS
    assert Counter(referral for referral, _ in handled) == Counter(answered)
    assert len({actor for _, actor in handled}) > 1
    # The cursor: everything, once.
    assert Counter(seen) == Counter(answered)


async def test_no_poller_goes_past_what_another_process_commits_late(both: Both) -> None:
    """A number is handed out before its transaction ends; whoever asks either of two API processes waits for that."""
    shelter, late_ones = both.shelter, 5
    async with shelter.client() as client:
        known = [item async for item in client.inbox.pages()]
        cursor = (await client.inbox.list(None, limit=1)).next_cursor
        while (page := await client.inbox.list(cursor, limit=50)).items:
            cursor = page.next_cursor
    with psycopg.connect(shelter.urls["main"]) as late:
        # What stands there already arrives again, in a transaction that stays open: a real item under a new number.
        late.execute(
            "UPDATE inbox SET seq = nextval(pg_get_serial_sequence('inbox', 'seq')),"
            " xid = CAST(CAST(pg_current_xact_id() AS text) AS bigint) WHERE id = %s",
            [known[0].id],
        )
        before = shelter.count(INBOX)
        answered = await hand_in(both.helpline, late_ones)
        for _ in range(1000):
            if await asyncio.to_thread(shelter.count, INBOX) == before + late_ones:
                break
            await asyncio.sleep(0.05)
        for _ in range(8):
            # Each over a connection of its own, so that both processes are asked.
            async with shelter.client() as client:
                page = await client.inbox.list(cursor, limit=50)
                assert (page.items, page.next_cursor) == ((), cursor)
        late.commit()
    seen: list[str] = []
    async with asyncio.timeout(60), shelter.client() as client:
        while len(seen) < 1 + late_ones:
            page = await client.inbox.list(cursor, wait_s=1, limit=2)
            seen += [item.referral for item in page.items]
            cursor = page.next_cursor
    assert seen[0] == known[0].referral
    assert Counter(seen[1:]) == Counter(answered)


async def test_a_stop_loses_nothing(both: Both) -> None:
    """SIGTERM to both nodes while four clients hand in; whoever got no answer repeats, after the next start."""
    helpline, shelter = both.helpline, both.shelter
    asked: list[tuple[str, ReferralRequest]] = []
    answered: dict[str, str] = {}
    begun = asyncio.Event()

    async def insist() -> None:
        async with helpline.client() as patient, helpline.client(retries=ONCE) as client:
            for request in await requests(patient, 15):
                key = new_idempotency_key()
                asked.append((key, request))
                try:
                    answered[key] = (await client.referrals.send(request, idempotency_key=key)).id
                except ClientError:
                    continue
                begun.set()

    clients = [asyncio.create_task(insist()) for _ in range(4)]
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    # An API process has stopped in order when it ends by the signal that it was sent.
    assert await both.stop() == [-signal.SIGTERM, -signal.SIGTERM, 0, 0]
    await asyncio.gather(*clients, return_exceptions=True)
    assert answered
    for node in (helpline, shelter):
        forked(node)  # only what lies in the databases counts now
    async with helpline.client() as client:
        repeated = {key: (await client.referrals.send(request, idempotency_key=key)).id for key, request in asked}
    assert {key: repeated[key] for key in answered} == answered
    async with asyncio.timeout(60):
        arrived: Counter[str] = Counter()
        async with shelter.client() as client:
            while not set(repeated.values()) <= arrived.keys():
                arrived = Counter([item.referral async for item in client.inbox.pages()])
    assert {arrived[referral] for referral in repeated.values()} == {1}
