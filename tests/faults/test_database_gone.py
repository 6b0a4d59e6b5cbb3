"""The database is gone, full or read-only while a node runs; afterwards it works again, and nobody restarts it.

Meanwhile: every write is refused as a problem with 503 and Retry-After, nothing that was answered 2xx is lost, and
`/health/ready` says which database it is. Afterwards, with both couriers running as ever: what was refused is accepted
under the same Idempotency-Key, what waited arrives, both sides say the same, and no key is without its rows.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, make_url, select
from support.federation import Federation, TestNode, federation
from support.founded import sqlite_maker
from support.ledger import record
from support.people import consent_request, referral_request
from support.postgres import Databases, PostgresServer, running_server
from support.stories import Story, begin, rows

from exchange.client import AgencyClient, RetryPolicy
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.federation import courier
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Database
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL, REFERRAL_KEY

DISK_BYTES = 12 * 1024 * 1024
_MOST_BEFORE_FULL = 400


@dataclass(slots=True)
class World:
    """Both nodes with their couriers running, and where their databases are."""

    two: Federation
    urls: dict[str, str]
    server: PostgresServer | None = None

    def databases(self, plan: AgencyPlan) -> tuple[Database, Database]:
        """The main database and the key store of a node."""
        node = self.two[plan].node
        return node.database, node.key_store.database


Fault = Callable[[World, AgencyPlan], AbstractContextManager[None]]


@contextmanager
def moved_away(world: World, plan: AgencyPlan, *names: str) -> Iterator[None]:
    """Files of databases that somebody moved, and moves back."""
    files = [Path(str(make_url(world.urls[f"{plan.agency}-{name}"]).database)) for name in names]
    for file in files:
        file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        for file in files:
            file.with_suffix(".away").rename(file)


@contextmanager
def write_protected(world: World, plan: AgencyPlan, place: int) -> Iterator[None]:
    """SQLite refuses every statement that would write, as on a disk that the system has made read-only."""
    database = world.databases(plan)[place]
    lane: Any = database._writer._lane

    def protect(driver: Any, _record: Any) -> None:
        driver.execute("PRAGMA query_only=ON")

    event.listen(database._write_engine, "connect", protect)
    if lane._connection is not None:
        protect(lane._connection.connection.driver_connection, None)
    try:
        yield
    finally:
        event.remove(database._write_engine, "connect", protect)
        if lane._connection is not None:
            lane._connection.connection.driver_connection.execute("PRAGMA query_only=OFF")


@contextmanager
def disk_full(world: World, plan: AgencyPlan) -> Iterator[None]:
    """Not one more byte fits on the disk of this node."""
    folder = Path(str(make_url(world.urls[f"{plan.agency}-main"]).database)).parent
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def server_stopped(world: World, _plan: AgencyPlan) -> Iterator[None]:
    """PostgreSQL is shut down, and started again."""
    assert world.server is not None
    world.server.stop()
    try:
        yield
    finally:
        world.server.start()


@contextmanager
def server_read_only(world: World, plan: AgencyPlan, name: str) -> Iterator[None]:
    """As after a switch to a standby: sessions are ended, and new ones may only read."""
    assert world.server is not None
    database = str(make_url(world.urls[f"{plan.agency}-{name}"]).database)

    def switch(value: str) -> None:
        with psycopg.connect(world.server.admin_url, autocommit=True) as admin:  # type: ignore[union-attr]
            setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            admin.execute(setting.format(sql.Identifier(database), sql.Literal(value)))
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

    switch("on")
    try:
        yield
    finally:
        switch("off")


def _files(*names: str) -> Fault:
    return lambda world, plan: moved_away(world, plan, *names)


def _protected(place: int) -> Fault:
    return lambda world, plan: write_protected(world, plan, place)


def _read_only(name: str) -> Fault:
    return lambda world, plan: server_read_only(world, plan, name)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and which part of the node `/health/ready` names."""

    kind: str
    fault: Fault
    says: dict[str, str]


