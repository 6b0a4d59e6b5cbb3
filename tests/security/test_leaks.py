"""Three real nodes, their processes and everything these leave: searched while a referral lives, and after its end.

Where words were planted (tests/federation/test_canaries.py has them field by field) the search goes through database
files and their logs, backups made as an operator makes them, the key store, homes, what the processes wrote at level
debug, what a collector received, every problem, command lines and environments, and what is left when a handler fails
and when a process is killed with SIGABRT. On SQLite and on PostgreSQL, there in the server's own files. The processes
are forked (`support.doomed_process`); real command lines are looked at in tests/exchange/cli/test_serve.py.

Destroyed means more than unreadable by name: the key that a referral's contents hang on is looked for by its bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2
import psycopg
import pytest
from sqlalchemy import create_engine, select, text
from support.node_processes import NURSERY, NodeProcesses, node_processes
from support.otlp import ReceivedTelemetry, collecting
from support.people import consent_request, referral_request
from support.postgres import Databases, PostgresServer, _binaries, running_server

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, ProblemError
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.demo.search import spellings
from exchange.schemas.inbox import DecisionRequest, InboxItem
from exchange.storage.tables import REFERRAL_KEY

pytestmark = pytest.mark.timeout(300)
PLANTED: Final = {
    "preferred_name": "Bunga Cendana-Satu",
    "arrival_words": "cendana dua",
    "meeting_point": "Cendana Tiga market, north gate",
    "say_if_other_answers": "Cendana Empat bakery, sorry.",
    "code_word_danger": "cendana-lima",
    "narrative": "Cendana-enam ran at night.",
    "legal_name": "Cendana Tujuh Binti Contoh",
    "in a form": "Cendana Delapan",
}
STEM: Final = "endana"
"""In every planted word: looking for it in every spelling finds each of them, at an eighth of the work."""
ON_SQLITE: Final = replace(SHELTER, agency="lily-house-shelter", name="Lily House Shelter (synthetic)")
RECEIVERS: Final = (SHELTER, ON_SQLITE)
KINDS: Final = {SHELTER.agency: "postgresql", ON_SQLITE.agency: "sqlite"}
LIFE, END, CRASH = "alive", "destroyed", "crashed"
PATIENCE_S: Final = 60.0
T = TypeVar("T")


@dataclass(slots=True)
class Leaks:
    """Everything that was found lying about."""

    sender: str
    """The kind of database of the helpline, which is a party to every referral."""
    places: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Moment, place, and the digest of what was there: what did not change is searched once."""
    contents: dict[bytes, bytes] = field(default_factory=dict)
    wrapped_keys: list[bytes] = field(default_factory=list)
    """The referrals' keys as they lay in the receivers' key stores."""
    referrals: dict[str, str] = field(default_factory=dict)
    """Of each receiver."""
    secrets: tuple[str, ...] = ()
    cores: list[Path] = field(default_factory=list)
    core_limits: list[list[str]] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)

    def add(self, moment: str, place: str, data: bytes) -> None:
        """Keep what was seen there."""
        digest = hashlib.blake2b(data).digest()
        self.contents[digest] = data
        self.places.append((moment, place, digest))

    def holding(self, needles: Collection[bytes]) -> set[tuple[str, str]]:
        """Moment and place of everything that holds one of these."""
        holds = {digest for digest, data in self.contents.items() if any(needle in data for needle in needles)}
        return {(moment, place) for moment, place, digest in self.places if digest in holds}

    def spelled(self, *words: str) -> set[tuple[str, str]]:
        """Moment and place of everything that holds one of these words in any spelling."""
        return self.holding({needle for word in words for _, needle in spellings(word)})


class SqliteFiles:
    """Databases that are files beside the home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700)

    def make(self, name: str) -> str:
        """The address of a new database."""
        return f"sqlite:///{self._folder / name}.db"

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Each with its write-ahead log, as it is while the node runs."""
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                yield f"database {path.name}", path.read_bytes()

    def backup(self, agency: str) -> bytes:
        """The online backup of the main database."""
        copy = self._folder / "copy"
        with closing(sqlite3.connect(self._folder / f"{agency}-main.db")) as main, closing(sqlite3.connect(copy)) as to:
            main.backup(to)
        data = copy.read_bytes()
        copy.unlink()
        return data


