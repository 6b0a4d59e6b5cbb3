"""Settings become an open node. Every process of a node starts here, also the one that serves nothing.

Rules:

* A node that would be insecure does not start; the reasons say who must do what.
* It starts only with keys that open, databases at the right version, and a roster in which its agency stands under
  exactly these keys; and with no older roster than it has used before.
* Keys in the key store that no referral needs are swept before anything is received. With another node's key store it
  does not start: nothing would open.
* Whatever was opened is closed, also when starting fails half-way.
* The web framework is not loaded here: the courier and the commands have no use for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

from consent.errors import StatementInvalidError
from consent.statements import StatementLibrary
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import KeySet, open_keys, read_key_file
from exchange.envelope.keys import NodeKey, StorageKey
from exchange.envelope.sealed_rows import SealedRows
from exchange.federation.http_connections import Network
from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import HTTPTransport, PeerUnreachableError
from exchange.federation.world_files import WorldFiles, WorldPaths
from exchange.insecurities import insecurities
from exchange.limits import LIMITS
from exchange.oauth.server import TokenServer
from exchange.roster import Member, RosterInvalidError, RosterSnapshot, parse_roster
from exchange.schemas.federation import ConsentStatusAnswer
from exchange.settings import KEYS_NAME, STATEMENTS_NAME, Environment, Settings
from exchange.storage.database import Connection, Database
from exchange.storage.errors import (
    StorageDamagedError,
    StorageError,
    StorageForbiddenError,
    StorageUnavailableError,
)
from exchange.storage.key_store import ORPHANS_OLDER_THAN_MS, KeyStore, is_anothers_key_store
from exchange.storage.node_keyring import NodeKeyring
from exchange.storage.referrals import load_referrals
from exchange.storage.used_roster import UsedRoster, used_roster, used_roster_of
from exchange.storage.versions import History, ensure_current, known_versions
from exchange.storage.visibility import settle_restored
from exchange.telemetry import Telemetry, configure_logging, start_telemetry
from exchange.use_cases.maintain import remember_used_roster
from exchange.use_cases.node import Node
from exchange.use_cases.own_epochs import publish_own_epochs

VERSION: Final = version("referral-exchange")
SANDBOX_TOKEN_S: Final = 3600
"""Long enough to paste. A sandbox holds nobody real, and production refuses its roster."""


class StartRefusedError(Exception):
    """The node does not start. `reasons` say who must do what.

    Attributes:
        may_pass: whether a later start may succeed with nothing changed here, as when a database server was not up yet.
    """

    def __init__(self, *reasons: str, may_pass: bool = False) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons
        self.may_pass = may_pass


def clock() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_node(
    settings: Settings,
    *,
    telemetry: Telemetry | None = None,
    network: Network | None = None,
) -> AsyncIterator[Node]:
    """An open node, closed at the end.

    Raises:
        StartRefusedError: it must not start, or cannot.
    """
    async with AsyncExitStack() as stack:
        if telemetry is None:
            telemetry = begin_telemetry(settings)
            stack.callback(telemetry.shut_down)
        keys = _keys(settings)
        world = _world(settings)
        roster = world.current().roster
        member = _own_member(roster, keys)
        _refuse_insecure(settings, roster)
        _refuse_unmarked(settings, keys)
        database = await _database(stack, settings.database_url.get_secret_value(), History.MAIN)
        key_database = await _database(stack, settings.key_database_url.get_secret_value(), History.KEYS)
        node = _node(settings, telemetry, keys, member, world, database, key_database)

        def now() -> int:
            return node.clock()  # looked up each time: a test moves the node's clock

        http = HTTPTransport(node.agency, node.node_key, node.limits, now, network=network)
        stack.push_async_callback(http.close)

        async def fetch(peer: Member) -> None:
            await fetch_peer_keys(node, http, peer)

        async def ask(peer: Member, receipts: Sequence[str]) -> ConsentStatusAnswer | None:
            try:
                return await http.consent_status(peer, receipts)
            except PeerUnreachableError:
                return None

        node.fetch_peer_keys = fetch
        node.ask_consent_status = ask
        try:
            used = await database.read(used_roster)
            # Another process of this node may have taken a newer one since this one read the file.
            await world.refresh()
            _refuse_older(world.current().roster, used)
            _refuse_anothers(await node.key_store.is_anothers())
            await remember_used_roster(node)
            await node.database.write(settle_restored)
            await _sweep(node)
            await publish_own_epochs(node)
        except StorageUnavailableError as error:
            raise _refused_by("main database and the key store", error) from None
        yield node


def check_start(settings: Settings) -> bool:
    """Everything that would keep a node from starting, looked at without opening it; whether it holds the agency key.

    Raises:
        StartRefusedError: it must not start, or cannot.
    """
    keys = _keys(settings)
    try:
        roster = parse_roster(settings.roster_path.read_bytes())
    except (OSError, RosterInvalidError):
        raise StartRefusedError("The operator must put the federation's roster in place (`exchange roster`).") from None
    _own_member(roster, keys)
    _refuse_insecure(settings, roster)
    _refuse_unmarked(settings, keys)
    _statements(settings)
    for url, history in ((settings.database_url, History.MAIN), (settings.key_database_url, History.KEYS)):
        _check_version(url.get_secret_value(), history)
    try:
        used = used_roster_of(settings.database_url.get_secret_value())
    except StorageError as error:
        raise _refused_by("main database", error) from None
    _refuse_older(roster, used)
    storage_key, _ = _required(keys)
    try:
        anothers = is_anothers_key_store(settings.key_database_url.get_secret_value(), storage_key.row_key())
    except StorageError as error:
        raise _refused_by("keys database", error) from None
    _refuse_anothers(anothers)
    return keys.agency is not None


def _check_version(url: str, history: History) -> None:
    try:
        ensure_current(url, history)
    except StorageError as error:
        raise _refused_by(f"{history.value} database", error) from None


def _refused_by(what: str, error: StorageError) -> StartRefusedError:
    lasting = isinstance(error, StorageDamagedError | StorageForbiddenError)
    may_pass = isinstance(error, StorageUnavailableError) and not lasting
    return StartRefusedError(f"The operator must look at the {what}: {error}", may_pass=may_pass)


def begin_telemetry(settings: Settings) -> Telemetry:
    """Traces, metrics and log lines of this process, as the settings say."""
    telemetry = start_telemetry(endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio, version=VERSION)
    configure_logging(level=settings.log_level, count_dropped=telemetry.measurements.log_keys_dropped)
    return telemetry


def _keys(settings: Settings) -> KeySet:
    if settings.passphrase is None:
        raise StartRefusedError("The operator must set EXCHANGE_PASSPHRASE_FILE, or type the passphrase.")
    path = settings.home / KEYS_NAME
    try:
        return open_keys(read_key_file(path), settings.passphrase.get_secret_value().encode())
    except FileNotFoundError:
        raise StartRefusedError(
            f"The operator must restore {path} from where it is kept: it is missing, and without it nothing opens. "
            "(Only a new node is made by `exchange init`.)"
        ) from None
    except OSError:
        raise StartRefusedError(f"The operator must let the node's user read {path}.") from None
    except KeyFileError as error:
        raise StartRefusedError(f"The operator must look at the key file: {error}") from None


def _world(settings: Settings) -> WorldFiles:
    paths = WorldPaths(settings.roster_path, settings.contracts_dir)
    try:
        return WorldFiles(paths, drafts=settings.environment is not Environment.PRODUCTION)
    except OSError:
        raise StartRefusedError("The operator must put the federation's roster in place (`exchange roster`).") from None
    except RosterInvalidError as error:
        raise StartRefusedError(f"The operator must replace the roster file. {error}") from None


def _own_member(roster: RosterSnapshot, keys: KeySet) -> Member:
    """This agency: the member that stands in the roster under the node key of the key file."""
    if keys.node is None or keys.storage is None:
        raise StartRefusedError("The operator must look at the key file: it lacks the node's own keys.")
    public = keys.node.public
    found = next((member for member in roster.members.values() if member.node_key == public), None)
    if found is None:
        raise StartRefusedError(
            "The operator must have this agency listed: no member of the roster has this node's key. "
            "Hand over the card (`exchange roster card`)."
        )
    if keys.agency is not None and keys.agency.public != found.agency_key:
        raise StartRefusedError("The operator must correct the roster: it lists another agency key than this node's.")
    return found


def _refuse_insecure(settings: Settings, roster: RosterSnapshot) -> None:
    problems = insecurities(settings, roster_is_synthetic=roster.synthetic)
    if problems:
        raise StartRefusedError(*(problem.sentence for problem in problems))


def _refuse_unmarked(settings: Settings, keys: KeySet) -> None:
    """A drill is marked inside the seal: a node that does not seal would send every drill as a real emergency."""
    if settings.exercise and keys.agency is None:
        raise StartRefusedError(
            "The operator must leave EXCHANGE_EXERCISE out: where the agency's keys are elsewhere this node marks "
            "nothing. The agency's own software says `exercise` in each request."
        )


def _refuse_older(roster: RosterSnapshot, used: UsedRoster | None) -> None:
    """With it a member that was suspended, or a stolen key that was replaced, would count again."""
    if used is not None and not used.permits(roster.version, roster.digest):
        raise StartRefusedError(
            f"The operator must install the federation's newest roster: this node has used version {used.version} "
            f"before; this is an older one, or another one of that version. The office that keeps the roster has it."
        )


def _refuse_anothers(anothers: bool) -> None:
    if anothers:
        raise StartRefusedError(
            "The operator must look at EXCHANGE_KEY_DATABASE_URL and at node.keys: this node's storage key opens "
            "nothing in that key store. It is another node's, or this is another node's key file."
        )


async def _database(stack: AsyncExitStack, url: str, history: History) -> Database:
    _check_version(url, history)
    try:
        database = Database.open(url, known_versions(history.folder))
    except StorageError as error:
        raise _refused_by(f"{history.value} database", error) from None
    stack.push_async_callback(database.close)
    return database


def _node(
    settings: Settings,
    telemetry: Telemetry,
    keys: KeySet,
    member: Member,
    world: WorldFiles,
    database: Database,
    key_database: Database,
) -> Node:
    storage_key, node_key = _required(keys)
    key_store = KeyStore(key_database, storage_key.row_key())
    synthetic = settings.environment is not Environment.PRODUCTION
    issuer = settings.public_url.rstrip("/")
    token_s = SANDBOX_TOKEN_S if settings.environment is Environment.SANDBOX else LIMITS.token_s
    return Node(
        agency=member.agency,
        issuer=issuer,
        synthetic=synthetic,
        limits=replace(
            LIMITS,
            client_requests_per_minute=settings.client_requests_per_minute,
            peer_requests_per_minute=settings.peer_requests_per_minute,
            peer_bytes_per_minute=settings.peer_bytes_per_minute,
            token_s=token_s,
        ),
        storage_key=storage_key,
        node_key=node_key,
        keyring=NodeKeyring(keys.agency, key_store) if keys.agency is not None else None,
        sealed_rows=SealedRows(storage_key.row_key()),
        database=database,
        key_store=key_store,
        token_server=TokenServer(issuer, storage_key.token_key().secret_bytes(), lifetime_s=token_s),
        statements=_statements(settings),
        measurements=telemetry.measurements,
        exercise=settings.exercise,
        clock=clock,
        entropy=os.urandom,
        world=world.current,
        refresh_world=world.refresh,
        fetch_peer_keys=_not_yet,
        ask_consent_status=_nobody_yet,
    )


def _required(keys: KeySet) -> tuple[StorageKey, NodeKey]:
    if keys.storage is None or keys.node is None:
        raise StartRefusedError("The operator must look at the key file: it lacks the node's own keys.")
    return keys.storage, keys.node


def _statements(settings: Settings) -> StatementLibrary:
    folder = settings.home / STATEMENTS_NAME
    try:
        library = StatementLibrary.load(folder if folder.is_dir() else None)
    except StatementInvalidError as error:
        raise StartRefusedError(f"The operator must mend or remove a file in {folder}. {error}") from None
    except OSError:
        raise StartRefusedError(f"The operator must let the node's user read every file in {folder}.") from None
    return library.without_drafts() if settings.environment is Environment.PRODUCTION else library


async def _not_yet(_peer: Member) -> None:
    """Replaced as soon as there is a transport."""


async def _nobody_yet(_peer: Member, _receipts: Sequence[str]) -> ConsentStatusAnswer | None:
    """Replaced as soon as there is a transport."""
    return None


async def _sweep(node: Node) -> None:
    async def known(referrals: Any) -> set[str]:
        def read(conn: Connection) -> set[str]:
            found = load_referrals(conn, referrals)
            return {referral for referral, record in found.items() if record.destroyed_at is None}

        return await node.database.read(read)

    await node.key_store.sweep_orphans(known, before=node.clock() - ORPHANS_OLDER_THAN_MS)
