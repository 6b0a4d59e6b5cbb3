"""The agency's folder on its own machine: key file, key store, roster, contracts.

Rules:

* `agency.keys` holds the agency key and the storage key of the key store, under a passphrase. No server has it.
* `roster.json` comes from the federation, not from the node, and never goes back: it is what this software believes.
* `contracts/` holds the contracts this agency has adopted, by digest. What a contract promises was proven at adoption.
* The folder is for its owner only, and is left out of backups but for `agency.keys`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

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
class Identity:
    """Who seals and opens here, and what it believes about the others."""

    me: Member
    key: AgencyKey
    store: AgencyKeyStore
    roster: RosterSnapshot
    contracts: Mapping[str, Contract]
    clock: Callable[[], int] = clock
    entropy: Callable[[int], bytes] = secrets.token_bytes

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
    try:
        keys = open_keys(read_key_file(folder / AGENCY_KEYS_NAME), passphrase.encode())
    except FileNotFoundError:
        raise VaultError("no-agency-key", f"{folder / AGENCY_KEYS_NAME} is not there.") from None
    except KeyFileError as refused:
        raise VaultError(refused.code, refused.sentence) from None
    if keys.agency is None or keys.storage is None:
        raise VaultError("no-agency-key", "The key file lacks the agency key, or the key of the key store.")
    try:
        roster = parse_roster((folder / ROSTER_NAME).read_bytes())
    except (OSError, RosterInvalidError):
        raise VaultError("no-roster", f"Install the federation's roster at {folder / ROSTER_NAME}.") from None
    public = keys.agency.public
    me = next((member for member in roster.members.values() if member.agency_key == public), None)
    if me is None:
        raise VaultError("not-a-member", "No member of the roster has this agency key. Hand in your card.")
    store = AgencyKeyStore(folder / STORE_NAME, keys.storage.row_key(), secrets.token_bytes)
    try:
        store.pin_roster(roster.version, roster.digest)
    except VaultError:
        store.close()
        raise
    return Identity(me, keys.agency, store, roster, _contracts(folder / CONTRACTS_NAME))


def _contracts(folder: Path) -> Mapping[str, Contract]:
    found: dict[str, Contract] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            # On that day none has ended. What came under one is opened after its end as well; whether it holds is asked
            # of every act by itself, by the time of the act.
            contract = load_contract(path.read_bytes(), on=date.min)
        except (OSError, ContractInvalidError):
            continue  # it permits nothing; `exchange contract check` says what is wrong with it
        found[contract.digest] = contract
    return MappingProxyType(found)