class PostgresFiles:
    """Databases of a server, whose own files are looked at."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._databases = Databases(server.admin_url)
        self._urls: dict[str, str] = {}

    def make(self, name: str) -> str:
        """The address of a new database."""
        self._urls[name] = self._databases.create()
        return self._urls[name]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The write-ahead log as it is, and after a checkpoint everything."""
        data = self._server.data
        for path in sorted((data / "pg_wal").glob("0*")):
            yield f"server-log {path.name}", path.read_bytes()
        with psycopg.connect(self._server.admin_url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        for path in sorted(data.rglob("*")):
            if path.is_file():
                place = "server-log" if data / "pg_wal" in path.parents else "database"
                yield f"{place} {path.relative_to(data)}", path.read_bytes()

    def backup(self, agency: str) -> bytes:
        """`pg_dump` of the main database."""
        command = [str(_binaries() / "pg_dump"), "--dbname", self._urls[f"{agency}-main"]]
        return subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S).stdout


Files = SqliteFiles | PostgresFiles


@dataclass(slots=True)
class Places:
    """The nodes, and where each keeps its databases."""

    nodes: list[NodeProcesses]
    files: dict[str, Files]

    def __getitem__(self, plan: AgencyPlan) -> NodeProcesses:
        return next(node for node in self.nodes if node.agency == plan.agency)


async def patiently(ask: Callable[[], Awaitable[T | None]], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (answer := await ask()) is not None:
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError(f"Waited for {what}; it did not come.")


async def item(client: AgencyClient, referral: str, kind: str) -> InboxItem:
    async def look() -> InboxItem | None:
        found = [one async for one in client.inbox.pages() if (one.referral, one.kind) == (referral, kind)]
        return found[-1] if found else None

    return await patiently(look, kind)


def her_request(to: AgencyPlan, consent: str, **more: Any) -> Any:
    now = datetime.now(UTC)
    usual = referral_request(to.agency, consent, now=now).content.model_dump(mode="json", exclude_none=True)
    contact = {
        "who_initiates": "agency",
        "channels": [{"channel": "phone-call", "address": "+00 555 0100 7399", "safe": True}],
        "say_if_other_answers": PLANTED["say_if_other_answers"],
        "code_word_danger": PLANTED["code_word_danger"],
        "last_confirmed_at": now.isoformat(),
    }
    planted = {name: PLANTED[name] for name in ("preferred_name", "arrival_words", "meeting_point", "legal_name")}
    content = usual | planted | {"safe_contact": contact} | more
    return referral_request(to.agency, consent, now=now, content=content)


async def forms(node_url: str, token: str, leaks: Leaks) -> None:
    """Requests that do not parse, with a name where a program might repeat it."""
    name = PLANTED["in a form"]
    headers = {"Authorization": f"Bearer {token}", "Actor": "w-test"}
    tries: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/v1/referrals", {"to": name, "content": {"arrival_words": name}}),
        ("POST", "/v1/referrals", {name: name}),
        ("POST", "/v1/consents", {"provisions": [{"fields": [name]}]}),
        ("GET", f"/v1/inbox?cursor={name}", None),
        ("GET", f"/v1/referrals/{name}", None),
        ("GET", f"/{name}", None),
        ("POST", "/federation/v1/envelopes", {"envelopes": [{name: name}]}),
    )
    async with httpx2.AsyncClient(base_url=node_url, trust_env=False) as http:
        for number, (method, path, body) in enumerate(tries):
            answer = await http.request(method, path, json=body, headers=headers | {"Idempotency-Key": f"k-{number}"})
            assert answer.status_code >= 400
            leaks.add(LIFE, f"problem {number}", answer.content)


