"""Databases for tests, once per kind: `database_url` and `key_store_url` are migrated, `empty_database_url` is not.

A test that asks for any of them runs twice, on SQLite and on PostgreSQL. The migrations run once per test process and
kind; each test gets a copy. `make_on` makes databases for what several tests share.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest
from support.postgres import Databases

from exchange.storage.migrate import History, upgrade

KINDS: Final = ("sqlite", "postgresql")
POSTGRES_IN_FAULTS: Final = ("sqlite", pytest.param("postgresql", marks=pytest.mark.faults))
"""The kinds as parameters, where `make test` has SQLite and `make faults` both."""

MakeDatabase = Callable[[History | None], AbstractContextManager[str]]
"""Makes one more database of the test's kind: `History.MAIN`, `History.KEYS`, or an empty one."""


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """`sqlite` or `postgresql`."""
    return str(request.param)


@pytest.fixture(scope="session")
def _templates() -> dict[tuple[str, History], str]:
    return {}


@pytest.fixture(scope="session")
def make_on(
    tmp_path_factory: pytest.TempPathFactory,
    _templates: dict[tuple[str, History], str],
    request: pytest.FixtureRequest,
) -> Callable[[str], MakeDatabase]:
    """From a kind to a way to make databases of it."""

    def on(kind: str) -> MakeDatabase:
        if kind == "sqlite":
            return lambda history: _sqlite(tmp_path_factory, _templates, history)
        postgres: Databases = request.getfixturevalue("postgres")
        return lambda history: _postgresql(postgres, _templates, history)

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


@contextmanager
def _sqlite(
    folders: pytest.TempPathFactory, templates: dict[tuple[str, History], str], history: History | None
) -> Iterator[str]:
    file = folders.mktemp("database") / "node.db"
    if history is not None:
        key = ("sqlite", history)
        if key not in templates:
            template = folders.mktemp("template") / "template.db"
            upgrade(f"sqlite:///{template}", history)
            templates[key] = str(template)
        shutil.copyfile(Path(templates[key]), file)
        file.chmod(0o600)
    yield f"sqlite:///{file}"


@contextmanager
def _postgresql(
    postgres: Databases, templates: dict[tuple[str, History], str], history: History | None
) -> Iterator[str]:
    template = None
    if history is not None:
        key = ("postgresql", history)
        if key not in templates:
            template = postgres.create()
            upgrade(template, history)
            templates[key] = template
        template = templates[key]
    url = postgres.create(template)
    try:
        yield url
    finally:
        postgres.drop(url)
