"""Several real nodes in one process: real databases, keys, roster, contract, applications; the network is ASGI.

Only the sockets are missing. Each node has its own home, its own two databases, its own courier, which a test runs when
it wants something to travel. The clock of every node is `Clock`, so that days can pass in a test.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import httpx2
from pydantic import SecretStr

from contracts.loader import load_contract, shipped_contract
from exchange.api.api import build_api
from exchange.api.serving import attach
from exchange.app import open_node
from exchange.cli.adopt import sign_adherence
from exchange.cli.founding import CONTRACTS_NAME, KEYS_NAME, NodePlan, found
from exchange.cli.profile import read_profile
from exchange.client import AgencyClient, ClientKey
from exchange.demo.federation import FOUR, AgencyPlan
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file
from exchange.federation.courier import Courier
from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import HTTPTransport
from exchange.roster import Adoption, Member, roster_bytes
from exchange.settings import Environment, load_settings
from exchange.use_cases.maintain import maintain
from exchange.use_cases.node import Node

PASSPHRASE = "synthetic passphrase"
FIRST_PORT = 47001


class Clock:
    """One time for a whole federation, in Unix milliseconds; it runs, and a test can move it."""

    def __init__(self) -> None:
        self.offset = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset

    def pass_by(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Let time pass."""
        self.offset += int((hours * 3600 + seconds) * 1000)


class Network(httpx2.AsyncBaseTransport):
    """The way between the nodes: by port, to an application; or nowhere, where a node is away."""

    def __init__(self) -> None:
        self.apps: dict[int, httpx2.ASGITransport] = {}
        self.away: set[int] = set()
        self.posted: list[tuple[int, str, bytes]] = []
        """(port, path, body) of everything that travelled between nodes."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        port = request.url.port or 0
        if port in self.away or port not in self.apps:
            raise httpx2.ConnectError("away")
        body = await request.aread()
        if request.url.path.startswith("/federation/"):
            self.posted.append((port, request.url.path, body))
        return await self.apps[port].handle_async_request(request)


@dataclass(slots=True)
class TestNode:
    """One agency's node in this process."""

    __test__ = False

    plan: AgencyPlan
    home: Path
    member: Member
    port: int
    node: Node
    courier: Courier
    network: Network
    clients: list[AgencyClient] = field(default_factory=list)

    @property
    def agency(self) -> str:
        """Its agency's id."""
        return self.plan.agency

    def client(self, actor: str = "w-test") -> AgencyClient:
        """The agency's own software."""
        profile = read_profile(self.home)
        client = AgencyClient(
            profile.url,
            profile.client_id,
            ClientKey.load(profile.key_file),
            actor=actor,
            scopes=profile.scopes,
            issuer=profile.issuer,
            transport=self.network,
            now_s=lambda: self.node.clock() / 1000,
        )
        self.clients.append(client)
        return client


@dataclass(slots=True)
class Federation:
    """All nodes of a test."""

    folder: Path
    network: Network
    clock: Clock
    nodes: dict[str, TestNode] = field(default_factory=dict)

    def __getitem__(self, plan: AgencyPlan) -> TestNode:
        return self.nodes[plan.agency]

    async def travel(self, rounds: int = 4) -> None:
        """Let every courier work until nothing moves any more."""
        for _ in range(rounds):
            for one in self.nodes.values():
                await maintain(one.node)
                await one.courier.run_once()


DatabaseMaker = Callable[[str], str]


def sqlite_maker(folder: Path) -> DatabaseMaker:
    """Databases as files."""
    return lambda name: f"sqlite:///{folder / name}.db"


@asynccontextmanager
async def federation(
    folder: Path, plans: Sequence[AgencyPlan] = FOUR, *, database: DatabaseMaker | None = None
) -> AsyncIterator[Federation]:
    """Open nodes for these agencies, with each other's keys fetched."""
    made = [_make(folder, place, plan, database or sqlite_maker(folder)) for place, plan in enumerate(plans)]
    _link(made)
    together = Federation(folder, Network(), Clock())
    async with AsyncExitStack() as stack:
        for one in made:
            together.nodes[one.plan.agency] = await _open(stack, one, together)
        for one in together.nodes.values():
            for other in together.nodes.values():
                if one is not other:
                    assert await fetch_peer_keys(one.node, _transport(one.node, together.network), other.member)
        yield together
        for one in together.nodes.values():
            for client in one.clients:
                await client.close()


@dataclass(slots=True)
class _Made:
    plan: AgencyPlan
    home: Path
    member: Member
    port: int
    database_url: str
    key_database_url: str


def _make(folder: Path, place: int, plan: AgencyPlan, database: DatabaseMaker) -> _Made:
    home, port = folder / plan.agency, FIRST_PORT + place
    urls = database(f"{plan.agency}-main"), database(f"{plan.agency}-keys")
    made = found(
        NodePlan(
            home=home,
            agency=plan.agency,
            name=plan.name,
            kind=plan.kind,
            country=plan.country,
            represents=plan.represents,
            service_types=plan.service_types,
            public_url=f"http://127.0.0.1:{port}",
            duty_contact="+00 000 0000 (synthetic)",
            breach_contact="breach@example.org (synthetic)",
            told_first=plan.told_first,
            environment=Environment.DEMO,
            host="127.0.0.1",
            port=port,
            database_url=urls[0],
            key_database_url=urls[1],
            actor="w-test",
        ),
        PASSPHRASE,
        cost=FLOOR,
    )
    return _Made(plan, home, made.member, port, *urls)


def _link(made: Sequence[_Made]) -> None:
    data = shipped_contract()
    today = datetime.now(UTC).date()
    contract = load_contract(data, on=today)
    adherence = {}
    for one in made:
        keys = open_keys(read_key_file(one.home / KEYS_NAME), PASSPHRASE.encode())
        assert keys.agency is not None
        now = int(time.time() * 1000)
        path = sign_adherence(one.home, one.home / CONTRACTS_NAME, data, keys.agency.sign, now=now)
        adherence[one.plan.agency] = path.read_bytes().strip()
    adoption = Adoption(contract.digest, frozenset(adherence), today, contract.valid_until, MappingProxyType(adherence))
    members = tuple(one.member for one in made)
    roster = roster_bytes(version=1, synthetic=True, members=members, contracts=(adoption,))
    for one in made:
        (one.home / "roster.json").write_bytes(roster)


async def _open(stack: AsyncExitStack, made: _Made, together: Federation) -> TestNode:
    settings = load_settings(
        home=made.home,
        public_url=f"http://127.0.0.1:{made.port}",
        environment=Environment.DEMO,
        passphrase=SecretStr(PASSPHRASE),
        database_url=SecretStr(made.database_url),
        key_database_url=SecretStr(made.key_database_url),
    )
    node = await stack.enter_async_context(open_node(settings, transport=together.network))
    node.clock = together.clock
    app = build_api(node)
    attach(app, node)
    together.network.apps[made.port] = httpx2.ASGITransport(app=app)
    transport = _transport(node, together.network)
    stack.push_async_callback(transport.close)
    return TestNode(
        made.plan, made.home, made.member, made.port, node, Courier(node, transport), together.network
    )


def _transport(node: Node, network: Network) -> HTTPTransport:
    return HTTPTransport(node.agency, node.node_key, node.limits, node.clock, transport=network)


def body_of(posted: tuple[int, str, bytes]) -> dict[str, object]:
    """The JSON of what travelled."""
    found: dict[str, object] = json.loads(posted[2])
    return found


