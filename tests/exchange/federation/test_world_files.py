"""The roster and the contracts of a folder: what depends on the date, and what cannot be read, is looked at again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock_time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import CapturingLogger
from support.contract_files import small

from contracts.analysis import prove
from contracts.loader import load_contract
from contracts.model import Contract
from exchange.federation import world_files
from exchange.federation.world_files import WorldFiles, WorldPaths
from exchange.roster import roster_bytes
from exchange.use_cases.node import World

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


@pytest.mark.parametrize(("minute", "day"), [(1, LAST_DAY), (3, AFTER)], ids=["within", "beyond"])
def test_its_last_day_ends_within_the_skew_of_two_clocks(
    monkeypatch: pytest.MonkeyPatch, minute: int, day: date
) -> None:
    """What left before midnight, by a clock that is behind, is held against a contract that is still here."""
    now = datetime.combine(AFTER, clock_time(0, minute), UTC)

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            assert tz is UTC
            return now

    monkeypatch.setattr(world_files, "datetime", Now)
    assert world_files.today() == day


NEWER = roster_bytes(version=2, synthetic=True, members=())
WAYS_NOT_TO_READ = [errno.EACCES, errno.EIO, errno.EMFILE]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Files and folders that cannot be read now, each with the number of the error."""
    found: dict[Path, int] = {}

    def refusing(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            if path in found:
                raise OSError(found[path], "not now")
            return real(path)

        return read

    monkeypatch.setattr(Path, "read_bytes", refusing(Path.read_bytes))
    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir))
    return found


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What is said."""
    lines = CapturingLogger()
    monkeypatch.setattr(world_files, "get_logger", lambda: lines)
    return lines


def said(log: CapturingLogger) -> list[str]:
    """Each line by its code, or else by its event."""
    return [call.kwargs.get("code", call.args[0]) for call in log.calls]


def looked(files: WorldFiles, times: int = 3) -> World:
    """The world after so many looks at which nothing there is another."""
    for _ in range(times):
        files.look_again()
    return files.current()


@pytest.mark.parametrize("number", WAYS_NOT_TO_READ)
def test_a_roster_that_could_not_be_read_is_read_again(
    paths: WorldPaths, unreadable: dict[Path, int], log: CapturingLogger, number: int
) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    paths.roster.write_bytes(NEWER)
    unreadable[paths.roster] = number
    known = files.current()
    assert looked(files) is known
    assert said(log) == ["roster-unusable"]
    unreadable.clear()
    assert looked(files, 1).roster.version == 2
    assert said(log) == ["roster-unusable"]


def test_a_half_written_roster_is_read_again_though_its_time_and_size_are_those_of_the_whole(
    paths: WorldPaths, monkeypatch: pytest.MonkeyPatch, log: CapturingLogger
) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    paths.roster.write_bytes(NEWER)
    with monkeypatch.context() as half:
        half.setattr(Path, "read_bytes", lambda _: NEWER[:20] + bytes(len(NEWER) - 20))
        assert looked(files).roster.version == 1
    assert looked(files, 1).roster.version == 2
    assert said(log)[0] == "roster-unusable"


def test_a_roster_that_stays_broken_is_refused_and_told_once(paths: WorldPaths, log: CapturingLogger) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    for damage in (b"{", b""):
        paths.roster.write_bytes(damage)
        assert looked(files).roster.version == 1
    assert said(log) == ["roster-unusable", "roster-unusable"]  # another damage is said by itself
    paths.roster.write_bytes(NEWER)
    assert looked(files, 1).roster.version == 2


@pytest.mark.parametrize("number", WAYS_NOT_TO_READ)
def test_a_contract_that_cannot_be_read_any_more_goes_on_being_used(
    paths: WorldPaths, unreadable: dict[Path, int], log: CapturingLogger, number: int
) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    known, path = files.current(), paths.contracts / "small.yaml"
    path.write_bytes(small())
    unreadable[path] = number
    assert looked(files) is known
    assert said(log) == ["contract-unreadable"]
    path.unlink()
    assert looked(files, 1).contracts == {}


def test_a_contract_that_could_not_be_read_at_the_start_is_used_once_it_can(
    paths: WorldPaths, unreadable: dict[Path, int], log: CapturingLogger
) -> None:
    unreadable[paths.contracts / "small.yaml"] = errno.EACCES
    files = WorldFiles(paths, drafts=True, day=Day())
    assert looked(files).contracts == {}
    assert said(log) == ["contract-unreadable"]
    unreadable.clear()
    assert len(looked(files, 1).contracts) == 1


def test_a_contract_that_cannot_be_read_is_not_used_beyond_its_end(
    paths: WorldPaths, unreadable: dict[Path, int]
) -> None:
    day = Day()
    files = WorldFiles(paths, drafts=True, day=day)
    unreadable[paths.contracts / "small.yaml"] = errno.EIO
    day.now = AFTER
    assert looked(files, 1).contracts == {}


def test_where_the_folder_cannot_be_read_its_contracts_go_on_being_used(
    paths: WorldPaths, unreadable: dict[Path, int], log: CapturingLogger
) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    known = files.current()
    unreadable[paths.contracts] = errno.EMFILE
    assert looked(files) is known
    assert said(log) == ["contract-unreadable"]
    unreadable.clear()
    (paths.contracts / "small.yaml").unlink()
    assert looked(files, 1).contracts == {}


def test_who_may_read_a_file_is_looked_at_too(paths: WorldPaths) -> None:
    """As chmod and chown say it: the time of its content stays."""
    files = WorldFiles(paths, drafts=True, day=Day())
    before = files._look()
    time.sleep(0.02)  # the clock of a file system goes by a few milliseconds
    paths.roster.chmod(0o640)
    assert files._look() != before


@pytest.mark.parametrize("half", [b"", small()[:400]], ids=["empty", "cut"])
def test_a_contract_that_is_half_written_takes_nothing_away(
    paths: WorldPaths, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    """Whoever copies a file over it empties it first, and what waits under a contract that is gone is destroyed."""
    log, read = CapturingLogger(), list[bytes]()
    monkeypatch.setattr(world_files, "get_logger", lambda: log)
    files, path = WorldFiles(paths, drafts=True, day=Day()), paths.contracts / "small.yaml"
    known = files.current()
    monkeypatch.setattr(world_files, "load_contract", lambda data, on: read.append(data) or load_contract(data, on=on))
    path.write_bytes(half)
    for mode in (0o640, 0o600, 0o640):
        path.chmod(mode)
        files.look_again()
        assert files.current() is known
    assert len(read) <= 2  # it may take half a second, and whatever changes there has everything looked at again
    assert [call.kwargs for call in log.calls] == [{"code": "contract-invalid"}]
    path.write_bytes(small() + b"# another\n")
    files.look_again()
    assert len(files.current().contracts) == 1
    assert files.current().contracts.keys() != known.contracts.keys()
    path.unlink()
    files.look_again()
    assert files.current().contracts == {}


def test_a_contract_that_could_not_end_keeps_no_roster_from_being_followed(
    paths: WorldPaths, log: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it comes a suspension as well."""
    monkeypatch.setattr(world_files, "prove", prove)
    files = WorldFiles(paths, drafts=True, day=Day())
    (paths.contracts / "endless.yaml").write_bytes(small("2027-12-31", "9999-12-31"))
    paths.roster.write_bytes(NEWER)
    world = looked(files)
    assert (world.roster.version, len(world.contracts)) == (2, 1)
    assert said(log) == ["contract-invalid"]
    assert WorldFiles(paths, drafts=True, day=Day()).current().roster.version == 2


