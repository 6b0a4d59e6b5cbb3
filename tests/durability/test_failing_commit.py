"""A commit that fails never answers 2xx: 503 with Retry-After, nothing stored, and it works again unattended.

The nodes run in this process, the databases are real. What fails is the disk (no space, an I/O error at COMMIT) or the
server (stopped in the middle of its work).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from support.federation import ONCE, Federation, TestNode, _transport, federation
from support.people import consent_request, referral_request
from support.postgres import Databases, PostgresServer, running_server

from exchange.client import AgencyClient
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.referrals import ReferralRequest
from exchange.storage import lanes
from exchange.storage.errors import StorageUnavailableError
from exchange.storage.tables import CONSENT, IDEMPOTENCY, INBOX, OUTBOX, REFERRAL, SEEN_ENVELOPE
from exchange.storage.transaction import Transaction
from exchange.use_cases import receive_envelopes
from exchange.use_cases.deliver import load_next
from exchange.use_cases.leasing import claim, give_back
from exchange.use_cases.line import Line

Failure = Callable[[TestNode], AbstractContextManager[None]]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline and a shelter on SQLite."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as together:
        yield together


@contextmanager
def disk_full(node: TestNode) -> Iterator[None]:
    """SQLite may not take one page more: the error comes where the disk's would, at a statement."""
    driver = _driver(node)
    # Pages that a migration left free would still be taken.
    driver.execute("VACUUM")
    driver.execute("PRAGMA max_page_count=1")
    try:
        yield
    finally:
        driver.execute("PRAGMA max_page_count=1073741823")


@contextmanager
def commit_fails(node: TestNode, *, committed: bool = False) -> Iterator[None]:
    """COMMIT ends in an I/O error; afterwards nobody knows whether it was done, and here the test decides."""
    database, real = node.node.database, lanes._commit

    def failing(transaction: Transaction) -> None:
        if transaction._connection.engine is not database._write_engine:
            real(transaction)
            return
        if committed:
            real(transaction)
        raise lanes.CommitFailedError from OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "_commit", failing)
        yield


@contextmanager
def committed_and_unheard(node: TestNode) -> Iterator[None]:
    """COMMIT was done, and its confirmation was lost."""
    with commit_fails(node, committed=True):
        yield


FAILURES = [
    pytest.param(disk_full, "storage-unavailable", False, id="disk full"),
    pytest.param(commit_fails, "storage-commit-failed", False, id="commit fails"),
    pytest.param(committed_and_unheard, "storage-commit-failed", True, id="commit done, not confirmed"),
]


def _driver(node: TestNode) -> sqlite3.Connection:
    lane: Any = node.node.database._writer._lane
    found: sqlite3.Connection = lane._connection.connection.driver_connection
    return found


def _impatient(node: TestNode) -> AgencyClient:
    client = node.client()
    client._connection._retries = ONCE
    return client


@contextmanager
def failing_at_receive(node: TestNode, failure: Failure) -> Iterator[None]:
    """Tokens are given as ever; every commit of a delivery fails."""
    real = receive_envelopes._commit

    async def doomed(*args: Any) -> None:
        with failure(node):
            await real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receive_envelopes, "_commit", doomed)
        yield


async def _request(node: TestNode) -> ReferralRequest:
    consent = await node.client().consents.record(consent_request(SHELTER.agency))
    return referral_request(SHELTER.agency, consent.id)


async def _counts(node: TestNode) -> dict[str, int]:
    tables = (REFERRAL, OUTBOX, INBOX, SEEN_ENVELOPE, CONSENT, IDEMPOTENCY)
    return await node.node.database.read(
        lambda conn: {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables
        }
    )


async def _kinds(node: TestNode) -> list[str]:
    return [item.kind for item in (await node.client().inbox.list()).items]


@pytest.mark.parametrize(("failure", "code", "stored"), FAILURES)
async def test_hand_in(two: Federation, failure: Failure, code: str, stored: bool) -> None:
    helpline = two[HELPLINE]
    client, request = _impatient(helpline), await _request(helpline)
    # The token is there already: what fails is the hand-in and nothing before it.
    await client.referrals.changes()
    before = await _counts(helpline)
    with failure(helpline):
        for _ in range(2):
            answer = await _raw(helpline, client, request, "k-1")
            if stored and answer.status_code == 200:
                break
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["code"] == code
            assert answer.json()["who"] == "node"
    assert (await _counts(helpline) == before) != stored
    created = await client.referrals.send(request, idempotency_key="k-1")
    assert await client.referrals.send(request, idempotency_key="k-1") == created
    await two.travel()
    after = await _counts(helpline)
    assert after["referral"] == before["referral"] + 1
    assert after["outbox"] == before["outbox"] + 2
    assert await _kinds(two[SHELTER]) == ["offer"]


