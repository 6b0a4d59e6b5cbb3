"""Several real nodes in one process: real databases, keys, roster, contract, applications; the network is ASGI.

Only the sockets are missing. Each node has its own home, its own two databases, its own courier, which a test runs when
it wants something to travel. The clock of every node is `Clock`, so that days can pass in a test.
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final
from unittest.mock import patch

import httpx2
from pydantic import SecretStr
from support.founded import PASSPHRASE, Copied, DatabaseMaker, Made, make
from support.networks import OverTransport
from support.once import seal_keys_with_one_salt

from contracts.loader import load_contract, shipped_contract
from contracts.model import Contract
from exchange.api.api import build_api
from exchange.api.serving import attach
from exchange.cli import founding
from exchange.cli.adopt import sign_adherence
from exchange.cli.founding import CONTRACTS_NAME
from exchange.cli.profile import read_profile
from exchange.client import AgencyClient, ClientKey, RetryPolicy
from exchange.client.vault import AgencyVault, agency_keys, open_agency_folder
from exchange.demo.federation import FOUR, AgencyPlan
from exchange.envelope import key_file
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.envelope.keys import AgencyKey
from exchange.envelope.statements import Adherence, sign_statement
from exchange.federation.courier import Courier
from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import HTTPTransport
from exchange.federation.world_files import WorldFiles
from exchange.roster import Adoption, Member, roster_bytes
from exchange.settings import Environment, Settings, load_settings
from exchange.startup import open_node
from exchange.telemetry import AccessLog, Telemetry
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.node import Node

ONCE = RetryPolicy(attempts=1)
"""Of a client for which a refusal is not waited out: `_connection._retries`."""


class Clock:
    """One time for a whole federation, in Unix milliseconds; it runs, and a test can move it."""

    def __init__(self) -> None:
        self.offset = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset

    def pass_by(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Let time pass."""
        self.offset += int((hours * 3600 + seconds) * 1000)


MOST_ROUNDS: Final = 4
"""Of `Federation.travel`: nothing that a test lets travel takes more."""

CARD_PATH: Final = "/.well-known/referral-node"


class Network(httpx2.AsyncBaseTransport):
    """The way between the nodes: by port, to an application; or nowhere, where a node is away."""

    def __init__(self) -> None:
        self.apps: dict[int, httpx2.ASGITransport] = {}
        self.away: set[int] = set()
        self.cut: set[int] = set()
        """Ports of nodes without a line: their own agency's systems reach them, no peer does, and they reach none."""
        self.answers_lost = False
        """What one node asks another arrives there, and the answer does not come back."""
        self.posted: list[tuple[int, str, bytes]] = []
        """(port, path, body) of everything that travelled between nodes."""
        self.paths: list[str] = []
        """Of every request that reached a node, in their order."""
        self.answered: list[bytes] = []
        """The body of every answer to it."""

    @property
    def cards_asked(self) -> int:
        """How often a node that was there was asked for its card."""
        return self.paths.count(CARD_PATH)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        port = request.url.port or 0
        if port in self.away or port not in self.apps:
            raise httpx2.ConnectError("away")
        body = await request.aread()
        self.paths.append(request.url.path)
        answer = await self.apps[port].handle_async_request(request)
        if request.url.path.startswith("/federation/"):
            self.posted.append((port, request.url.path, body))
            content = await answer.aread()
            self.answered.append(content)
            return httpx2.Response(answer.status_code, headers=answer.headers, content=content)
        return answer


class Line(httpx2.AsyncBaseTransport):
    """One node's own way out to its peers."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._network.cut & {self._port, request.url.port}:
            raise httpx2.ConnectError("no line")
        answer = await self._network.handle_async_request(request)
        if self._network.answers_lost:
            raise httpx2.ReadError("the line broke")
        return answer


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
    agency_home: Path
    """Where the agency's own software lives: the node's home, or another folder where the keys are elsewhere."""
    settings: Settings
    """Those of its processes: with them it can be started again."""
    clients: list[AgencyClient] = field(default_factory=list)
    vaults: list[AgencyVault] = field(default_factory=list)

    @property
    def agency(self) -> str:
        """Its agency's id."""
        return self.plan.agency

    def client(self, actor: str = "w-test") -> AgencyClient:
        """The agency's own software."""
        profile = read_profile(self.agency_home)
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

    def vault(self, client: AgencyClient | None = None) -> AgencyVault:
        """The agency's own software where it holds the keys, with the federation's clock."""
        identity = replace(open_agency_folder(self.agency_home, PASSPHRASE), clock=self.node.clock)
        vault = AgencyVault(identity, client or self.client())
        self.vaults.append(vault)
        return vault