def test_what_cannot_be_judged_keeps_no_roster_from_being_followed_and_is_judged_again(
    paths: WorldPaths, log: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect here, or no memory left: each later roster, and a suspension with it, was left out, and nobody told."""
    files, path, judged = WorldFiles(paths, drafts=True, day=Day()), paths.contracts / "small.yaml", list[str]()
    known = files.current()

    def failing(contract: Contract) -> list[Any]:
        judged.append(contract.digest)
        raise RecursionError

    with monkeypatch.context() as now:
        now.setattr(world_files, "prove", failing)
        path.write_bytes(small() + b"# another\n")
        paths.roster.write_bytes(NEWER)
        world = looked(files)
        assert (world.roster.version, world.contracts.keys()) == (2, known.contracts.keys())
        assert (said(log), len(judged)) == (["contract-failed"], 1)  # it may take half a second
        assert WorldFiles(paths, drafts=True, day=Day()).current().contracts == {}
    path.chmod(0o600)
    assert looked(files, 1).contracts.keys() == set(judged)


def test_a_roster_on_which_something_fails_is_told_and_read_again(
    paths: WorldPaths, log: CapturingLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = WorldFiles(paths, drafts=True, day=Day())
    paths.roster.write_bytes(NEWER)

    def failing(_: bytes) -> Any:
        raise RecursionError

    with monkeypatch.context() as now:
        now.setattr(world_files, "parse_roster", failing)
        assert looked(files).roster.version == 1
    assert said(log) == ["roster-unusable"]
    assert looked(files, 1).roster.version == 2


@pytest.mark.parametrize(("drafts", "holds", "used"), [(True, True, 1), (False, True, 0), (True, False, 0)])
def test_a_draft_and_what_breaks_its_own_promises_are_not_used(
    paths: WorldPaths, monkeypatch: pytest.MonkeyPatch, drafts: bool, holds: bool, used: int
) -> None:
    monkeypatch.setattr(world_files, "prove", lambda _: [SimpleNamespace(holds=holds)])
    assert len(WorldFiles(paths, drafts=drafts, day=Day()).current().contracts) == used


@pytest.mark.parametrize(
    ("version", "synthetic", "taken"), [(1, True, False), (2, False, False), (3, False, False), (3, True, True)]
)
def test_a_roster_that_is_older_or_of_the_other_kind_is_not_followed(
    paths: WorldPaths, version: int, synthetic: bool, taken: bool
) -> None:
    """Real and invented members do not become each other by a file."""
    paths.roster.write_bytes(roster_bytes(version=2, synthetic=True, members=()))
    files = WorldFiles(paths, drafts=True, day=Day())
    paths.roster.write_bytes(roster_bytes(version=version, synthetic=synthetic, members=()))
    files.look_again()
    assert files.current().roster.version == (3 if taken else 2)
    assert files.current().roster.synthetic
