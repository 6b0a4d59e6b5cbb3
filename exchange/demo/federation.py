"""A federation of real nodes on this machine: separate processes, databases, keys and homes, over loopback HTTP.

Rules:

* Every member is marked synthetic and every node runs as a demo or a sandbox: a production node refuses this roster and
  this contract.
* The nodes are made and run by what `exchange init`, `contract adopt`, `roster add` and `serve` use.
* Nobody else serves a node's SQLite databases meanwhile (`exchange.storage.served`).
* Each process is stopped by its own id, also when a test or a story fails.
* A node's processes write into `node.log` in its home.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx2

from contracts.loader import load_contract, shipped_contract
from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli.adopt import sign_adherence
from exchange.cli.founding import CONTRACTS_NAME, NodePlan, found
from exchange.cli.profile import open_client
from exchange.cli.serve import Supervisor
from exchange.client import AgencyClient
from exchange.client.vault import Identity, open_agency_folder
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file
from exchange.roster import Adoption, Member, ToldFirst, roster_bytes
from exchange.settings import KEYS_NAME, Environment
from exchange.storage.errors import StorageServedError
from exchange.storage.served import held

LOOPBACK: Final = "127.0.0.1"
READY_WITHIN_S: Final = 90.0
_PASSPHRASE_NAME: Final = "passphrase"  # noqa: S105 - the name of a file
NewDatabase = Callable[[str], str]
"""From a name to the address of a new, empty database."""


@dataclass(frozen=True, slots=True)
class AgencyPlan:
    """An invented agency."""

    agency: str
    name: str
    kind: AgencyKind
    country: str
    service_types: tuple[ServiceType, ...]
    told_first: ToldFirst
    represents: str | None = None

    def node(self, home: Path, port: int, environment: Environment) -> NodePlan:
        """What its node shall be, on loopback, with databases in its home unless others are named."""
        return NodePlan(
            home=home,
            agency=self.agency,
            name=self.name,
            kind=self.kind,
            country=self.country,
            represents=self.represents,
            service_types=self.service_types,
            public_url=f"http://{LOOPBACK}:{port}",
            duty_contact="+00 000 0000 (synthetic)",
            breach_contact="breach@example.org (synthetic)",
            told_first=self.told_first,
            environment=environment,
            host=LOOPBACK,
            port=port,
        )


HELPLINE: Final = AgencyPlan(
    agency="lantern-helpline",
    name="Lantern Helpline (synthetic)",
    kind=AgencyKind.HELPLINE,
    country="MY",
    service_types=(ServiceType.PSYCHOSOCIAL_SUPPORT,),
    told_first=ToldFirst(freedom_of_movement="She calls and hangs up when she wants.", requires_documents=False),
)
SHELTER: Final = AgencyPlan(
    agency="rose-house-shelter",
    name="Rose House Shelter (synthetic)",
    kind=AgencyKind.SHELTER,
    country="MY",
    service_types=(ServiceType.SAFE_ACCOMMODATION, ServiceType.TRANSIT_ACCOMMODATION),
    told_first=ToldFirst(freedom_of_movement="She can come and go, and leave for good.", requires_documents=False),
)
EMBASSY: Final = AgencyPlan(
    agency="example-embassy",
    name="Example Embassy, labour section (synthetic)",
    kind=AgencyKind.EMBASSY,
    country="MY",
    represents="ID",
    service_types=(ServiceType.TRAVEL_DOCUMENTS, ServiceType.REPATRIATION),
    told_first=ToldFirst(
        reports_to=("its ministry of foreign affairs",),
        freedom_of_movement="She is free to leave.",
        requires_documents=True,
    ),
)
LABOUR_OFFICE: Final = AgencyPlan(
    agency="example-labour-office",
    name="Example Labour Office (synthetic)",
    kind=AgencyKind.LABOUR_OFFICE,
    country="MY",
    service_types=(ServiceType.LABOUR_COMPLAINT, ServiceType.WAGE_CLAIM),
    told_first=ToldFirst(
        reports_to=("the ministry of labour",), freedom_of_movement="She is free to leave.", requires_documents=True
    ),
)
FOUR: Final = (HELPLINE, SHELTER, EMBASSY, LABOUR_OFFICE)


class FederationError(Exception):
    """The nodes did not start. The text says where to look."""


@dataclass(frozen=True, slots=True)
class MadeNode:
    """A node that was made and does not run yet."""

    plan: AgencyPlan
    home: Path
    member: Member
    port: int
    passphrase: str = field(repr=False)
    """Of the agency key's file, wherever that is."""
    variables: Mapping[str, str] = field(repr=False)
    databases: tuple[str, str] = field(repr=False)
    """The addresses of the main database and of the key store."""
    office: Path | None = None
    """The folder of the agency's own machine, where the node holds no agency key."""


