"""The database is gone, full or read-only while a node runs; afterwards it works again, and nobody restarts it.

Meanwhile: every write is refused as a problem with 503 and Retry-After, nothing that was answered 2xx is lost, and
`/health/ready` says which database it is. Afterwards, with both couriers running as ever: what was refused is accepted
under the same Idempotency-Key, what waited arrives, both sides say the same, and no key is without its rows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text
from structlog.testing import CapturingLogger
from support.failing_databases import (
    Fault,
    World,
    disk_full,
    log_disk_full,
    moved_away,
    on_a_small_disk,
    on_a_small_log,
    on_a_small_tablespace,
    on_postgresql,
    on_sqlite,
    replaced_by_nothing,
    server_read_only,
    server_stopped,
    with_keys_on_a_small_disk,
    write_protected,
)
from support.federation import ONCE, TestNode
from support.ledger import record
from support.people import consent_request, referral_request
from support.stories import Story, begin, rows

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.federation import courier
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import WithdrawalRequest
from exchange.storage.database import Connection, Database
from exchange.storage.tables import INBOX, OUTBOX, REFERRAL, REFERRAL_KEY
from exchange.use_cases.storage_lost import as_outage

_MOST_BEFORE_FULL = 400


def _files(*names: str) -> Fault:
    return lambda world, plan: moved_away(world, plan, *names)


def _emptied(name: str) -> Fault:
    return lambda world, plan: replaced_by_nothing(world, plan, name)


def _protected(place: int) -> Fault:
    return lambda world, plan: write_protected(world, plan, place)


def _read_only(name: str) -> Fault:
    return lambda world, plan: server_read_only(world, plan, name)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and which part of the node `/health/ready` names."""

    world: Callable[[Path], AbstractAsyncContextManager[World]]
    fault: Fault
    says: dict[str, str]
    tries: int = 2
    """How much may be handed in until something is refused: what is full may have room left in files that are there."""
    at_once: bool = True
    """Whether it is there before anything was handed in."""


