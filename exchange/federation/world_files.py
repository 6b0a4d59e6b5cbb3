"""The federation as files: one roster, one folder of contracts. A signed federation can replace this room.

Rules:

* A file that does not parse changes nothing: the node goes on with what it knew, loudly. It may be half written, and
  what waits under a contract that is gone is destroyed.
* A file that cannot be read takes nothing away that it has given, is read again at every look, and is told once.
* A roster with a lower version than the one in use, or another one with the same version, is not used. Nor is one that
  has no key in common with it: it is another federation's, and with its version remembered the right one would count as
  older for ever.
* A contract is used only if it is valid today, within the skew of two clocks, if every claim of its analysis holds,
  and, outside sandbox and demo, if it is no draft. What is not used does not exist: nothing may be sent under it.
* What fails here in a way that nobody thought of is one file that is not used, and told, and keeps no other from being
  followed: with a roster comes a suspension. It is tried again when something there changes; a roster at every look.
* Nothing that depends on the date is remembered: a contract ends while the node runs, and one that had ended by a clock
  that was wrong is used as soon as that is right.
* Files and the date are looked at again at most once a second, and whenever something unknown arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from contracts.analysis import prove
from contracts.loader import ContractInvalidError, load_contract
from contracts.model import Contract, ContractStatus
from exchange.elapsed import elapsed_s
from exchange.limits import LIMITS
from exchange.roster import RosterSnapshot, parse_roster
from exchange.telemetry.logs import get_logger
from exchange.use_cases.node import World

LOOK_AGAIN_S: Final = 1.0
_SUFFIX: Final = ".yaml"

Seen = tuple[date, tuple[tuple[str, int, int, int], ...]]
"""The day, and of each file name, times and size: who lets the node read a file changes only when it was changed."""


def today() -> date:
    """The day by which contracts end: by a peer's clock that is behind one may hold that has just ended by this."""
    return (datetime.now(UTC) - timedelta(milliseconds=LIMITS.skew_ms)).date()


@dataclass(frozen=True, slots=True)
class WorldPaths:
    """Where roster and contracts lie."""

    roster: Path
    contracts: Path


