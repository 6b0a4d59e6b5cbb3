"""The agency's folder on its own machine: key file, key store, roster, contracts.

Rules:

* `agency.keys` holds the agency key and the storage key of the key store, under a passphrase. No server has it.
* `roster.json` comes from the federation, not from the node, and never goes back: it is what this software believes.
* `contracts/` holds the contracts this agency has adopted, by digest. What a contract promises was proven at adoption.
* Roster and contracts are read again once their files are others: a program that runs for months believes what the
  federation says now. Where the new roster cannot be used nothing is sealed and nothing opened until one is there.
  A contract that cannot be read permits nothing at this act, and is read again at the next one.
* What destroys needs key file and key store alone (`open_agency_keys`): her no waits for no roster.
* The folder is for its owner only, and is left out of backups but for `agency.keys`.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, Self

from contracts.loader import ContractInvalidError, load_contract
from contracts.model import Contract
from exchange.client.vault.errors import VaultError
from exchange.client.vault.store import AgencyKeyStore
from exchange.envelope.errors import KeyFileError
from exchange.envelope.ids import TAIL_BYTES, timed_id
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.envelope.keys import AgencyKey
from exchange.roster import Member, RosterInvalidError, RosterSnapshot, parse_roster

AGENCY_KEYS_NAME: Final = "agency.keys"
STORE_NAME: Final = "agency-keys.db"
ROSTER_NAME: Final = "roster.json"
CONTRACTS_NAME: Final = "contracts"


def clock() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Files:
    """Where roster and contracts lie, and what lay there when they were read: name, times and size of each."""

    folder: Path
    seen: tuple[tuple[str, int, int, int], ...]

    @classmethod
    def look(cls, folder: Path) -> Self:
        """What lies there now."""
        found = []
        for path in (folder / ROSTER_NAME, *_contract_paths(folder)):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((path.name, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
        return cls(folder, tuple(found))

    def without(self, unread: Collection[str]) -> Self:
        """As if these files had not lain there: at the next look they are new."""
        return replace(self, seen=tuple(file for file in self.seen if file[0] not in unread))


class Keys(Protocol):
    """The agency's own keys. Enough to destroy, and to hand in what is sealed; the roster is not asked."""

    @property
    def key(self) -> AgencyKey:
        """The agency key."""

    @property
    def store(self) -> AgencyKeyStore:
        """The key store."""

    @property
    def keyed_digest(self) -> Callable[[str, bytes], str]:
        """Of what could be guessed, for a use."""

    @property
    def clock(self) -> Callable[[], int]:
        """Unix milliseconds."""

    def as_of_now(self) -> Identity:
        """With what the folder says of the others now.

        Raises:
            VaultError: the roster cannot be used.
        """