_BOTH_GONE = {"database": "unavailable", "key-store": "unavailable"}
_BOTH_FULL = {"database": "full", "key-store": "full"}
CASES = [
    pytest.param(Case(on_sqlite, _files("main", "keys"), _BOTH_GONE), id="sqlite: both files moved away"),
    pytest.param(Case(on_sqlite, _files("main"), {"database": "unavailable"}), id="sqlite: main moved away"),
    pytest.param(Case(on_sqlite, _files("keys"), {"key-store": "unavailable"}), id="sqlite: key store moved away"),
    pytest.param(
        Case(on_sqlite, _emptied("main"), {"database": "empty"}, at_once=False), id="sqlite: main replaced by nothing"
    ),
    pytest.param(
        Case(on_sqlite, _emptied("keys"), {"key-store": "empty"}, at_once=False), id="sqlite: keys replaced by nothing"
    ),
    pytest.param(Case(on_sqlite, _protected(0), {"database": "read-only"}), id="sqlite: read-only"),
    pytest.param(Case(on_sqlite, _protected(1), {"key-store": "read-only"}), id="sqlite: key store read-only"),
    pytest.param(Case(on_a_small_disk, disk_full, _BOTH_FULL, _MOST_BEFORE_FULL), id="sqlite: disk full"),
    pytest.param(
        Case(with_keys_on_a_small_disk, disk_full, {"key-store": "full"}, _MOST_BEFORE_FULL),
        id="sqlite: disk of the key store full",
    ),
    pytest.param(Case(on_postgresql, server_stopped, _BOTH_GONE), id="postgresql: server stopped"),
    pytest.param(Case(on_postgresql, _read_only("main"), {"database": "read-only"}), id="postgresql: read-only"),
    pytest.param(
        Case(on_postgresql, _read_only("keys"), {"key-store": "read-only"}), id="postgresql: key store read-only"
    ),
    pytest.param(
        Case(on_postgresql, _emptied("main"), {"database": "empty"}, at_once=False), id="postgresql: main made anew"
    ),
    pytest.param(
        Case(on_postgresql, _emptied("keys"), {"key-store": "empty"}, at_once=False), id="postgresql: keys made anew"
    ),
    pytest.param(Case(on_a_small_tablespace, disk_full, _BOTH_FULL, _MOST_BEFORE_FULL), id="postgresql: disk full"),
    pytest.param(
        Case(on_a_small_log, log_disk_full, _BOTH_GONE, _MOST_BEFORE_FULL, at_once=False),
        id="postgresql: disk of its log full",
    ),
]  # fmt: skip


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Two nodes on the databases of the case."""
    async with request.param(tmp_path) as opened:
        yield opened


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
    ("world", "case"), [pytest.param(c.values[0].world, c.values[0], id=c.id) for c in CASES], indirect=["world"]
)
@pytest.mark.faults
async def test_refuses_then_recovers_unattended(
    world: World, case: Case, faulty: AgencyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _refuses_then_recovers(world, case, faulty, monkeypatch)


@pytest.mark.parametrize(
    ("world", "case"),
    [pytest.param(c.values[0].world, c.values[0], id=c.id) for c in (CASES[0], CASES[3], CASES[7])],
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
        client._connection._retries = ONCE
    story = await begin(two, travel=False)
    await _soon(lambda: story.items("offer"), "the offer")
    offer = await story.offer()
    other = await begin(two, consent=story.consent, travel=False)
    await _soon(lambda: other.items("offer"), "the other offer")
    consent = (await asks.consents.record(consent_request(SHELTER.agency))).id
    await helps.access_token()
    request = referral_request(SHELTER.agency, consent)
    accepted = DecisionRequest(decision="accepted")
    no = WithdrawalRequest(referral=other.id, form=WithdrawalForm.STOP_SERVICE)
    answered: dict[str, str] = {}
    refused = 0
    with case.fault(world, faulty):
        node, client = two[faulty], asks if faulty is HELPLINE else helps
        if case.at_once:
            assert await _says(node, client) == (503, case.says)
        for place in range(case.tries):
            key = f"k-{place}"
            sent = await _ask(helpline, asks, "/v1/referrals", request, key=key)
            if sent.is_success:
                answered[key] = sent.json()["id"]
            decided = await _ask(shelter, helps, f"/v1/inbox/{offer}/decision", accepted)
            her_no = await _ask(helpline, asks, "/v1/withdrawals", no, key="no")
            refused += sum(map(_refused, (sent, decided, her_no)))
            if refused:
                break
        await _soon(lambda: _says_so(node, client, case.says), "the node to say what is wrong")
        await asyncio.sleep(0.3)  # both couriers meet it as well
    assert refused or case.says.keys() == {"key-store"}
    client = asks if faulty is HELPLINE else helps
    await _soon(lambda: _is_ready(two[faulty], client), "the node to be ready again")
    for key in [*answered, "k-0", "k-new"]:
        created = await _ask(helpline, asks, "/v1/referrals", request, key=key)
        assert created.is_success
        assert answered.setdefault(key, created.json()["id"]) == created.json()["id"]
    decided = await _ask(shelter, helps, f"/v1/inbox/{offer}/decision", accepted)
    assert decided.is_success
    her_no = await _ask(helpline, asks, "/v1/withdrawals", no, key="no")
    assert her_no.is_success
    await _all_is_well(world, story, other, set(answered.values()))


async def _says_so(node: TestNode, client: AgencyClient, says: dict[str, str]) -> bool:
    return await _says(node, client) == (503, says)


async def _is_ready(node: TestNode, client: AgencyClient) -> bool:
    return (await _says(node, client))[0] == 200


async def _all_is_well(world: World, story: Story, other: Story, referrals: set[str]) -> None:
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
    await other.both_say("withdrawn")
    arrived = Counter(row["referral"] for row in await rows(shelter, INBOX) if row["kind"] == "offer")
    made = {row["id"] for row in await rows(helpline, REFERRAL)}
    known = referrals | {story.id, other.id}
    lost = len(known - set(arrived)) + len(made - set(arrived))
    doubled = sum(count - 1 for count in arrived.values()) + len(made - known)
    keys = await shelter.node.key_store.database.read(
        lambda conn: set(conn.execute(select(REFERRAL_KEY.c.referral)).scalars())
    )
    assert set(arrived) <= keys
    for referral in arrived.keys() - {other.id}:
        (row,) = [row for row in await rows(shelter, INBOX) if (row["referral"], row["kind"]) == (referral, "offer")]
        assert (await story.helps.inbox.open(row["id"])).content is not None
    record("database gone", lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)


async def test_the_courier_says_once_that_the_tables_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind of its work: delivering, releasing, destroying, the clock, upkeep, logs, cards, greetings."""
    log = CapturingLogger()
    monkeypatch.setattr(courier, "get_logger", lambda: log)
    monkeypatch.setattr(courier, "IDLE_MS", 20)
    async with on_sqlite(tmp_path) as world:
        with replaced_by_nothing(world, SHELTER, "main"):
            await asyncio.sleep(1)
        said = Counter((call.args, call.kwargs["code"]) for call in log.calls)
        assert said.pop((("courier-storage-unavailable",), "storage-empty")) <= 8
        # That it was replaced was heard by whoever came first.
        assert said.keys() <= {(("courier-storage-unavailable",), "storage-unavailable")}