async def a_life(places: Places, leaks: Leaks) -> None:
    """Refused, asked twice, accepted, disclosed, opened."""
    async with places[HELPLINE].client() as asks:
        consent = (await asks.consents.record(consent_request(*(plan.agency for plan in RECEIVERS)))).id
        with pytest.raises(ProblemError) as refused:
            await asks.referrals.send(her_request(SHELTER, consent, narrative=PLANTED["narrative"]))
        leaks.add(LIFE, "problem never", refused.value.problem.model_dump_json().encode())
        await forms(places[HELPLINE].member.node_url, await asks.access_token(), leaks)
        for plan in RECEIVERS:
            created = await asks.referrals.send(her_request(plan, consent))
            leaks.referrals[plan.agency] = created.id
        for plan in RECEIVERS:
            async with places[plan].client() as helps:
                offer = await item(helps, leaks.referrals[plan.agency], "offer")
                await helps.inbox.open(offer.id)
                await helps.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
                disclosure = await item(helps, leaks.referrals[plan.agency], "disclosure")
                opened = await helps.inbox.open(disclosure.id)
                assert opened.content is not None
                assert opened.content.preferred_name == PLANTED["preferred_name"]


async def fails_in_a_handler(node: NodeProcesses, leaks: Leaks) -> None:
    """The database fails under a request that carries her name; what the driver says of it has all its words."""
    async with node.client() as asks:
        token = await asks.access_token()
    body = her_request(SHELTER, "0" * 32).model_dump_json(exclude_none=True)
    headers = {"Authorization": f"Bearer {token}", "Actor": "w-north", "Content-Type": "application/json"}
    engine = create_engine(node.urls["main"].replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as main:
        main.execute(text("ALTER TABLE consent RENAME TO consent_away"))
    async with httpx2.AsyncClient(base_url=node.member.node_url, trust_env=False) as http:
        answer = await http.post("/v1/referrals", content=body, headers=headers | {"Idempotency-Key": "broken"})
    with engine.begin() as main:
        main.execute(text("ALTER TABLE consent_away RENAME TO consent"))
    engine.dispose()
    assert answer.status_code >= 500
    leaks.add(CRASH, f"problem of {node.agency}", answer.content)


async def her_no(places: Places, leaks: Leaks) -> None:
    """Erased at both; returns when both attested."""
    async with places[HELPLINE].client() as asks:
        for referral in leaks.referrals.values():
            await asks.withdrawals.of_referral(referral, WithdrawalForm.ERASE)
        for referral in leaks.referrals.values():
            await item(asks, referral, "erasure-receipt")


def look_around(places: Places, moment: str, leaks: Leaks) -> None:
    """Homes, databases, a backup of each, and what /proc tells of every process."""
    for node in places.nodes:
        for path in sorted(node.home.rglob("*")):
            if path.is_file():
                place = "log" if path.name == "node.log" else "home"
                leaks.add(moment, f"{place} {node.agency}/{path.name}", path.read_bytes())
        leaks.add(moment, f"backup {node.agency}", places.files[node.agency].backup(node.agency))
        for role, pid in node.running.items():
            process = Path(f"/proc/{pid}")
            leaks.add(moment, f"process cmdline {role}", (process / "cmdline").read_bytes())
            leaks.add(moment, f"process environ {role}", (process / "environ").read_bytes())
            limits = (process / "limits").read_text().splitlines()
            leaks.core_limits += [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    for files in {id(files): files for files in places.files.values()}.values():
        for place, data in files.files():
            leaks.add(moment, place, data)


def abort(places: Places, leaks: Leaks) -> None:
    """Every process that still runs is killed in the way that asks for a core file."""
    for node in places.nodes:
        doomed, node.running = dict(node.running), {}
        for pid in doomed.values():
            os.kill(pid, signal.SIGABRT)
            leaks.exit_codes.append(NURSERY.wait(pid))
        leaks.cores += [path for folder in (Path.cwd(), node.home) for path in folder.glob("core*") if path.is_file()]


def wrapped_key(node: NodeProcesses, referral: str) -> bytes:
    """A referral's key as it lies in the receiver's key store."""
    query = select(REFERRAL_KEY.c.wrapped).where(REFERRAL_KEY.c.referral == referral)
    return bytes(node.look(lambda conn: conn.execute(query).scalar_one(), database="keys"))


@contextmanager
def running(folder: Path, collector: ReceivedTelemetry, sender: str) -> Iterator[Places]:
    """A helpline on this kind of database, a shelter on PostgreSQL, and a shelter on SQLite."""
    variables = {
        "EXCHANGE_LOG_LEVEL": "debug",
        "EXCHANGE_OTLP_ENDPOINT": collector.url,
        "EXCHANGE_TRACE_RATIO": "1",
        # Spans leave while these short lives last, not only after the five seconds that are usual.
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with running_server() as server:
        postgres, sqlite = PostgresFiles(server), SqliteFiles(folder / "databases")
        files: dict[str, Files] = {SHELTER.agency: postgres, ON_SQLITE.agency: sqlite}
        files[HELPLINE.agency] = postgres if sender == "postgresql" else sqlite

        def make(name: str) -> str:
            return files[name.rpartition("-")[0]].make(name)

        with node_processes(folder / "nodes", (HELPLINE, *RECEIVERS), make, variables) as nodes:
            for node in nodes:
                node.start()
            yield Places(nodes, files)


@pytest.fixture(scope="module", params=["postgresql", pytest.param("sqlite", marks=pytest.mark.faults)])
def leaks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Leaks:
    """One life, one end, and accidents; what was lying about at each moment."""
    leaks, folder = Leaks(sender=request.param), tmp_path_factory.mktemp("leaks")
    with collecting() as collector, running(folder, collector, leaks.sender) as places:
        leaks.secrets = tuple(path.read_text() for path in sorted((folder / "nodes").glob(".*")) if path.is_file())
        asyncio.run(a_life(places, leaks))
        for plan in RECEIVERS:
            leaks.wrapped_keys.append(wrapped_key(places[plan], leaks.referrals[plan.agency]))
        look_around(places, LIFE, leaks)
        for node in (places[HELPLINE], places[ON_SQLITE]):
            asyncio.run(fails_in_a_handler(node, leaks))
        asyncio.run(her_no(places, leaks))
        look_around(places, END, leaks)
        # One ends in order, and says all that it has measured; the sender, which knew her words, does not.
        places[ON_SQLITE].stop()
        abort(places, leaks)
        look_around(places, CRASH, leaks)
        for path, body in collector.bodies:
            leaks.add(CRASH, f"collector {path}", body)
    return leaks


def test_no_planted_word_lies_anywhere(leaks: Leaks) -> None:
    assert all(STEM in word for word in PLANTED.values())
    assert leaks.spelled(STEM) == set()


def test_everything_was_looked_at(leaks: Leaks) -> None:
    """A search that finds nothing proves nothing unless it would find something."""
    seen = {(moment, place.split()[0]) for moment, place, _ in leaks.places}
    for moment in (LIFE, END, CRASH):
        assert {(moment, place) for place in ("home", "log", "backup", "database", "server-log")} <= seen
    assert {(LIFE, "process"), (END, "process"), (LIFE, "problem"), (CRASH, "problem")} <= seen
    said = {place for _, place, _ in leaks.places if place.startswith("collector")}
    assert said == {"collector /v1/metrics", "collector /v1/traces"}
    for receiver, referral in leaks.referrals.items():
        found = {place.split()[0] for _, place in leaks.spelled(referral)}
        logged = {"server-log"} if "postgresql" in {leaks.sender, KINDS[receiver]} else set()
        assert found >= {"database", "backup"} | logged, "ids are there, so words would be seen"
    assert "collector" in {place.split()[0] for _, place in leaks.spelled("/v1/referrals")}


def test_no_passphrase_is_told_to_anybody(leaks: Leaks) -> None:
    assert len(leaks.secrets) == 3
    assert leaks.spelled(*leaks.secrets) == set()


def test_the_key_of_a_destroyed_referral_is_in_no_file_of_a_database(leaks: Leaks) -> None:
    """By its bytes. What PostgreSQL's own log keeps until it is recycled: docs/decisions/0006-two-databases.md."""
    for key in leaks.wrapped_keys:
        found = {(moment, place.split()[0]) for moment, place in leaks.holding({key, key.hex().encode()})}
        assert (LIFE, "database") in found, "it is found while it lives"
        where = sorted(leaks.holding({key, key.hex().encode()}))
        assert found - {(moment, "server-log") for moment in (LIFE, END, CRASH)} == {(LIFE, "database")}, where


def test_a_process_that_dies_leaves_no_core_file(leaks: Leaks) -> None:
    assert leaks.exit_codes == [-signal.SIGABRT] * 4
    assert leaks.cores == []
    assert leaks.core_limits
    assert all(limits == ["0", "0"] for limits in leaks.core_limits)