@dataclass(slots=True)
class RunningNode:
    """One agency's node, with its processes."""

    plan: AgencyPlan
    home: Path
    member: Member
    supervisor: Supervisor
    office: Path | None = None
    passphrase: str = field(default="", repr=False)

    @property
    def agency(self) -> str:
        """Its agency's id."""
        return self.plan.agency

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.member.node_url

    def client(self, actor: str) -> AgencyClient:
        """A client of this node, as the agency's own software would be."""
        return open_client(self.office or self.home, actor)

    def identity(self) -> Identity:
        """The agency's own keys, where the node holds none.

        Raises:
            VaultError: the node holds them.
        """
        return open_agency_folder(self.office or self.home, self.passphrase)


@dataclass(slots=True)
class RunningFederation:
    """The nodes that run."""

    folder: Path
    nodes: dict[str, RunningNode] = field(default_factory=dict)
    contract_digest: str = ""

    def __getitem__(self, plan: AgencyPlan) -> RunningNode:
        return self.nodes[plan.agency]


@contextmanager
def running_federation(
    folder: Path,
    plans: Sequence[AgencyPlan] = FOUR,
    *,
    environment: Environment = Environment.DEMO,
    new_database: NewDatabase | None = None,
    variables: Mapping[str, str] | None = None,
    keys_elsewhere: bool = False,
) -> Iterator[RunningFederation]:
    """Nodes for these agencies, ready to work; stopped at the end.

    Args:
        folder: a new or empty folder for their homes.
        plans: which agencies.
        environment: demo or sandbox.
        new_database: makes the databases of the nodes; each node has files in its home unless given.
        variables: further settings of every node.
        keys_elsewhere: no node holds its agency's key; each agency has a folder of its own beside the nodes' homes.

    Raises:
        FederationError: a node did not start, or stopped at once.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    federation = RunningFederation(folder)
    with ExitStack() as nodes:
        made, federation.contract_digest = make_nodes(
            folder, plans, environment, new_database, variables or {}, keys_elsewhere=keys_elsewhere
        )
        for one in made:
            federation.nodes[one.plan.agency] = nodes.enter_context(running(one))
        nodes.callback(_tell_to_stop, federation)
        asyncio.run(_wait_until_ready(federation))
        yield federation


def make_nodes(
    folder: Path,
    plans: Sequence[AgencyPlan],
    environment: Environment,
    new_database: NewDatabase | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    keys_elsewhere: bool = False,
) -> tuple[list[MadeNode], str]:
    """Nodes that do not run yet, with one contract adopted by all and one roster; and the contract's digest."""
    made = [_found(folder, plan, environment, new_database, variables, elsewhere=keys_elsewhere) for plan in plans]
    return made, _link(made)


def _tell_to_stop(federation: RunningFederation) -> None:
    """All at once, so that waiting for one does not make the others wait."""
    for node in federation.nodes.values():
        node.supervisor.tell_to_stop()


