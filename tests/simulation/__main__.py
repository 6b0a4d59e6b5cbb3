"""`python -m simulation`: play many histories, one history, or the mutants. `make simulate` starts it."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter

from simulation.history import Outcome, play
from simulation.mutants import MUTANTS, hunt
from simulation.oracle import PROMISES
from simulation.playground import Playground

TOLD_EVERY_S = 10.0


def main() -> int:
    """Exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("-n", "--histories", type=int, help="how many histories (1000; with --seed, that one)")
    parser.add_argument("-s", "--seed", type=int, help="the first seed (0)")
    parser.add_argument("--mutants", action="store_true", help="break the code on purpose and see who notices")
    options = parser.parse_args()
    ground = Playground()
    try:
        if options.mutants:
            return _mutants(ground, options.histories or 1000)
        if options.seed is not None and options.histories is None:
            return _replay(play(ground, options.seed))
        return _many(ground, options.seed or 0, options.histories or 1000)
    finally:
        ground.close()


def _many(ground: Playground, first: int, count: int) -> int:
    broken: Counter[str] = Counter()
    envelopes = referrals = deaths = 0
    told = time.monotonic()
    # What a history leaves behind is cyclic; looked for now and then it costs less than after every step.
    gc.freeze()
    gc.disable()
    for played, seed in enumerate(range(first, first + count), start=1):
        outcome = play(ground, seed)
        envelopes, referrals = envelopes + outcome.judged, referrals + outcome.referrals
        deaths += outcome.deaths
        if outcome.violation is not None:
            broken[outcome.violation.promise] += 1
            _show(outcome)
        if played % 200 == 0:
            gc.collect()
        if time.monotonic() - told >= TOLD_EVERY_S or played == count:
            told = time.monotonic()
            counts = ", ".join(f"{broken[promise]} {promise}" for promise in PROMISES)
            print(
                f"{played} histories ({referrals} referrals, {envelopes} envelopes, {deaths} crashes): {counts}",
                flush=True,
            )
    return 1 if broken else 0


def _replay(outcome: Outcome) -> int:
    _show(outcome)
    return 1 if outcome.violation is not None else 0


def _show(outcome: Outcome) -> None:
    print("\n".join(outcome.trace))
    verdict = "every promise was kept" if outcome.violation is None else str(outcome.violation)
    print(f"seed {outcome.seed}: {verdict} (trace {outcome.digest[:16]})", flush=True)


def _mutants(ground: Playground, count: int) -> int:
    survived = 0
    for mutant in MUTANTS:
        caught = hunt(ground, mutant, count)
        survived += caught is None
        found = f"after {caught[0]} histories: {caught[1]}" if caught else f"NOT in {count} histories"
        print(f"{mutant.name}: {found}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