@dataclass(slots=True)
class Federation:
    """All nodes of a test."""

    folder: Path
    network: Network
    clock: Clock
    nodes: dict[str, TestNode] = field(default_factory=dict)

    def __getitem__(self, plan: AgencyPlan) -> TestNode:
        return self.nodes[plan.agency]

    async def travel(self, rounds: int | None = None) -> None:
        """Let every clock and courier work until a whole round after the first brings no peer anything; or so often."""
        for done in range(MOST_ROUNDS if rounds is None else rounds):
            before = len(self.network.posted)
            for one in self.nodes.values():
                await maintain(one.node)
                await destroy_ended(one.node)
                await one.courier.run_once()
            if rounds is None and done and len(self.network.posted) == before:
                return

    def leave(self, plan: AgencyPlan) -> None:
        """This agency's node cannot be reached any more."""
        self.network.away.add(self[plan].port)

    def cut_off(self, plan: AgencyPlan) -> None:
        """This agency's node has no line: its own systems go on working with it, no peer does."""
        self.network.cut.add(self[plan].port)

    def connect(self, plan: AgencyPlan) -> None:
        """Its line is there again."""
        self.network.cut.discard(self[plan].port)

    def come_back(self, plan: AgencyPlan) -> None:
        """It can be reached again."""
        self.network.away.discard(self[plan].port)

    async def new_roster(
        self,
        *,
        member: Callable[[Member], Member] = lambda member: member,
        contracts: Sequence[Adoption] | None = None,
        signs: tuple[str, AgencyKey] | None = None,
        known_to: Iterable[AgencyPlan] | None = None,
    ) -> None:
        """The federation's officers publish another roster, and these nodes (all, unless said) have it already.

        `signs`: an agency that has signed its adherence anew, with this key.
        """
        newest = max((one.node.world().roster for one in self.nodes.values()), key=lambda roster: roster.version)
        adoptions = tuple(contracts) if contracts is not None else newest.contracts
        if signs is not None:
            adoptions = tuple(_adopted_anew(adoption, *signs, at=self.clock()) for adoption in adoptions)
        data = roster_bytes(
            version=newest.version + 1,
            synthetic=newest.synthetic,
            members=tuple(member(one) for one in newest.members.values()),
            contracts=adoptions,
        )
        for one in self.nodes.values() if known_to is None else [self[plan] for plan in known_to]:
            (one.home / "roster.json").write_bytes(data)
            (one.agency_home / "roster.json").write_bytes(data)
            await one.node.refresh_world()


def _adopted_anew(adoption: Adoption, agency: str, key: AgencyKey, *, at: int) -> Adoption:
    adherence = Adherence(agency=agency, contract=adoption.digest, adopted_at=at)
    signed = sign_statement(adherence, key.sign).to_bytes()
    return replace(adoption, adherence=MappingProxyType({**adoption.adherence, agency: signed}))


_read_contract = functools.cache(load_contract)
_judged = WorldFiles._judge


@functools.cache
def _judged_once(data: bytes, *, drafts: bool) -> Contract | None:
    asker = WorldFiles.__new__(WorldFiles)
    asker._drafts = drafts
    return _judged(asker, data)


def _judge_once(files: WorldFiles, data: bytes) -> Contract | None:
    """Reading and proving the shipped contract takes a second; a test process does it once."""
    return _judged_once(data, drafts=files._drafts)


_derived_once = functools.cache(key_file._aead)
"""The derivation of a key file takes a fifth of a second; with one salt a test process does it once."""


