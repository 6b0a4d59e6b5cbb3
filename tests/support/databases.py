"""Databases for tests, once per kind: `database_url` and `key_store_url` are migrated, `empty_database_url` is not.

A test that asks for any of them runs twice, on SQLite and on PostgreSQL. The migrations run once per test process and
kind; each test gets a copy. `make_on` makes databases for what several tests share.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from support.postgres import Databases

from exchange.storage.migrate import History, upgrade

KINDS: Final = ("sqlite", "postgresql")
POSTGRES_IN_FAULTS: Final = ("sqlite", pytest.param("postgresql", marks=pytest.mark.faults))
"""The kinds as parameters, where `make test` has SQLite and `make faults` both."""


@dataclass(frozen=True, slots=True, eq=False)
class MakeDatabase:
    """Makes databases of one kind: `History.MAIN`, `History.KEYS`, or an empty one."""

    create: Callable[[str | None], str]
    """A copy of the database at this address, or an empty one; it stays until the tests end, or until it is dropped."""
    drop: Callable[[str], None]
    _migrated: dict[History, str] = field(default_factory=dict)

    @contextmanager
    def __call__(self, history: History | None) -> Iterator[str]:
        """One with these tables, for a while."""
        with self.copy(None if history is None else self.migrated(history)) as url:
            yield url

    @contextmanager
    def copy(self, template: str | None) -> Iterator[str]:
        """One with what is in another, for a while; nobody may be connected to the other."""
        url = self.create(template)
        try:
            yield url
        finally:
            self.drop(url)

    def migrated(self, history: History) -> str:
        """One with these tables that nobody else uses: it was migrated once, and is only copied."""
        if history not in self._migrated:
            url = self.create(None)
            upgrade(url, history)
            self._migrated[history] = url
        return self._migrated[history]


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """`sqlite` or `postgresql`."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_on(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], MakeDatabase]:
    """From a kind to the way to make databases of it."""

    @functools.cache
    def on(kind: str) -> MakeDatabase:
        if kind == "sqlite":
            return MakeDatabase(lambda template: _sqlite(tmp_path_factory, template), lambda _url: None)
        postgres: Databases = request.getfixturevalue("postgres")
        return MakeDatabase(postgres.create, postgres.drop)

    return on


@pytest.fixture
def make_database(database_kind: str, make_on: Callable[[str], MakeDatabase]) -> MakeDatabase:
    """A way to make several databases for one test."""
    return make_on(database_kind)


@pytest.fixture
def database_url(make_database: MakeDatabase) -> Iterator[str]:
    """A main database with its tables."""
    with make_database(History.MAIN) as url:
        yield url


@pytest.fixture
def key_store_url(make_database: MakeDatabase) -> Iterator[str]:
    """A key store with its tables."""
    with make_database(History.KEYS) as url:
        yield url


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> Iterator[str]:
    """A database without tables."""
    with make_database(None) as url:
        yield url


def _sqlite(folders: pytest.TempPathFactory, template: str | None) -> str:
    file = folders.mktemp("database") / "node.db"
    if template is not None:
        shutil.copyfile(template.removeprefix("sqlite:///"), file)
        file.chmod(0o600)
    return f"sqlite:///{file}"
