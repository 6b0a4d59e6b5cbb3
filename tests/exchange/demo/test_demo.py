"""The demo as a newcomer runs it, and that it does not tell what is not so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from exchange.cli.serve import Supervisor
from exchange.demo.federation import SHELTER, FederationError, make_nodes, running
from exchange.demo.narration import ClaimFailedError, Narrator, brief, sights_of
from exchange.demo.performance import counted
from exchange.schemas.referrals import FieldDecision
from exchange.settings import Environment
from exchange.storage.errors import StorageServedError
from exchange.storage.served import held


def decided(field: str, outcome: str, stage: str | None = None) -> FieldDecision:
    members = {"field": field, "outcome": outcome, "stage": stage, "code": "c", "sentence": "Because."}
    return FieldDecision.model_validate(members)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("flags", "last"),
    [
        pytest.param((), "completed 2 · declined 1 · refused 1 · withdrawn 1", id="four nodes"),
        # Its claims are held to in every run, in one process: test_blind_demo.py.
        pytest.param(
            ("--blind",), "completed 1 · refused 1 · withdrawn 1", id="keys elsewhere", marks=pytest.mark.faults
        ),
    ],
)
def test_the_demo_holds(tmp_path: Path, flags: tuple[str, ...], last: str) -> None:
    variables = os.environ | {"TMPDIR": str(tmp_path), "COLUMNS": "140"}
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import main; main()", "demo", *flags],
        env=variables,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert done.stdout.splitlines()[-1] == last
    assert list(tmp_path.iterdir()) == []


def test_what_it_serves_nobody_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes hold that too, as those of `exchange serve` do."""
    started: list[Supervisor] = []

    def start(supervisor: Supervisor) -> None:
        started.append(supervisor)

    monkeypatch.setattr(Supervisor, "start", start)
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.DEMO)
    databases = [f"sqlite:///{made.home / name}" for name in ("node.db", "keys.db")]
    with running(made):
        assert len(started[0].holds) == 2
        for url in databases:
            with pytest.raises(StorageServedError), held(url):
                pass
        with pytest.raises(FederationError, match=SHELTER.agency), running(made):
            pass
    with held(*databases):
        pass


def test_a_claim_that_does_not_hold_ends_it() -> None:
    narrator = Narrator(Console(quiet=True))
    narrator.holds("so", fact=True)
    with pytest.raises(ClaimFailedError):
        narrator.holds("not so", fact=False)
    assert narrator.claims == 1


def test_the_last_line_counts_what_happened() -> None:
    assert counted({"completed": 2, "refused": 1}) == "completed 2 · declined 0 · refused 1 · withdrawn 0"


def test_the_table_shows_what_the_receiver_saw_and_nothing_else() -> None:
    decisions = [
        decided("needs", "allowed", "offer"),
        decided("preferred_name", "allowed", "disclosure"),
        decided("nationality", "withheld"),
    ]
    written = {"needs": ["tonight"], "preferred_name": "Melati", "nationality": "ID"}
    rows = sights_of(written, decisions, {"needs": ["tonight"]}, held="sealed, held")
    assert [(row.receiver, row.held) for row in rows] == [("tonight", ""), ("·", "sealed, held"), ("·", "")]
    assert rows[2].why == "withheld: Because."
    later = sights_of(written, decisions, written, held="sealed, held")
    assert [row.held for row in later] == ["", "", ""]


def test_values_are_brief() -> None:
    assert brief({"a": ["y", "x"], "b": True}) == "a: x, y, b: True"
    assert len(brief("x" * 100)) == 34