@pytest.mark.parametrize(("failure", "code", "stored"), FAILURES)
async def test_receive(two: Federation, failure: Failure, code: str, stored: bool) -> None:
    helpline, shelter = two[HELPLINE], two[SHELTER]
    created = await helpline.client().referrals.send(await _request(helpline))
    await shelter.client().inbox.list()
    before = await _counts(shelter)
    # The courier's token is there already: what fails is the delivery and nothing before it.
    body, token = await _queued(helpline), await _token(two)
    with failing_at_receive(shelter, failure):
        answer = await _deliver(two, token, body)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == code
        await helpline.courier.run_once()
        assert not (await helpline.client().referrals.read(created.id)).flags.delivered
    if not stored:
        assert await _counts(shelter) == before
    two.clock.pass_by(seconds=60)
    await two.travel()
    assert (await helpline.client().referrals.read(created.id)).flags.delivered
    assert await _kinds(shelter) == ["offer"]


async def test_the_courier_cannot_write_down_the_answer(two: Federation) -> None:
    helpline, shelter = two[HELPLINE], two[SHELTER]
    created = await helpline.client().referrals.send(await _request(helpline))
    with _failing_from_the_answer_on(two), suppress(StorageUnavailableError):
        await helpline.courier.run_once()
    assert len(two.network.posted) == 1
    assert await _kinds(shelter) == ["offer"]
    assert not (await helpline.client().referrals.read(created.id)).flags.delivered
    # Until the lease has run out nobody else serves this peer; then the same bytes go, and the same receipt comes.
    two.clock.pass_by(seconds=120)
    await two.travel()
    assert len(two.network.posted) == 2
    assert two.network.posted[0] == two.network.posted[1]
    assert (await helpline.client().referrals.read(created.id)).flags.delivered
    assert await _kinds(shelter) == ["offer"]


@contextmanager
def _failing_from_the_answer_on(together: Federation) -> Iterator[None]:
    """The peer's answer is the last thing that works."""
    helpline, port = together[HELPLINE], together[SHELTER].port
    inner = together.network.apps[port]
    with ExitStack() as failing:

        class Last(httpx2.ASGITransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                answer = await inner.handle_async_request(request)
                if request.url.path.startswith("/federation/"):
                    failing.enter_context(commit_fails(helpline))
                return answer

        together.network.apps[port] = Last(app=inner.app)
        try:
            yield
        finally:
            together.network.apps[port] = inner


async def _raw(node: TestNode, client: AgencyClient, request: ReferralRequest, key: str) -> httpx2.Response:
    headers = {
        "authorization": f"Bearer {await client.access_token()}",
        "actor": "w-test",
        "content-type": "application/json",
        "idempotency-key": key,
    }
    body = request.model_dump_json(exclude_none=True, by_alias=True).encode()
    async with httpx2.AsyncClient(transport=node.network) as http:
        return await http.post(f"{node.member.node_url}/v1/referrals", content=body, headers=headers)


async def _queued(node: TestNode) -> bytes:
    lease = await claim(node.node, "looked-at")
    assert lease is not None
    batch = await load_next(node.node, lease, Line(lease.carries))
    assert batch is not None
    await give_back(node.node, lease, Line(lease.carries), reached=True, retry_after_ms=None)
    return batch.body


async def _token(together: Federation) -> str:
    """The helpline's courier's token at the shelter."""
    helpline, shelter = together[HELPLINE], together[SHELTER]
    transport = _transport(helpline.node, together.network)
    try:
        return await transport._token(shelter.member)
    finally:
        await transport.close()


async def _deliver(together: Federation, token: str, body: bytes) -> httpx2.Response:
    """As the helpline's courier does, to see the answer itself."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with httpx2.AsyncClient(transport=together.network) as http:
        url = f"{together[SHELTER].member.node_url}/federation/v1/envelopes"
        return await http.post(url, content=body, headers=headers)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that a test stops and starts."""
    with running_server() as running:
        yield running


async def test_the_server_is_stopped_and_started(tmp_path: Path, server: PostgresServer) -> None:
    databases = Databases(server.admin_url)
    async with federation(tmp_path, (HELPLINE, SHELTER), database=lambda _name: databases.create()) as two:
        helpline, shelter = two[HELPLINE], two[SHELTER]
        client, request = helpline.client(), await _request(helpline)
        await client.referrals.changes()
        # Every node's token for the other is there: what fails is the database and nothing before it.
        created = await client.referrals.send(request, idempotency_key="k-1")
        body, token = await _queued(helpline), await _token(two)
        server.stop()
        for answer in (await _raw(helpline, client, request, "k-2"), await _deliver(two, token, body)):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
        server.start()
        second = await client.referrals.send(request, idempotency_key="k-2")
        assert await client.referrals.send(request, idempotency_key="k-1") == created
        two.clock.pass_by(seconds=60)
        await two.travel()
        items = (await shelter.client().inbox.list()).items
        assert sorted(item.referral for item in items) == sorted([created.id, second.id])
        assert (await _counts(helpline))["referral"] == 2