@asynccontextmanager
async def federation(
    folder: Path,
    plans: Sequence[AgencyPlan] = FOUR,
    *,
    database: DatabaseMaker | Copied | None = None,
    telemetry: Telemetry | None = None,
    blind: Sequence[AgencyPlan] = (),
) -> AsyncIterator[Federation]:
    """Open nodes for these agencies, with each other's keys fetched; `blind` ones hold no agency key."""
    with (
        patch.object(WorldFiles, "_judge", _judge_once),
        patch.object(key_file, "_aead", _derived_once),
        patch.object(founding, "seal_keys", seal_keys_with_one_salt),
        patch.object(agency_keys, "load_contract", _read_contract),
    ):
        async with _federation(folder, plans, database, telemetry, blind) as together:
            yield together


@asynccontextmanager
async def _federation(
    folder: Path,
    plans: Sequence[AgencyPlan],
    database: DatabaseMaker | Copied | None,
    telemetry: Telemetry | None,
    blind: Sequence[AgencyPlan],
) -> AsyncIterator[Federation]:
    made = [make(folder, place, plan, database, blind=plan in blind) for place, plan in enumerate(plans)]
    _link(made)
    together = Federation(folder, Network(), Clock())
    async with AsyncExitStack() as stack:
        for one in made:
            together.nodes[one.plan.agency] = await _open(stack, one, together, telemetry)
        for plan in blind:
            await together[plan].vault().publish_epochs()
        for one in together.nodes.values():
            for other in together.nodes.values():
                if one is not other:
                    assert await fetch_peer_keys(one.node, _transport(one.node, together.network), other.member)
        yield together
        for one in together.nodes.values():
            for vault in one.vaults:
                vault.close()
            for client in one.clients:
                await client.close()


def _link(made: Sequence[Made]) -> None:
    data = shipped_contract()
    today = datetime.now(UTC).date()
    contract = _read_contract(data, on=today)
    adherence = {}
    for one in made:
        keys = open_keys(read_key_file(one.key_file), PASSPHRASE.encode())
        assert keys.agency is not None
        now = int(time.time() * 1000)
        path = sign_adherence(one.home, one.home / CONTRACTS_NAME, data, keys.agency.sign, now=now)
        adherence[one.plan.agency] = path.read_bytes().strip()
    # Since yesterday: a test that goes back by some hours is about something else, also shortly after midnight.
    since = today - timedelta(days=1)
    adoption = Adoption(contract.digest, frozenset(adherence), since, contract.valid_until, MappingProxyType(adherence))
    members = tuple(one.member for one in made)
    roster = roster_bytes(version=1, synthetic=True, members=members, contracts=(adoption,))
    for one in made:
        (one.home / "roster.json").write_bytes(roster)
        if one.agency_home != one.home:
            (one.agency_home / "roster.json").write_bytes(roster)
            shutil.copytree(one.home / CONTRACTS_NAME, one.agency_home / CONTRACTS_NAME, dirs_exist_ok=True)


async def _open(stack: AsyncExitStack, made: Made, together: Federation, telemetry: Telemetry | None) -> TestNode:
    settings = load_settings(
        home=made.home,
        public_url=f"http://127.0.0.1:{made.port}",
        environment=Environment.DEMO,
        passphrase=SecretStr(PASSPHRASE),
        database_url=SecretStr(made.database_url),
        key_database_url=SecretStr(made.key_database_url),
    )
    line = Line(together.network, made.port)
    node = await stack.enter_async_context(open_node(settings, telemetry=telemetry, network=OverTransport(line)))
    node.clock = together.clock
    app = build_api(node, telemetry=telemetry.fastapi() if telemetry is not None else None)
    attach(app, node)
    heard = AccessLog(app, measurements=telemetry.measurements) if telemetry is not None else app
    together.network.apps[made.port] = httpx2.ASGITransport(app=heard)
    transport = _transport(node, line)
    stack.push_async_callback(transport.close)
    courier = Courier(node, transport)
    return TestNode(
        made.plan, made.home, made.member, made.port, node, courier, together.network, made.agency_home, settings
    )


def _transport(node: Node, network: httpx2.AsyncBaseTransport) -> HTTPTransport:
    return HTTPTransport(node.agency, node.node_key, node.limits, node.clock, network=OverTransport(network))


def body_of(posted: tuple[int, str, bytes]) -> dict[str, object]:
    """The JSON of what travelled."""
    found: dict[str, object] = json.loads(posted[2])
    return found