@dataclass(frozen=True, slots=True)
class KeysAlone:
    """Key file and key store of a folder, opened; its roster was not read."""

    folder: Path
    key: AgencyKey
    store: AgencyKeyStore
    keyed_digest: Callable[[str, bytes], str]
    clock: Callable[[], int] = clock

    def as_of_now(self) -> Identity:
        """With the roster and the contracts that lie in the folder now.

        Raises:
            VaultError: as `open_agency_folder` does of the roster; call it again once one is there.
        """
        # Looked at before they are read: what changes meanwhile is read again.
        me, roster, contracts, files = _believed(Files.look(self.folder), self.key, self.store, {})
        return Identity(me, self.key, self.store, roster, contracts, self.keyed_digest, self.clock, files=files)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who seals and opens here, and what it believes about the others."""

    me: Member
    key: AgencyKey
    store: AgencyKeyStore
    roster: RosterSnapshot
    contracts: Mapping[str, Contract]
    keyed_digest: Callable[[str, bytes], str]
    """Of what could be guessed, for a use: nobody without the storage key can test a guess against it."""
    clock: Callable[[], int] = clock
    entropy: Callable[[int], bytes] = secrets.token_bytes
    files: Files | None = None
    """Nothing where roster and contracts were handed over by a program."""

    def as_of_now(self) -> Identity:
        """The same, believing what its folder says now.

        Raises:
            VaultError: as `open_agency_folder` does of the roster; call it again once one is there.
        """
        if self.files is None or (files := Files.look(self.files.folder)) == self.files:
            return self
        me, roster, contracts, files = _believed(files, self.key, self.store, self.contracts)
        return replace(self, me=me, roster=roster, contracts=contracts, files=files)

    def member(self, agency: str) -> Member:
        """A member of the roster.

        Raises:
            VaultError: `unknown-agency`.
        """
        found = self.roster.members.get(agency)
        if found is None:
            raise VaultError("unknown-agency", "The roster here does not list this agency.")
        return found

    def contract_with(self, agency: str) -> Contract:
        """The newest contract in force between this agency and another that is on file here.

        Raises:
            VaultError: `no-contract`.
        """
        for digest in self.roster.contract_in_force(self.me.agency, agency, self.now()):
            if digest in self.contracts:
                return self.contracts[digest]
        raise VaultError("no-contract", "No contract that is on file here is in force with this agency.")

    def now(self) -> datetime:
        """The clock as an aware UTC time."""
        return datetime.fromtimestamp(self.clock() / 1000, UTC)

    def timed_id(self, at: int) -> str:
        """The id of a referral or an envelope made at this moment."""
        return timed_id(at, self.entropy(TAIL_BYTES))


def open_agency_folder(folder: Path, passphrase: str) -> Identity:
    """Everything in an agency's folder, opened.

    Raises:
        VaultError: something is missing, damaged, exposed or older than before; the sentence says what to do.
    """
    keys = open_agency_keys(folder, passphrase)
    try:
        return keys.as_of_now()
    except VaultError:
        keys.store.close()
        raise


def open_agency_keys(folder: Path, passphrase: str) -> KeysAlone:
    """Key file and key store of an agency's folder, opened. The roster is read by what seals or opens.

    Raises:
        VaultError: one of the two is missing, damaged or exposed; the sentence says what to do.
    """
    try:
        keys = open_keys(read_key_file(folder / AGENCY_KEYS_NAME), passphrase.encode())
    except FileNotFoundError:
        raise VaultError("no-agency-key", f"{folder / AGENCY_KEYS_NAME} is not there.") from None
    except KeyFileError as refused:
        raise VaultError(refused.code, refused.sentence) from None
    if keys.agency is None or keys.storage is None:
        raise VaultError("no-agency-key", "The key file lacks the agency key, or the key of the key store.")
    store = AgencyKeyStore(folder / STORE_NAME, keys.storage.row_key(), secrets.token_bytes)
    return KeysAlone(folder, keys.agency, store, keys.storage.keyed_digest)


def _believed(
    files: Files, key: AgencyKey, store: AgencyKeyStore, known: Mapping[str, Contract]
) -> tuple[Member, RosterSnapshot, Mapping[str, Contract], Files]:
    """Who this agency is in the roster, the roster, the contracts by digest, and of which files that is what they say.

    What is known is not parsed again.
    """
    path = files.folder / ROSTER_NAME
    try:
        roster = parse_roster(path.read_bytes())
    except (OSError, RosterInvalidError):
        raise VaultError("no-roster", f"Install the federation's roster at {path}.") from None
    me = next((member for member in roster.members.values() if member.agency_key == key.public), None)
    if me is None:
        raise VaultError("not-a-member", "No member of the roster has this agency key. Hand in your card.")
    store.pin_roster(roster.version, roster.digest)
    contracts, unread = _contracts(files.folder, known)
    return me, roster, contracts, files.without(unread)


def _contract_paths(folder: Path) -> list[Path]:
    return sorted((folder / CONTRACTS_NAME).glob("*.yaml"))


def _contracts(folder: Path, known: Mapping[str, Contract]) -> tuple[Mapping[str, Contract], Collection[str]]:
    """Contracts by digest, and the names of the files that could not be read."""
    found: dict[str, Contract] = {}
    unread = set()
    for path in _contract_paths(folder):
        try:
            data = path.read_bytes()
            # On that day none has ended. What came under one is opened after its end as well; whether it holds is asked
            # of every act by itself, by the time of the act.
            contract = known.get(hashlib.sha256(data).hexdigest()) or load_contract(data, on=date.min)
        except OSError:
            unread.add(path.name)
            continue
        except ContractInvalidError:
            continue  # it permits nothing; `exchange contract check` says what is wrong with it
        found[contract.digest] = contract
    return MappingProxyType(found), unread
