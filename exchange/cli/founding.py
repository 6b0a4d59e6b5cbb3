"""Making a node: its home, its keys, its databases, its first client and its configuration.

Rules:

* The home is a new or an empty folder, for its owner only (0700). Nothing that exists is overwritten. What root makes
  belongs to the owner of the folder.
* The order leaves nothing half-made that would start: keys, databases, client, and the configuration last.
* What cannot be made whole is taken back: the files of this run, and the folders that it made. What else lies there
  stays, and so do the tables of databases that lie elsewhere.
* The passphrase is never written down here, but where the caller names a file for it.
* With `agency_home` the agency key is made into a second folder, for the agency's own machine, with the first client:
  the node's home never holds it, nor anything that it could be derived from.
* What is handed to the federation is the card: public keys, address, contacts. It holds no secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli.marking import is_from_before, note_marked
from exchange.cli.profile import PROFILE_NAME, Profile, write_profile
from exchange.client import ClientKey
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.envelope.key_file import MODERATE, SALT_BYTES, KdfCost, KeySet, create_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey, StorageKey
from exchange.oauth.scopes import Scope, format_scopes
from exchange.roster import Member, ToldFirst, member_card
from exchange.settings import CARD_NAME, CONFIG_NAME, KEYS_NAME, MARKED_NAME, Environment, local_address
from exchange.storage.access import StoredClient, insert_client
from exchange.storage.database import Database
from exchange.storage.errors import IntegrityError, StorageError
from exchange.storage.migrate import upgrade
from exchange.storage.versions import History, current

CLIENT_KEY_NAME: Final = "client.jwk"
CONTRACTS_NAME: Final = "contracts"
FIRST_CLIENT: Final = "first-client"
_ANOTHERS: Final = (
    "The main database is another node's. Name one of its own with --database-url-file; nothing is left of the new "
    "home."
)
_DATABASES: Final = ("node.db", "keys.db")
_MADE: Final = (
    *(KEYS_NAME, AGENCY_KEYS_NAME, CARD_NAME, CONFIG_NAME, MARKED_NAME, PROFILE_NAME, CLIENT_KEY_NAME),
    *(f"{name}{end}" for name in _DATABASES for end in ("", "-wal", "-shm")),
)


class FoundingError(Exception):
    """The node cannot be made here. The text says what to do."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What a new node shall be."""

    home: Path
    agency: str
    name: str
    kind: AgencyKind
    country: str
    public_url: str
    duty_contact: str
    breach_contact: str
    told_first: ToldFirst
    service_types: tuple[ServiceType, ...]
    represents: str | None = None
    environment: Environment = Environment.PRODUCTION
    host: str = "127.0.0.1"
    port: int = 8080
    database_url: str | None = field(default=None, repr=False)
    """Only to make the tables: the operator keeps it in the environment or in a file of its own."""
    key_database_url: str | None = field(default=None, repr=False)
    secret_files: Mapping[str, Path] = field(default_factory=dict)
    """Settings that name files with secrets, such as `passphrase_file`."""
    agency_home: Path | None = None
    """Keys elsewhere: the folder for the agency's own machine. Nothing: the node holds the agency key."""
    actor: str | None = None
    """The worker that the first profile acts for unless told otherwise."""

    @property
    def databases(self) -> tuple[str, str]:
        """The addresses of the main database and of the key store: SQLite in the home where none is named."""
        main, keys = (f"sqlite:///{self.home / name}" for name in _DATABASES)
        return self.database_url or main, self.key_database_url or keys


@dataclass(frozen=True, slots=True)
class Founded:
    """A node that was made."""

    member: Member
    card: Path
    config: Path
    profile: Path


