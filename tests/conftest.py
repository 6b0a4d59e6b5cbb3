"""Fixtures that every test folder may use; they live in tests/support. Nothing here is timed: machines differ."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from support import once
from support.databases import (
    database_kind,
    database_url,
    empty_database_url,
    key_store_url,
    make_database,
    make_on,
)
from support.ledger import summary
from support.memory import memory
from support.postgres import postgres

__all__ = [
    "database_kind",
    "database_url",
    "empty_database_url",
    "key_store_url",
    "make_database",
    "make_on",
    "postgres",
]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
once.install()


LONG: Final = ("processes", "durability", "simulation", "security", "exchange/demo", "exchange/cli")
"""Folders with tests of many seconds."""


def pytest_configure() -> None:
    """Homes and databases lie in memory, if there is room: on a disk a test of nodes waits a third of its time."""
    if (folder := memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for reference cycles seldom, and never among what was imported: that took a sixth of a test process's time.

    What is left open in a cycle is still a failure, at the latest when the session ends.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: in the end no process waits for the one that has a long test left."""
    folders = tuple(Path(__file__).parent / folder for folder in LONG)
    files = {item.path for item in items}
    long = {file for file in files if any(file.is_relative_to(folder) for folder in folders)}
    items.sort(key=lambda item: item.path not in long)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests of faults counted; with several test processes nothing is counted here."""
    for line in summary():
        terminalreporter.write_line(line)
