"""Some histories in every run of the tests; `make simulate` plays as many as you like."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulation.blind import blind_among
from simulation.federations import AGENCIES, cast_of, file_of
from simulation.history import play
from simulation.mutants import MUTANTS, Mutant
from simulation.playground import Playground

from contracts.loader import load_contract
from exchange.storage import database

SLOW = 41000064
TESTS = Path(__file__).parents[1]
DIGESTS = """
import sys
from simulation.history import play
from simulation.playground import Playground
ground = Playground()
print(*(play(ground, seed).digest for seed in reversed(range(2, 5))))
ground.close()
"""


@pytest.fixture(scope="module")
def ground() -> Iterator[Playground]:
    made = Playground()
    yield made
    made.close()


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_every_promise_is_kept(ground: Playground, first: int) -> None:
    for seed in range(first, first + 50):
        outcome = play(ground, seed)
        assert outcome.violation is None, "\n".join([*outcome.trace, f"seed {seed}: {outcome.violation}"])


def test_somebody_is_blind_in_a_quarter_of_all_histories() -> None:
    blind = [blind_among(list(AGENCIES[:2]), seed) for seed in range(1000)]
    assert 200 < sum(map(bool, blind)) < 300
    assert {(), AGENCIES[:1], AGENCIES[1:2], AGENCIES[:2]} == set(blind)


def _digests_backwards() -> list[str]:
    """As another process has them, whose sets have another order."""
    hash_seed = "8" if os.environ.get("PYTHONHASHSEED") == "7" else "7"
    environment = os.environ | {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed}
    program = [sys.executable, "-c", DIGESTS]
    played = subprocess.run(program, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=True)
    return played.stdout.split()


def test_a_seed_is_the_same_history_in_every_process_and_order(ground: Playground) -> None:
    assert any(blind_among(list(AGENCIES), seed) for seed in range(2, 5))
    forwards = [play(ground, seed).digest for seed in range(2, 5)]
    assert len(set(forwards)) == len(forwards) == 3
    assert forwards == _digests_backwards()[::-1]


def test_a_seed_is_the_same_history_twice_in_a_process(ground: Playground) -> None:
    first, between, again = (play(ground, seed) for seed in (11, 12, 11))
    assert first.trace != between.trace
    assert "\n".join(first.trace).encode() == "\n".join(again.trace).encode()


def test_how_long_a_history_takes_does_not_change_it(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The software of somebody who is blind in it asks its node whether it is ready; that node tries its disks then."""
    played = []
    for step in (0, 10):
        seconds = itertools.count(time.monotonic() + 10, step)
        monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda seconds=seconds: next(seconds)))
        played.append(play(ground, SLOW).digest)
    assert played[0] == played[1]


def test_its_contracts_are_contracts() -> None:
    for agreement in cast_of(1).agreements:
        read = load_contract(file_of(agreement.data), on=date(2026, 11, 23))
        assert (read.digest, read.model_dump()) == (agreement.contract.digest, agreement.contract.model_dump())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_what_the_mutants_break_is_there(mutant: Mutant) -> None:
    """`make mutants` takes long: what it replaces is looked for here, or it would break nothing after a change."""
    with mutant.defect():
        pass