def _found(
    folder: Path,
    plan: AgencyPlan,
    environment: Environment,
    new_database: NewDatabase | None,
    variables: Mapping[str, str],
    *,
    elsewhere: bool,
) -> MadeNode:
    home = folder / plan.agency
    office = folder / f"{plan.agency}-office" if elsewhere else None
    secret_file = folder / f".{plan.agency}.{_PASSPHRASE_NAME}"
    passphrase, agency_passphrase = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    descriptor = os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(passphrase)
    port = _free_port()
    urls = (new_database(f"{plan.agency}-main"), new_database(f"{plan.agency}-keys")) if new_database else (None, None)
    databases = {"EXCHANGE_DATABASE_URL": urls[0], "EXCHANGE_KEY_DATABASE_URL": urls[1]}
    planned = replace(
        plan.node(home, port, environment),
        database_url=urls[0],
        key_database_url=urls[1],
        secret_files={"passphrase_file": secret_file},
        actor="w-demo",
        agency_home=office,
    )
    made = found(
        planned,
        passphrase,
        agency_passphrase=agency_passphrase,
        # Invented keys, made in a moment: the cheapest derivation that a node accepts.
        cost=FLOOR,
    )
    own = dict(variables) | {name: url for name, url in databases.items() if url is not None}
    of_agency_key = agency_passphrase if elsewhere else passphrase
    return MadeNode(plan, home, made.member, port, of_agency_key, own, planned.databases, office)


def _link(made: Sequence[MadeNode]) -> str:
    """Every agency adopts the shipped contract; one roster for all; the contract's digest."""
    data = shipped_contract()
    today = datetime.now(UTC).date()
    contract = load_contract(data, on=today)
    adherence = {}
    for one in made:
        path = one.home / KEYS_NAME if one.office is None else one.office / AGENCY_KEYS_NAME
        keys = open_keys(read_key_file(path), one.passphrase.encode())
        assert keys.agency is not None  # noqa: S101 - `found` makes one
        now = int(time.time() * 1000)
        path = sign_adherence(one.home, one.home / CONTRACTS_NAME, data, keys.agency.sign, now=now)
        adherence[one.plan.agency] = path.read_bytes().strip()
    adoption = Adoption(contract.digest, frozenset(adherence), today, contract.valid_until, MappingProxyType(adherence))
    members = tuple(one.member for one in made)
    roster = roster_bytes(version=1, synthetic=True, members=members, contracts=(adoption,))
    for one in made:
        (one.home / "roster.json").write_bytes(roster)
        if one.office is not None:
            (one.office / "roster.json").write_bytes(roster)
            shutil.copytree(one.home / CONTRACTS_NAME, one.office / CONTRACTS_NAME, dirs_exist_ok=True)
    return contract.digest


@contextmanager
def running(made: MadeNode) -> Iterator[RunningNode]:
    """The processes of a node, which nobody else serves meanwhile; stopped at the end.

    Raises:
        FederationError: another process serves it.
    """
    # Settings of the surrounding shell belong to another node.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}
    variables = {**inherited, **made.variables, "EXCHANGE_HOME": str(made.home)}
    with ExitStack() as stack:
        try:
            holds = stack.enter_context(held(*made.databases))
        except StorageServedError as error:
            raise FederationError(f"{made.plan.agency}: {error}") from None
        log = stack.enter_context((made.home / "node.log").open("ab"))
        supervisor = Supervisor(LOOPBACK, made.port, 1, variables, holds=holds, output=log)
        supervisor.start()
        stack.callback(supervisor.stop)
        yield RunningNode(made.plan, made.home, made.member, supervisor, made.office, made.passphrase)


async def _wait_until_ready(federation: RunningFederation) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with httpx2.AsyncClient(trust_env=False, timeout=READY_WITHIN_S) as http:
        for node in federation.nodes.values():
            while not await _is_ready(http, node.url):
                if (child := node.supervisor.ended()) is not None:
                    raise FederationError(f"{node.agency}: `{child.role}` ended; see {node.home / 'node.log'}")
                if time.monotonic() > deadline:
                    raise FederationError(f"{node.agency} did not become ready; see {node.home / 'node.log'}")
                await asyncio.sleep(0.1)


async def _is_ready(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/health/ready")).is_success
    except httpx2.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
