"""`python -m simulation`: play many histories, one history, or the mutants. `make simulate` starts it."""

from __future__ import annotations

import argparse
import sys

from simulation.history import play
from simulation.many import play_many, shown
from simulation.mutants import MUTANTS, hunt
from simulation.playground import Playground


def main() -> int:
    """Exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("-n", "--histories", type=int, help="how many histories (1000; with --seed, that one)")
    parser.add_argument("-s", "--seed", type=int, help="the first seed (0)")
    parser.add_argument("-p", "--processes", type=int, help="how many processes play them (one for each core)")
    parser.add_argument("--mutants", action="store_true", help="break the code on purpose and see who notices")
    options = parser.parse_args()
    if options.mutants:
        return _mutants(options.histories or 1000)
    if options.seed is not None and options.histories is None:
        return _replay(options.seed)
    return 0 if play_many(options.seed or 0, options.histories or 1000, options.processes) else 1


def _replay(seed: int) -> int:
    ground = Playground()
    outcome = play(ground, seed)
    ground.close()
    print(shown(outcome), flush=True)
    return 1 if outcome.violation is not None else 0


def _mutants(count: int) -> int:
    ground, survived = Playground(), 0
    for mutant in MUTANTS:
        hunted = hunt(ground, mutant, count)
        survived += hunted.noticed is None
        after, found = hunted.noticed or (count, "NOT NOTICED")
        failed = f" ({hunted.failed} failed: does it still fit the code?)" if hunted.failed else ""
        print(f"{mutant.name}: after {after} histories: {found}{failed}", flush=True)
    ground.close()
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