_BOTH_GONE = {"database": "unavailable", "key-store": "unavailable"}
CASES = [
    pytest.param(Case("sqlite", _files("main", "keys"), _BOTH_GONE), id="sqlite: both files moved away"),
    pytest.param(Case("sqlite", _files("main"), {"database": "unavailable"}), id="sqlite: main moved away"),
    pytest.param(
        Case("sqlite", _files("keys"), {"key-store": "unavailable"}), id="sqlite: key store moved away"
    ),
    pytest.param(Case("sqlite", _protected(0), {"database": "read-only"}), id="sqlite: read-only"),
    pytest.param(Case("sqlite", _protected(1), {"key-store": "read-only"}), id="sqlite: key store read-only"),
    pytest.param(Case("disk", disk_full, {"database": "full", "key-store": "full"}), id="sqlite: disk full"),
    pytest.param(Case("postgresql", server_stopped, _BOTH_GONE), id="postgresql: server stopped"),
    pytest.param(Case("postgresql", _read_only("main"), {"database": "read-only"}), id="postgresql: read-only"),
    pytest.param(
        Case("postgresql", _read_only("keys"), {"key-store": "read-only"}), id="postgresql: key store read-only"
    ),
]  # fmt: skip


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("Mounting a small disk needs root.")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("This machine does not allow mounting a small disk.")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Two nodes on the databases of the case."""
    kind = request.param
    if kind == "postgresql":
        with running_server() as server:
            databases = Databases(server.admin_url)
            async with _world(tmp_path, lambda _name: databases.create(), server) as opened:
                yield opened
    elif kind == "disk":
        folder = tmp_path / "disk"
        folder.mkdir()
        with _disk(folder):
            async with _world(tmp_path, sqlite_maker(folder), None) as opened:
                yield opened
    else:
        async with _world(tmp_path, sqlite_maker(tmp_path), None) as opened:
            yield opened


@asynccontextmanager
async def _world(folder: Path, maker: Callable[[str], str], server: PostgresServer | None) -> AsyncIterator[World]:
    urls: dict[str, str] = {}

    def remembered(name: str) -> str:
        urls[name] = maker(name)
        return urls[name]

    async with federation(folder, (HELPLINE, SHELTER), database=remembered) as two:
        stop = asyncio.Event()
        running = [asyncio.create_task(one.courier.run(stop)) for one in two.nodes.values()]
        yield World(two, urls, server)
        stop.set()
        await asyncio.gather(*running)


async def _ask(node: TestNode, client: AgencyClient, path: str, body: Any = None, *, key: str = "") -> httpx2.Response:
    """One request, with a token that the client has already."""
    headers = {"authorization": f"Bearer {await client.access_token()}", "actor": "w-test"}
    async with httpx2.AsyncClient(transport=node.network) as http:
        url = node.member.node_url + path
        if body is None:
            return await http.get(url, headers=headers)
        content = body.model_dump_json(exclude_none=True, by_alias=True).encode()
        more = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
        return await http.post(url, content=content, headers=headers | more)


def _refused(answer: httpx2.Response) -> bool:
    """Whether it is 503 as documented; anything but that and 2xx is a failure."""
    if answer.is_success:
        return False
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"] in {"storage-unavailable", "storage-commit-failed"}
    return True


async def _says(node: TestNode, client: AgencyClient) -> tuple[int, dict[str, str]]:
    answer = await _ask(node, client, "/health/ready")
    return answer.status_code, {name: word for name, word in answer.json()["checks"].items() if word != "ok"}


async def _soon(true: Callable[[], Any], what: str) -> None:
    for _ in range(1200):
        if await true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"Waited for {what}; it did not come.")


@pytest.mark.parametrize("faulty", [HELPLINE, SHELTER], ids=["at the sender", "at the receiver"])
@pytest.mark.parametrize(
    ("world", "case"), [pytest.param(c.values[0].kind, c.values[0], id=c.id) for c in CASES], indirect=["world"]
)
@pytest.mark.faults
async def test_refuses_then_recovers_unattended(
    world: World, case: Case, faulty: AgencyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _refuses_then_recovers(world, case, faulty, monkeypatch)


@pytest.mark.parametrize(
    ("world", "case"),
    [pytest.param(c.values[0].kind, c.values[0], id=c.id) for c in (CASES[2], CASES[5])],
    indirect=["world"],
)
async def test_refuses_then_recovers(world: World, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await _refuses_then_recovers(world, case, SHELTER, monkeypatch)


async def _refuses_then_recovers(world: World, case: Case, faulty: AgencyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "IDLE_MS", 200)
    two = world.two
    helpline, shelter = two[HELPLINE], two[SHELTER]
    asks, helps = helpline.client(), shelter.client()
    for client in (asks, helps):
        client._connection._retries = RetryPolicy(attempts=1)
    story = await begin(two, travel=False)
    await _soon(lambda: story.items("offer"), "the offer")
    offer = await story.offer()
    consent = (await asks.consents.record(consent_request(SHELTER.agency))).id
    await helps.access_token()
    request = referral_request(SHELTER.agency, consent)
    accepted = DecisionRequest(decision="accepted")
    answered: dict[str, str] = {}
    refused = 0
    with case.fault(world, faulty):
        node, client = two[faulty], asks if faulty is HELPLINE else helps
        assert await _says(node, client) == (503, case.says)
        # A disk may have a little room left in files that are there; what is answered must stay.
        for place in range(_MOST_BEFORE_FULL):
            key = f"k-{place}"
            sent = await _ask(helpline, asks, "/v1/referrals", request, key=key)
            if not _refused(sent):
                answered[key] = sent.json()["id"]
            decided = await _ask(shelter, helps, f"/v1/inbox/{offer}/decision", accepted)
            refused += _refused(decided) + (not sent.is_success)
            if refused or (case.kind != "disk" and place):
                break
        await asyncio.sleep(0.3)  # both couriers meet it as well
    assert refused or "key-store" in case.says
    client = asks if faulty is HELPLINE else helps
    await _soon(lambda: _is_ready(two[faulty], client), "the node to be ready again")
    for key in [*answered, "k-0", "k-new"]:
        created = await _ask(helpline, asks, "/v1/referrals", request, key=key)
        assert created.is_success
        assert answered.setdefault(key, created.json()["id"]) == created.json()["id"]
    decided = await _ask(shelter, helps, f"/v1/inbox/{offer}/decision", accepted)
    assert decided.is_success
    await _all_is_well(world, story, set(answered.values()))


async def _is_ready(node: TestNode, client: AgencyClient) -> bool:
    return (await _says(node, client))[0] == 200


async def _all_is_well(world: World, story: Story, referrals: set[str]) -> None:
    two = world.two
    helpline, shelter = two[HELPLINE], two[SHELTER]
    queued = select(OUTBOX.c.id).where(OUTBOX.c.status == "queued").limit(1)

    async def nothing_waits() -> bool:
        found = [await one.node.database.read(lambda conn: conn.execute(queued).first()) for one in two.nodes.values()]
        if any(found):
            two.clock.pass_by(seconds=10)  # what was refused by the peer has a time to wait
        return not any(found)

    await _soon(nothing_waits, "everything to be delivered")
    await story.both_say("accepted")
    arrived = Counter(row["referral"] for row in await rows(shelter, INBOX) if row["kind"] == "offer")
    made = {row["id"] for row in await rows(helpline, REFERRAL)}
    lost = len((referrals | {story.id}) - set(arrived)) + len(made - set(arrived))
    doubled = sum(count - 1 for count in arrived.values()) + len(made - referrals - {story.id})
    keys = await shelter.node.key_store.database.read(
        lambda conn: set(conn.execute(select(REFERRAL_KEY.c.referral)).scalars())
    )
    assert set(arrived) <= keys
    for referral in arrived:
        (row,) = [row for row in await rows(shelter, INBOX) if (row["referral"], row["kind"]) == (referral, "offer")]
        assert (await story.helps.inbox.open(row["id"])).content is not None
    record("database gone", lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
