"""How rough a history is: what happens to letters, machines and clocks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Weather:
    """How rough one history is."""

    lost: float
    doubled: float
    held_back: float
    deaths: float
    wrong_clocks: bool
    cuts: float

    @classmethod
    def of(cls, chance: random.Random) -> Weather:
        """Some histories are calm."""
        if chance.random() < 0.25:
            return cls(0.0, 0.0, 0.1, 0.0, wrong_clocks=False, cuts=0.0)
        rough = chance.choice([0.3, 1.0, 1.0, 2.0])
        return cls(0.15 * rough, 0.12 * rough, 0.3, 0.03 * rough, wrong_clocks=chance.random() < 0.5, cuts=0.08 * rough)


CALM: Final = Weather(0.0, 0.0, 0.0, 0.0, wrong_clocks=False, cuts=0.0)


CALM: Final = Weather(0.0, 0.0, 0.0, 0.0, wrong_clocks=False, cuts=0.0)
