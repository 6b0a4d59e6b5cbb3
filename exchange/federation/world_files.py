"""The federation as files: one roster, one folder of contracts. A signed federation can replace this room.

Rules:

* A file that does not parse changes nothing: the node goes on with what it knew, loudly.
* A roster with a lower version than the one in use, or another one with the same version, is not used.
* A contract is used only if it is valid today, if every claim of its analysis holds, and, outside sandbox and demo, if
  it is no draft. What is not used does not exist: nothing may be sent under it.
* Nothing that depends on the date is remembered: a contract ends while the node runs, and one that had ended by a clock
  that was wrong is used as soon as that is right.
* Files and the date are looked at again at most once a second, and whenever something unknown arrives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from contracts.analysis import prove
from contracts.loader import ContractInvalidError, load_contract
from contracts.model import Contract, ContractStatus
from exchange.roster import RosterInvalidError, RosterSnapshot, parse_roster
from exchange.telemetry.logs import get_logger
from exchange.use_cases.node import World

LOOK_AGAIN_S: Final = 1.0
_SUFFIX: Final = ".yaml"

Seen = tuple[date, tuple[tuple[str, int, int], ...]]
"""The day, and of each file name, time and size."""


def today() -> date:
    """The day by which contracts end."""
    return datetime.now(UTC).date()


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
        self._looked_at = time.monotonic()
        self._seen = self._look()
        self._world = World(parse_roster(paths.roster.read_bytes()), self._contracts())

    def current(self) -> World:
        """The world now; the same object as long as nothing changed."""
        if time.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            self.look_again()
        return self._world

    async def refresh(self) -> None:
        """Look at the files now."""
        self.look_again()

    def look_again(self) -> None:
        """Read what changed."""
        self._looked_at = time.monotonic()
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            roster = parse_roster(self._paths.roster.read_bytes())
        except (RosterInvalidError, OSError):
            get_logger().error("roster-unusable")
            roster = self._world.roster
        if not _may_follow(self._world.roster, roster):
            get_logger().error("roster-went-back")
            roster = self._world.roster
        self._world = World(roster, self._contracts())

    def _look(self) -> Seen:
        found = []
        for path in (self._paths.roster, *sorted(self._paths.contracts.glob(f"*{_SUFFIX}"))):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path.name, status.st_mtime_ns, status.st_size))
        return self._day(), tuple(found)

    def _contracts(self) -> MappingProxyType[str, Contract]:
        usable: dict[str, Contract] = {}
        day, _ = self._seen
        for path in sorted(self._paths.contracts.glob(f"*{_SUFFIX}")):
            try:
                data = path.read_bytes()
            except OSError:
                continue
            if data not in self._judged:
                # Reading and proving takes half a second; the same bytes are judged once, whatever day it is.
                self._judged[data] = self._judge(data)
            contract = self._judged[data]
            if contract is not None and contract.valid_until < day:
                get_logger().error("contract-unusable", code="contract-expired")
            elif contract is not None:
                usable[contract.digest] = contract
        return MappingProxyType(usable)

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


def _may_follow(known: RosterSnapshot, found: RosterSnapshot) -> bool:
    if found.version == known.version:
        return found.digest == known.digest
    return found.version > known.version and found.synthetic == known.synthetic