async def test_a_migration_under_a_node_that_runs_is_an_outage_and_ends_no_courier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator forgot to stop it: what is asked of a column that a newer version has renamed fails."""
    log = CapturingLogger()
    monkeypatch.setattr(courier, "get_logger", lambda: log)
    monkeypatch.setattr(courier, "IDLE_MS", 20)
    async with on_sqlite(tmp_path) as world:
        database = world.two[SHELTER].node.database

        def rename(old: str, new: str) -> Callable[[Connection], None]:
            return lambda conn: conn.execute(text(f"ALTER TABLE outbox RENAME COLUMN {old} TO {new}")).close()

        await database.write(rename("peer", "other"))
        await asyncio.sleep(1)
        with pytest.raises(Exception, match="no such column") as refused:
            await database.read(lambda conn: conn.execute(select(OUTBOX.c.peer)).all())
        outage = as_outage(refused.value)
        assert outage is not None
        assert outage.code == "storage-empty"
        await database.write(rename("other", "peer"))
        assert {call.kwargs["code"] for call in log.calls if "code" in call.kwargs} == {"storage-empty"}


@pytest.mark.parametrize(
    "opened", [on_sqlite, pytest.param(on_postgresql, marks=pytest.mark.faults)], ids=["sqlite", "postgresql"]
)
async def test_a_process_that_outlasts_a_migration_writes_nothing_more(
    opened: Callable[[Path], AbstractAsyncContextManager[World]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves out, since it knows nothing of it, the newer version would misread."""
    monkeypatch.setattr("exchange.storage.database._VERSION_LOOKED_AT_S", 0.0)
    monkeypatch.setattr(courier, "IDLE_MS", 20)
    async with opened(tmp_path) as world:
        helpline = world.two[HELPLINE]
        asks = helpline.client()
        consent = (await asks.consents.record(consent_request(SHELTER.agency))).id
        request = referral_request(SHELTER.agency, consent)
        place = world.urls[f"{HELPLINE.agency}-main"]

        def migrate(version: str) -> str:
            database = Database.open(place)
            try:
                return database.write_sync(partial(_replace_version, version=version))
            finally:
                database.close_sync()

        known = migrate("main_9999")
        refused = await _ask(helpline, asks, "/v1/referrals", request, key="k-0")
        assert _refused(refused)
        assert await _says(helpline, asks) == (503, {"database": "newer"})
        migrate(known)
        assert (await _ask(helpline, asks, "/v1/referrals", request, key="k-0")).is_success
        assert await _is_ready(helpline, asks)


def _replace_version(conn: Connection, version: str) -> str:
    before = str(conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    conn.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version}).close()
    return before
