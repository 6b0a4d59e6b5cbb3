"""One SQLite database is served once, by whatever way it ends; the lock goes with the last process that has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from exchange.storage.errors import StorageServedError, StorageUnavailableError
from exchange.storage.served import held


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_held_until_the_last_process_that_inherited_it_is_killed(tmp_path: Path) -> None:
    """Who starts the others may be killed, and what they still do is not done twice."""
    url = f"sqlite:///{tmp_path / 'node.db'}"
    with held(url) as (descriptor,):
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    try:
        with pytest.raises(StorageServedError), held(url):
            pass
    finally:
        child.kill()
        child.wait()
    with held(url), pytest.raises(StorageServedError), held(url):
        pass
    with held(url):
        pass


def test_two_addresses_of_one_file_are_one(tmp_path: Path) -> None:
    """A copy of a home whose settings still name the databases of the first."""
    (tmp_path / "copy").symlink_to(tmp_path)
    with (
        held(f"sqlite:///{tmp_path / 'node.db'}"),
        pytest.raises(StorageServedError),
        held(f"sqlite:///{tmp_path / 'copy' / 'node.db'}"),
    ):
        pass


def test_its_file_is_for_the_owner_alone_and_nothing_is_left_open(tmp_path: Path) -> None:
    before = open_files()
    with held(f"sqlite:///{tmp_path / 'node.db'}", f"sqlite:///{tmp_path / 'keys.db'}") as both:
        assert len(both) == 2
    assert open_files() == before
    assert (tmp_path / "node.db-served").stat().st_mode & 0o777 == 0o600


def test_postgresql_may_be_served_by_several() -> None:
    with held("postgresql://nobody@127.0.0.1:1/nothing") as none:
        assert none == ()


def test_where_no_lock_can_be_made_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="node's user"), held(f"sqlite:///{tmp_path / 'no' / 'node.db'}"):
        pass