class WorldFiles:
    """The newest usable roster and contracts of two paths."""

    def __init__(self, paths: WorldPaths, *, drafts: bool, day: Callable[[], date] = today) -> None:
        """Read both for the first time.

        Args:
            paths: where they lie.
            drafts: whether contracts that need local legal review may be used (sandbox and demo).
            day: the day it is.

        Raises:
            RosterInvalidError: the roster is not one.
            OSError: there is no roster.
        """
        self._paths = paths
        self._drafts = drafts
        self._day = day
        self._judged: dict[bytes, Contract | None] = {}
        self._no_contracts: set[bytes] = set()
        """Of what was judged, what does not parse."""
        self._failed: set[bytes] = set()
        """What could not be judged since something there was another."""
        self._last_read: dict[str, bytes] = {}
        """Of each contract that lies there what was last read whole."""
        self._unread = False
        """Whether something there could not be read."""
        self._told: set[tuple[str, str | None]] = set()
        """What was said since something there was another."""
        self._looked_at = elapsed_s()
        self._seen = self._look()
        self._world = World(parse_roster(paths.roster.read_bytes()), self._contracts())

    def current(self) -> World:
        """The world now; the same object as long as nothing changed."""
        if elapsed_s() - self._looked_at >= LOOK_AGAIN_S:
            self.look_again()
        return self._world

    async def refresh(self) -> None:
        """Look at the files now."""
        self.look_again()

    def look_again(self) -> None:
        """Read what changed, and what could not be read."""
        self._looked_at = elapsed_s()
        seen = self._look()
        if seen == self._seen and not self._unread:
            return
        if seen != self._seen:
            self._told.clear()
            self._failed.clear()
        self._seen, self._unread = seen, False
        roster, contracts = self._roster(), self._contracts()
        if roster is not self._world.roster or contracts.keys() != self._world.contracts.keys():
            self._world = World(roster, contracts)

    def _look(self) -> Seen:
        found = []
        for path in (self._paths.roster, *self._contract_paths()):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path.name, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
        return self._day(), tuple(found)

    def _contract_paths(self) -> list[Path]:
        """What lies there; where the folder cannot be read, what lay there before."""
        folder = self._paths.contracts
        try:
            return sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []
        except OSError:
            self._unread = True
            self._tell("contract-unusable", "contract-unreadable")
            return [folder / name for name in self._last_read]

    def _roster(self) -> RosterSnapshot:
        known = self._world.roster
        try:
            data = self._paths.roster.read_bytes()
            roster = known if data == known.source else parse_roster(data)
        except Exception:  # noqa: BLE001 - a defect in reading one must not end the reading of those after it
            self._unread = True  # one that is half written is whole in a moment
            self._tell("roster-unusable")
            return known
        if (keys := _keys_of(known)) and keys.isdisjoint(_keys_of(roster)):
            self._tell("roster-unusable", "another-federation")
            return known
        if not _may_follow(known, roster):
            self._tell("roster-went-back")
            return known
        return roster

    def _contracts(self) -> MappingProxyType[str, Contract]:
        usable: dict[str, Contract] = {}
        day, _ = self._seen
        found = {path.name: data for path in self._contract_paths() if (data := self._read(path)) is not None}
        self._last_read = {name: self._whole(name, data) for name, data in found.items()}
        for data in self._last_read.values():
            contract = self._judged.get(data)
            if contract is not None and contract.valid_until < day:
                self._tell("contract-unusable", "contract-expired")
            elif contract is not None:
                usable[contract.digest] = contract
        return MappingProxyType(usable)

    def _read(self, path: Path) -> bytes | None:
        """A contract; where it cannot be read, as it was read before."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            self._unread = True
            self._tell("contract-unusable", "contract-unreadable")
            return self._last_read.get(path.name)

    def _whole(self, name: str, data: bytes) -> bytes:
        """What lies there; where that is no contract at all, what lay there before."""
        if data not in self._judged and data not in self._failed:
            # Reading and proving takes half a second; the same bytes are judged once, whatever day it is.
            try:
                contract = self._judge(data)
                if contract is None and not _is_contract(data):
                    self._no_contracts.add(data)
                self._judged[data] = contract
            except Exception as error:  # noqa: BLE001 - told by its type; the roster is followed all the same
                self._failed.add(data)
                get_logger().error("contract-unusable", code="contract-failed", error_type=type(error).__name__)
        return self._last_read.get(name, data) if data in self._no_contracts | self._failed else data

    def _tell(self, event: str, code: str | None = None) -> None:
        """Once, as long as everything there stays as it is."""
        if (event, code) not in self._told:
            self._told.add((event, code))
            get_logger().error(event, **({"code": code} if code is not None else {}))

    def _judge(self, data: bytes) -> Contract | None:
        """The contract, if it may be used on any day."""
        try:
            contract = load_contract(data, on=date.min)  # on that day none has ended
        except ContractInvalidError:
            get_logger().error("contract-unusable", code="contract-invalid")
            return None
        if contract.status is not ContractStatus.REVIEWED and not self._drafts:
            get_logger().error("contract-unusable", code="contract-draft")
            return None
        if not all(claim.holds for claim in prove(contract)):
            get_logger().error("contract-unusable", code="contract-unproven")
            return None
        return contract


def _is_contract(data: bytes) -> bool:
    try:
        load_contract(data, on=date.min)
    except ContractInvalidError:
        return False
    return True


def _may_follow(known: RosterSnapshot, found: RosterSnapshot) -> bool:
    if found.version == known.version:
        return found.digest == known.digest
    return found.version > known.version and found.synthetic == known.synthetic


def _keys_of(roster: RosterSnapshot) -> frozenset[bytes]:
    return frozenset(key for member in roster.members.values() for key in (member.agency_key, member.node_key))
