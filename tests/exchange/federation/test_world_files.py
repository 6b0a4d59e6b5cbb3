"""The roster and the contracts of a folder: what depends on the date is asked by the date of the moment."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger
from support.contract_files import small

from contracts.loader import load_contract
from exchange.federation import world_files
from exchange.federation.world_files import WorldFiles, WorldPaths
from exchange.roster import roster_bytes

LAST_DAY = date(2027, 12, 31)
AFTER = LAST_DAY + timedelta(days=1)


class Day:
    """The day it is, by a clock that somebody sets."""

    def __init__(self) -> None:
        self.now = LAST_DAY

    def __call__(self) -> date:
        return self.now


@pytest.fixture(autouse=True)
def proven(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The contract's promises hold; which were looked at."""
    looked: list[str] = []
    monkeypatch.setattr(world_files, "prove", lambda contract: looked.append(contract.digest) or [])
    return looked


@pytest.fixture
def paths(tmp_path: Path) -> WorldPaths:
    """A roster, and one contract that ends."""
    folder = tmp_path / "contracts"
    folder.mkdir()
    (folder / "small.yaml").write_bytes(small())
    (tmp_path / "roster.json").write_bytes(roster_bytes(version=1, synthetic=True, members=()))
    return WorldPaths(tmp_path / "roster.json", folder)


def test_a_contract_that_had_ended_by_a_wrong_clock_is_used_once_it_is_right(
    paths: WorldPaths, proven: list[str]
) -> None:
    day = Day()
    day.now = date(2040, 1, 1)
    files = WorldFiles(paths, drafts=True, day=day)
    assert files.current().contracts == {}
    day.now = LAST_DAY
    files.look_again()
    assert list(files.current().contracts) == [load_contract(small(), on=LAST_DAY).digest]
    assert len(proven) == 1  # half a second for the shipped one: not once more for every day


def test_a_contract_ends_while_the_node_runs(paths: WorldPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    log, day = CapturingLogger(), Day()
    monkeypatch.setattr(world_files, "get_logger", lambda: log)
    files = WorldFiles(paths, drafts=True, day=day)
    known = files.current()
    assert len(known.contracts) == 1
    files.look_again()
    assert files.current() is known
    day.now = AFTER
    files.look_again()
    assert files.current().contracts == {}
    assert files.current().roster.digest == known.roster.digest
    assert [call.kwargs for call in log.calls] == [{"code": "contract-expired"}]