def found(
    plan: NodePlan, passphrase: str, *, agency_passphrase: str | None = None, cost: KdfCost = MODERATE
) -> Founded:
    """Make the node.

    Args:
        plan: what it shall be.
        passphrase: opens its key file from now on.
        agency_passphrase: opens the agency's key file, where that is another; the same passphrase otherwise.
        cost: of the key file's derivation; anything but the default belongs in a demo or a test.

    Raises:
        FoundingError: a folder is not empty, or a database cannot be made or is another node's.
        KeyFileError: the passphrase is too short.
        StorageError: the main database went away meanwhile.
        ValueError: no roster would hold this.
    """
    folders = [folder for folder in (plan.home, plan.agency_home) if folder is not None]
    for folder in folders:
        _refuse_unless_empty(folder)
    if plan.agency_home == plan.home:
        raise FoundingError("The agency's own folder must be another than the node's. Nothing was made.")
    keys = _fresh_keys()
    member = _member(plan, keys)
    new = [folder for folder in folders if not folder.exists()]
    try:
        return _make(plan, keys, member, (passphrase, agency_passphrase or passphrase), cost)
    except BaseException:
        for folder in folders:
            _take_back(folder, itself=folder in new)
        raise


def _make(plan: NodePlan, keys: KeySet, member: Member, passphrases: tuple[str, str], cost: KdfCost) -> Founded:
    _make_home(plan.home)
    passphrase, agency_passphrase = passphrases
    card = member_card(member) + b"\n"
    owner = plan.home
    if plan.agency_home is not None:
        owner = plan.agency_home
        _make_home(owner)
        its_own = KeySet(agency=keys.agency, storage=StorageKey(secrets.token_bytes(KEY_BYTES)))
        _write_keys(owner / AGENCY_KEYS_NAME, its_own, agency_passphrase, cost)
        (owner / CARD_NAME).write_bytes(card)
        keys = KeySet(node=keys.node, storage=keys.storage)
    _write_keys(plan.home / KEYS_NAME, keys, passphrase, cost)
    assert keys.storage is not None  # noqa: S101 - made by the caller
    database_url, key_database_url = plan.databases
    _make_tables(key_database_url, History.KEYS)
    _make_tables(database_url, History.MAIN)
    note_marked(plan.home)
    profile = _first_client(
        database_url,
        keys.storage,
        owner,
        Profile(
            url=plan.public_url if plan.agency_home is not None else local_address(plan.host, plan.port),
            issuer=plan.public_url,
            client_id=FIRST_CLIENT,
            key_file=Path(CLIENT_KEY_NAME),
            actor=plan.actor,
            keys_elsewhere=True if plan.agency_home is not None else None,
        ),
    )
    (plan.home / CARD_NAME).write_bytes(card)
    config = plan.home / CONFIG_NAME
    config.write_text(_config(plan), encoding="utf-8")
    for folder in {plan.home, owner}:
        _give_to_its_owner(folder)
    return Founded(member, plan.home / CARD_NAME, config, profile)


