"""Many histories, on every core: each process plays seeds of its own, and what they found is added up.

A seed is the same history in every process, so it does not matter which one plays it.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.util import Finalize
from typing import Final

from simulation.history import Outcome, play
from simulation.oracle import PROMISES
from simulation.playground import Playground

AT_A_TIME: Final = 25
TOLD_EVERY_S: Final = 10.0
_grounds: Final[list[Playground]] = []
"""The one of this process."""


@dataclass(slots=True)
class Tally:
    """What some histories came to."""

    histories: int = 0
    referrals: int = 0
    envelopes: int = 0
    deaths: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    """Trace and verdict of every history that broke a promise."""

    def add(self, other: Tally) -> None:
        """Both together, but for what was shown."""
        self.histories += other.histories
        self.referrals += other.referrals
        self.envelopes += other.envelopes
        self.deaths += other.deaths
        self.broken += other.broken
        self.reached += other.reached

    def __str__(self) -> str:
        counts = ", ".join(f"{self.broken[promise]} {promise}" for promise in PROMISES)
        what = f"{self.referrals} referrals, {self.envelopes} envelopes, {self.deaths} crashes"
        return f"{self.histories} histories ({what}): {counts}"


def shown(outcome: Outcome) -> str:
    """The trace of a history, and its verdict."""
    verdict = "every promise was kept" if outcome.violation is None else str(outcome.violation)
    return "\n".join([*outcome.trace, f"seed {outcome.seed}: {verdict} (trace {outcome.digest[:16]})"])


def play_many(first: int, count: int, processes: int | None = None) -> bool:
    """Play these seeds, and print every ten seconds and at the end what was broken; whether nothing was."""
    chunks = [range(seed, min(seed + AT_A_TIME, first + count)) for seed in range(first, first + count, AT_A_TIME)]
    total, told = Tally(), time.monotonic()
    with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn"), _begin) as pool:
        for tally in pool.map(_play_some, chunks):
            total.add(tally)
            for text in tally.shown:
                print(text, flush=True)
            if time.monotonic() - told >= TOLD_EVERY_S or total.histories == count:
                told = time.monotonic()
                print(total, flush=True)
    print("; ".join(f"{what}: {count}" for what, count in sorted(total.reached.items())), flush=True)
    return not total.broken


def _begin() -> None:
    ground = Playground()
    _grounds.append(ground)
    Finalize(None, ground.close, exitpriority=1)
    # What a history leaves behind is cyclic; looked for now and then it costs less than after every step.
    gc.freeze()
    gc.disable()


def _play_some(seeds: range) -> Tally:
    tally = Tally()
    for outcome in _outcomes(seeds):
        tally.histories += 1
        tally.referrals += outcome.referrals
        tally.envelopes += outcome.judged
        tally.deaths += outcome.deaths
        tally.reached += outcome.reached
        if outcome.violation is not None:
            tally.broken[outcome.violation.promise] += 1
            tally.shown.append(shown(outcome))
    gc.collect()
    return tally


def _outcomes(seeds: range) -> Iterator[Outcome]:
    (ground,) = _grounds
    for seed in seeds:
        yield play(ground, seed)
