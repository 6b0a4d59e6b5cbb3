"""The making of a federation's nodes: homes, keys, first clients, databases.

A test gets a copy of a node that was made once in its process, in a home and in databases of its own: founding writes
and flushes two dozen files and reads every migration, which took longer than most tests. Copies have the same keys: a
test of two federations at once makes the databases of one of them itself.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from support.homes import copied_home

from exchange.cli.founding import KEYS_NAME, found
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.demo.federation import AgencyPlan
from exchange.envelope.key_file import FLOOR
from exchange.roster import Member
from exchange.settings import Environment
from exchange.storage.migrate import History, upgrade

PASSPHRASE = "synthetic passphrase"
FIRST_PORT = 47001

DatabaseMaker = Callable[[str], str]
"""From `<agency>-main` or `<agency>-keys` to the address of a database."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Nodes are founded once on databases that stay, and each test has copies of these."""

    founded_on: DatabaseMaker
    """The same for a whole session, or each call founds anew."""
    copy: Callable[[str], str]


def sqlite_maker(folder: Path) -> DatabaseMaker:
    """Databases as files, copied from ones that were migrated once."""

    def make(name: str) -> str:
        file = folder / f"{name}.db"
        shutil.copyfile(_migrated(history_of(name)), file)
        file.chmod(0o600)
        return f"sqlite:///{file}"

    return make


def history_of(name: str) -> History:
    """Which tables the database of this name has."""
    return History.KEYS if name.endswith("-keys") else History.MAIN


def _kept() -> Path:
    """A folder for what is copied, until this process ends."""
    folder = tempfile.mkdtemp(prefix="federation-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _migrated(history: History) -> Path:
    file = _kept() / f"{history.value}.db"
    upgrade(f"sqlite:///{file}", history)
    return file


@dataclass(frozen=True, slots=True)
class Made:
    """A node that was made and does not run yet."""

    plan: AgencyPlan
    home: Path
    member: Member
    port: int
    database_url: str
    key_database_url: str
    agency_home: Path
    key_file: Path


def make(folder: Path, place: int, plan: AgencyPlan, databases: DatabaseMaker | Copied | None, *, blind: bool) -> Made:
    """A node for this agency; on copied files unless something else is given."""
    if databases is None:
        databases = Copied(_file_that_stays, lambda url: _copied_file(url, folder))
    if not isinstance(databases, Copied):
        return _make(folder, place, plan, databases, blind=blind)
    template = _template(place, plan, databases.founded_on, blind=blind)
    home = copied_home(template.home, folder / template.home.name)
    agency_home = home
    if blind:
        agency_home = Path(shutil.copytree(template.agency_home, folder / template.agency_home.name))
    urls = (databases.copy(url) for url in (template.database_url, template.key_database_url))
    return Made(plan, home, template.member, template.port, *urls, agency_home, agency_home / template.key_file.name)


@functools.cache
def _template(place: int, plan: AgencyPlan, founded_on: DatabaseMaker, *, blind: bool) -> Made:
    return _make(_kept(), place, plan, founded_on, blind=blind)


def _file_that_stays(name: str) -> str:
    return sqlite_maker(_kept())(name)


def _copied_file(url: str, folder: Path) -> str:
    file = Path(url.removeprefix("sqlite:///"))
    return f"sqlite:///{shutil.copy(file, folder / file.name)}"


def _make(folder: Path, place: int, plan: AgencyPlan, database: DatabaseMaker, *, blind: bool) -> Made:
    home, port = folder / plan.agency, FIRST_PORT + place
    agency_home = folder / f"{plan.agency}-office" if blind else None
    urls = database(f"{plan.agency}-main"), database(f"{plan.agency}-keys")
    made = found(
        replace(
            plan.node(home, port, Environment.DEMO),
            database_url=urls[0],
            key_database_url=urls[1],
            actor="w-test",
            agency_home=agency_home,
        ),
        PASSPHRASE,
        cost=FLOOR,
    )
    key_file = home / KEYS_NAME if agency_home is None else agency_home / AGENCY_KEYS_NAME
    return Made(plan, home, made.member, port, *urls, agency_home or home, key_file)