def _give_to_its_owner(folder: Path) -> None:
    """Root makes it for the node's user, who could not read what is root's alone."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for name in (*_MADE, CONTRACTS_NAME):
            with contextlib.suppress(FileNotFoundError):
                # Not where a link of that user leads.
                os.chown(folder / name, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _make_tables(url: str, history: History) -> None:
    which, setting = ("key", "key-database-url") if history is History.KEYS else ("main", "database-url")
    try:
        if history is History.MAIN and is_from_before(current(url)):
            raise FoundingError(_ANOTHERS)  # and to upgrade it would shut that node's clients out
        upgrade(url, history)
    except StorageError as refused:
        variable = f"EXCHANGE_{setting.replace('-', '_').upper()}"
        raise FoundingError(
            f"The {which} database cannot be made: {refused} Mend its address (--{setting}-file, or {variable}) and "
            "run this again; nothing is left of the new home."
        ) from None


def _first_client(database_url: str, storage_key: StorageKey, folder: Path, profile: Profile) -> Path:
    try:
        return add_client(database_url, storage_key, folder, profile)
    except IntegrityError:
        raise FoundingError(_ANOTHERS) from None


def _take_back(folder: Path, *, itself: bool) -> None:
    """Remove what this run made, and nothing that has another name."""
    for name in _MADE:
        (folder / name).unlink(missing_ok=True)
    # What is not empty is not this run's alone.
    with contextlib.suppress(OSError):
        (folder / CONTRACTS_NAME).rmdir()
    if itself:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _write_keys(path: Path, keys: KeySet, passphrase: str, cost: KdfCost) -> None:
    sealed = seal_keys(
        keys,
        passphrase.encode(),
        salt=secrets.token_bytes(SALT_BYTES),
        nonce=secrets.token_bytes(NONCE_BYTES),
        cost=cost,
    )
    create_key_file(path, sealed)


def add_client(database_url: str, storage_key: StorageKey, folder: Path, profile: Profile) -> Path:
    """Register a client with a fresh key and write its profile and key into a folder; the profile's path.

    Nothing is left in the folder of a client that is not registered: it would look ready to be carried over.

    Raises:
        ClientSetupError: profile or key exist already.
        IntegrityError: the client id is taken.
    """
    key = ClientKey(secrets.token_bytes(KEY_BYTES))
    with contextlib.ExitStack() as undone:
        key.save(folder / profile.key_file)
        undone.callback((folder / profile.key_file).unlink)
        path = write_profile(folder, profile)
        undone.callback(path.unlink)
        register_client(database_url, storage_key, profile.client_id, key.public_jwk(), profile.scopes, profile.unit)
        undone.pop_all()
    return path


def register_client(
    database_url: str,
    storage_key: StorageKey,
    client_id: str,
    public_jwk: dict[str, str],
    scopes: frozenset[Scope],
    unit: str | None,
) -> None:
    """Let a system of this agency ask for tokens: with the node's storage key, or its row counts for nothing.

    Raises:
        ClientKeyError: the key or the id is not acceptable.
        IntegrityError: the client id is taken.
    """
    from exchange.oauth.clients import RegisteredClient
    from exchange.use_cases.registered_here import marked

    jwks = {"keys": [public_jwk]}
    RegisteredClient.from_jwks(client_id, jwks, scopes, unit=unit)
    stored = StoredClient(
        client_id=client_id,
        jwks=json.dumps(jwks),
        scopes=format_scopes(scopes),
        unit=unit,
        status="active",
        created_at=int(time.time() * 1000),
    )
    database = Database.open(database_url)
    try:
        database.write_sync(lambda connection: insert_client(connection, marked(storage_key, stored)))
    finally:
        database.close_sync()


def _refuse_unless_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise FoundingError(f"{folder} is not empty. Name a new folder with --home; nothing was changed.")


def _make_home(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / CONTRACTS_NAME).mkdir(mode=0o700)


def _fresh_keys() -> KeySet:
    return KeySet(
        agency=AgencyKey(secrets.token_bytes(KEY_BYTES)),
        node=NodeKey(secrets.token_bytes(KEY_BYTES)),
        storage=StorageKey(secrets.token_bytes(KEY_BYTES)),
    )


def _member(plan: NodePlan, keys: KeySet) -> Member:
    assert keys.agency is not None  # noqa: S101 - made two lines ago
    assert keys.node is not None  # noqa: S101 - the same
    return Member(
        agency=plan.agency,
        name=plan.name,
        kind=plan.kind,
        country=plan.country,
        represents=plan.represents,
        service_types=plan.service_types,
        node_url=plan.public_url,
        agency_key=keys.agency.public,
        node_key=keys.node.public,
        duty_contact=plan.duty_contact,
        breach_contact=plan.breach_contact,
        told_first=plan.told_first,
        synthetic=plan.environment is not Environment.PRODUCTION,
    )


def _config(plan: NodePlan) -> str:
    """`exchange.toml`: everything that is not secret."""
    members: dict[str, str | int] = {
        "public_url": plan.public_url,
        "environment": plan.environment.value,
        "home": str(plan.home),
        "host": plan.host,
        "port": plan.port,
    }
    members |= {name: str(path.absolute()) for name, path in plan.secret_files.items()}
    # JSON's strings and numbers are TOML's.
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in members.items())
    return f"# Settings of this node. No secret belongs here: name files instead.\n{lines}"
