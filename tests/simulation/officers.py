"""The federation's officers: rosters that follow one another, and which of them each machine has."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulation.federations import NO_OTHERS, TOLD, Agency, Cast, Others, without, world_of
from simulation.machines import Keys, Machine, Replaced
from simulation.undelivered import Standing

from exchange.use_cases.node import World

_RESTLESS: Final = 0.2
"""In how many histories members change."""
_CHANGES: Final = 0.15
"""And then before how many steps."""


@dataclass(slots=True)
class _Roster:
    """What the officers decided last."""

    version: int = 1
    suspended: str | None = None
    second: bool = False
    replaced: Replaced = ()
    others: Others = NO_OTHERS


class Officers:
    """They publish; a machine has the newest roster at once, or when it looks."""

    def __init__(self, cast: Cast, chance: random.Random, trace: Callable[[str], None], seed: object) -> None:
        self.cast = cast
        self.changes = random.Random(f"changes {seed}")
        """What members become follows from this alone, so that every other history is the one it was."""
        self.restless = self.changes.random() < _RESTLESS
        self.machines: Mapping[str, Machine] = {}
        """Of the members; there are some before anything is published."""
        self.chance = chance
        self.trace = trace
        self.roster = _Roster()
        self.addresses = NO_OTHERS.address
        """Where a member is reached now; it is there when the roster that says so is published."""
        self.published = {1: _Roster()}
        """What they decided, by the roster's version."""

    def publish(self) -> Machine | None:
        """Something is different; some machines have it at once, others when they look.

        Returns the machine whose node has to be started again, because its key was replaced.
        """
        roster, renewed = self.roster, None
        if self.chance.random() < 0.3:
            renewed = self.machines[self.chance.choice([*self.machines])]
            key = self.chance.choice(["node", "node", "agency"])
            roster.replaced = (*roster.replaced, (renewed.agency, key))
        elif self.chance.random() < 0.5:
            roster.suspended = None if roster.suspended else self.chance.choice([*self.machines])
        else:
            roster.second = True
        world = self._next_version()
        if renewed is not None:
            # The operator starts it with the new key when the roster that lists it is there.
            renewed.world = world
            renewed.keys = Keys.of(renewed.agency, roster.replaced)
        for machine in self.machines.values():
            machine.newest = lambda: world
            if self.chance.random() < 0.6:
                machine.world = world
        if self.chance.random() < 0.1:
            late = self.machines[self.chance.choice([*self.machines])]
            late.world = without(world, self.cast.agreements[1].contract.digest)
        return renewed

    def change(self) -> None:
        """Perhaps a member is not what it was; some machines have the roster at once, others when they look."""
        if not self.restless or self.changes.random() >= _CHANGES:
            return
        others, chance = self.roster.others, self.changes
        kind = chance.random()
        if kind < 0.8:
            agency = self.cast.agency(chance.choice([*self.machines]), others.changed)
            others = others.become(self._another(agency))
        elif kind < 0.9:
            unlisted = None if others.unlisted else chance.choice([*self.machines])
            others = replace(others, unlisted=unlisted)
        else:
            pair = () if others.exchanged else tuple(chance.sample([*self.machines], 2))
            others = replace(others, exchanged=pair)
        self.roster.others = others
        self.addresses = others.address
        world = self._next_version()
        for machine in self.machines.values():
            machine.newest = lambda: world
            if chance.random() < 0.6:
                machine.world = world

    def _another(self, agency: Agency) -> Agency:
        """The same member, and not what it was."""
        chance, kind = self.changes, self.changes.random()
        if kind < 0.5:
            return replace(agency, told=chance.choice([told for told in TOLD if told != agency.told]))
        if kind < 0.75:
            if agency.represents is not None and chance.random() < 0.5:
                return replace(agency, represents="PH" if agency.represents == "ID" else "ID")
            return replace(agency, country="SG" if agency.country == "MY" else "MY")
        becomes = chance.choice(sorted({one.kind for one in self.cast.agencies}))
        return replace(agency, kind=becomes, represents="ID" if becomes == "embassy" else None)

    def agree_anew(self) -> None:
        """The second contract is in force too, and every machine knows."""
        self.roster.second = True
        world = self._next_version()
        for machine in self.machines.values():
            machine.world, machine.newest = world, lambda: world

    def _next_version(self) -> World:
        roster = self.roster
        roster.version += 1
        self.published[roster.version] = replace(roster)
        self.trace(
            f"roster {roster.version} suspended={roster.suspended} second={roster.second} replaced={roster.replaced}"
        )
        if roster.others != NO_OTHERS:
            self.trace(f"roster {roster.version} {roster.others}")
        return self._world()

    def _world(self) -> World:
        roster = self.roster
        return world_of(
            self.cast,
            len(self.machines),
            roster.version,
            roster.suspended,
            roster.second,
            roster.replaced,
            roster.others,
        )

    def end_well(self) -> None:
        """Nobody is suspended any more, and every machine knows."""
        roster = self.roster
        if roster.suspended is not None or roster.others.unlisted is not None:
            roster.suspended, roster.version = None, roster.version + 1
            roster.others = replace(roster.others, unlisted=None)
            self.published[roster.version] = replace(roster)
        world = self._world()
        for machine in self.machines.values():
            machine.world, machine.newest = world, lambda: world

    def standing(self, machine: Machine) -> Standing:
        """What a machine goes by, at this moment of its clock."""
        assert machine.world is not None
        published = self.published[machine.world.roster.version]
        lacks = self.cast.agreements[1].contract.digest not in machine.world.contracts
        return Standing(
            machine.now(), published.suspended, published.second, published.replaced, lacks, published.others
        )

    def looks_again(self) -> bool:
        """Whether somebody looks now at what has not arrived."""
        return self.restless and self.changes.random() < _CHANGES

    def also_told(self, others: Sequence[str]) -> list[str]:
        """Of whom a woman is told although nobody has to tell her, where members change."""
        return [one for one in others if self.changes.random() < 0.5] if self.restless else []

    def exchanged_with(self, agency: str) -> set[str]:
        """Who is, or was, where it was, or is."""
        pairs = (one.others.exchanged for one in self.published.values())
        return {other for pair in pairs if agency in pair for other in pair}

    def listed(self, agency: str, at: str) -> Agency:
        """A member as the roster at a machine describes it."""
        return self.cast.agency(agency, self.standing(self.machines[at]).others.changed)
