"""`PYTHONPATH=tests python -m fuzzing SECONDS [--seed N] [--only NAME]`: wrong input to every reader and endpoint.

Rules:

* One process, everything from one seed. A finding is written to fuzz-findings/ with its target, its seed and its input.
* Nodes are made again every few minutes, so that what one request left behind does not carry the next hour.
* It ends with a table of executions by outcome, and with 1 where anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from random import Random
from typing import Final

from fuzzing.node_targets import node_fuzzer
from fuzzing.pure_targets import TARGETS, Target
from support.mutations import Mutations

FINDINGS: Final = Path("fuzz-findings")
NODES_LIVE_S: Final = 240
TELL_EVERY_S: Final = 60
PURE_IN_A_ROW: Final = 150


class Tally:
    """What was run, and what was found."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.outcomes: dict[str, Counter[str]] = {}
        self.findings: set[str] = set()

    def count(self, target: str, outcome: str) -> None:
        self.outcomes.setdefault(target, Counter())[outcome] += 1

    def find(self, target: str, given: object, error: BaseException) -> None:
        """Keep the first of each kind: the same line of code raising the same class."""
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        kind = f"{target}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        self.count(target, "FINDING")
        if kind in self.findings:
            return
        self.findings.add(kind)
        FINDINGS.mkdir(exist_ok=True)
        told = "".join(traceback.format_exception(error))
        text = f"{kind}\nseed {self.seed}\n\n{given!r}\n\n{told}"
        (FINDINGS / f"{len(self.findings):03d}-{target}.txt").write_text(
            text, encoding="utf-8", errors="backslashreplace"
        )
        print(f"FINDING {kind}", flush=True)

    def tell(self, began: float) -> None:
        total = sum(sum(outcomes.values()) for outcomes in self.outcomes.values())
        print(f"{time.monotonic() - began:7.0f} s  {total} executions, {len(self.findings)} findings", flush=True)

    def table(self) -> None:
        for target, outcomes in self.outcomes.items():
            common = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common(12))
            print(f"{target:18} {sum(outcomes.values()):9}  {common}")


def run_pure(target: Target, random: Random, mutations: Mutations, tally: Tally) -> None:
    """One execution of a reader."""
    given = target.make(random, mutations)
    try:
        target.run(given)
    except target.may_raise as error:
        tally.count(target.name, str(getattr(error, "code", type(error).__name__)))
    except Exception as error:  # noqa: BLE001  # what is not of the family is the finding
        tally.find(target.name, given, error)
    else:
        tally.count(target.name, "accepted")


async def fuzz(seconds: float, seed: int, only: str | None) -> Tally:
    """Until the time is over."""
    random = Random(seed)
    mutations = Mutations(random)
    tally = Tally(seed)
    pure = [target for target in TARGETS for _ in range(target.share) if only in (None, target.name)]
    nodes = [name for name in ("endpoint", "envelope") if only in (None, name)]
    began = time.monotonic()
    ends, told = began + seconds, began
    while time.monotonic() < ends:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            async with node_fuzzer(Path(folder), random) as fuzzer:
                renew = min(ends, time.monotonic() + NODES_LIVE_S)
                while time.monotonic() < renew:
                    for _ in range(PURE_IN_A_ROW if pure else 0):
                        run_pure(random.choice(pure), random, mutations, tally)
                    for name in nodes * 10:
                        try:
                            tally.count(name, await getattr(fuzzer, name)())
                        except Exception as error:  # noqa: BLE001  # the finding
                            tally.find(name, fuzzer.last, error)
                    if time.monotonic() - told > TELL_EVERY_S:
                        told = time.monotonic()
                        tally.tell(began)
    tally.tell(began)
    return tally


def main() -> int:
    """Fuzz, tell, and say by the exit code whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one target")
    wanted = parser.parse_args()
    # What the nodes log of refused requests is for whoever runs a node.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        tally = asyncio.run(fuzz(wanted.seconds, wanted.seed, wanted.only))
    tally.table()
    for finding in sorted(tally.findings):
        print(f"FINDING {finding}")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
