"""The federation's officers: rosters that follow one another, and which of them each machine has."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from simulation.federations import Cast, without, world_of
from simulation.machines import Keys, Machine, Replaced
from simulation.undelivered import Standing

from exchange.use_cases.node import World


@dataclass(slots=True)
class _Roster:
    """What the officers decided last."""

    version: int = 1
    suspended: str | None = None
    second: bool = False
    replaced: Replaced = ()


class Officers:
    """They publish; a machine has the newest roster at once, or when it looks."""

    def __init__(self, cast: Cast, chance: random.Random, trace: Callable[[str], None]) -> None:
        self.cast = cast
        self.machines: Mapping[str, Machine] = {}
        """Of the members; there are some before anything is published."""
        self.chance = chance
        self.trace = trace
        self.roster = _Roster()
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
        return self._world()

    def _world(self) -> World:
        roster = self.roster
        return world_of(self.cast, len(self.machines), roster.version, roster.suspended, roster.second, roster.replaced)

    def end_well(self) -> None:
        """Nobody is suspended any more, and every machine knows."""
        roster = self.roster
        if roster.suspended is not None:
            roster.suspended, roster.version = None, roster.version + 1
            self.published[roster.version] = replace(roster)
        world = self._world()
        for machine in self.machines.values():
            machine.world, machine.newest = world, lambda: world

    def standing(self, machine: Machine) -> Standing:
        """What a machine goes by, at this moment of its clock."""
        assert machine.world is not None
        published = self.published[machine.world.roster.version]
        lacks = self.cast.agreements[1].contract.digest not in machine.world.contracts
        return Standing(machine.now(), published.suspended, published.second, published.replaced, lacks)
