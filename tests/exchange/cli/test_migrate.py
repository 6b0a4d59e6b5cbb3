"""`exchange migrate` marks the clients of before: in the upgrade that brings marks, once, and nobody afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from support.databases import MakeDatabase
from support.homes import copied_home
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.founding import FoundingError, found
from exchange.cli.marking import MARKED_SINCE, note_marked
from exchange.demo.federation import SHELTER, make_nodes
from exchange.envelope.key_file import FLOOR
from exchange.settings import MARKED_NAME, Environment
from exchange.storage.engine import parse_url
from exchange.storage.migrate import History, upgrade
from exchange.storage.versions import current, newest

INSERT = """
    INSERT INTO oauth_client (client_id, jwks, scopes, unit, status, created_at)
    VALUES (:name, '{}', 'inbox:read', NULL, :status, 1)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (made,), _ = make_nodes(tmp_path_factory.mktemp("template"), (SHELTER,), Environment.SANDBOX)
    return made.home


class Before:
    """A node's home and its main database as an older version of the program left them."""

    def __init__(self, home: Path, url: str, folder: Path) -> None:
        self.home, self.url = home, url
        folder.mkdir()
        for step in History.MAIN.folder.glob("main_*.py"):
            if step.name < MARKED_SINCE:
                shutil.copy(step, folder)
        self.version = upgrade(url, versions=folder)
        (home / MARKED_NAME).unlink()
        self.writes(INSERT, name="case-system", status="active")
        self.writes(INSERT, name="lost-laptop", status="revoked")

    def writes(self, statement: str, **values: Any) -> None:
        """Whoever can write there."""
        with create_engine(parse_url(self.url), poolclass=NullPool).begin() as connection:
            connection.execute(text(statement), values)

    def clients(self) -> Mapping[str, tuple[str, bool]]:
        """Standing of each client, and whether it has a mark."""
        with create_engine(parse_url(self.url), poolclass=NullPool).connect() as connection:
            rows = connection.execute(text("SELECT client_id, status, mark FROM oauth_client")).all()
        return {name: (status, mark is not None) for name, status, mark in rows}

    def run(self, *words: str, code: int = 0, **environment: str | None) -> Result:
        variables = {"COLUMNS": "400", "EXCHANGE_HOME": str(self.home), "EXCHANGE_DATABASE_URL": self.url}
        done = CliRunner().invoke(app, words, env={**variables, **environment})
        assert isinstance(done.exception, SystemExit | None), done.exception
        assert done.exit_code == code, done.output
        return done


@pytest.fixture
def before(tmp_path: Path, template: Path, empty_database_url: str) -> Before:
    return Before(copied_home(template, tmp_path / "node"), empty_database_url, tmp_path / "steps")


def standing(shown: str, name: str) -> str:
    (line,) = [line for line in shown.splitlines() if line.startswith(name)]
    return line


def test_who_was_a_client_before_is_one_afterwards(before: Before) -> None:
    said = before.run("migrate")
    assert current(before.url) == newest()
    assert before.clients() == {"case-system": ("active", True), "lost-laptop": ("revoked", False)}
    assert "Let in as before: case-system." in said.stderr
    shown = before.run("client", "list").output
    assert "active" in standing(shown, "case-system")
    assert "revoked" in standing(shown, "lost-laptop")


def test_a_new_key_store_beside_a_restored_database_says_what_comes_before_the_start(before: Before) -> None:
    """The node starts with it, and nobody would be told what is lost."""
    assert "After a lost disk" not in before.run("migrate").output
    (before.home / "keys.db").unlink()
    said = before.run("migrate").stderr
    assert "exchange keys revoke" in said
    assert "exchange resync" in said


def test_whoever_comes_later_gets_no_mark(before: Before) -> None:
    before.run("migrate")
    before.writes(INSERT, name="stranger", status="active")
    before.writes("UPDATE oauth_client SET status = 'active' WHERE client_id = 'lost-laptop'")
    assert "Let in" not in before.run("migrate").output
    assert before.clients()["stranger"] == before.clients()["lost-laptop"] == ("active", False)
    shown = before.run("client", "list").output
    for name in ("stranger", "lost-laptop"):
        assert "not registered here" in standing(shown, name)


def test_a_database_that_is_called_old_again_marks_nobody(before: Before) -> None:
    """As if it had been marked, and somebody had made of it what it was before."""
    note_marked(before.home)
    before.writes(INSERT, name="stranger", status="active")
    said = before.run("migrate", code=1).output
    assert MARKED_NAME in said
    assert "somebody else has changed the database" in said
    assert current(before.url) == before.version
    (before.home / MARKED_NAME).unlink()  # as after an older backup was restored
    assert "case-system, stranger" in before.run("migrate").stderr


def test_without_the_passphrase_nothing_is_changed(before: Before) -> None:
    config = before.home / "exchange.toml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "passphrase" not in line))
    assert "nobody is here to type it" in before.run("migrate", code=2).output
    assert current(before.url) == before.version
    assert not (before.home / MARKED_NAME).exists()


def test_a_new_node_does_not_upgrade_another_nodes_database(before: Before, tmp_path: Path) -> None:
    """Its clients would stay without marks."""
    plan = replace(SHELTER.node(tmp_path / "new", 1, Environment.SANDBOX), database_url=before.url)
    with pytest.raises(FoundingError, match="another node's"):
        found(plan, "synthetic passphrase", cost=FLOOR)
    assert current(before.url) == before.version


def test_a_new_database_needs_no_passphrase(
    tmp_path: Path, template: Path, make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied_home(template, tmp_path / "node")
    monkeypatch.setattr("exchange.cli.marking.opened_storage_key", None)
    with make_database(None) as url:
        done = CliRunner().invoke(app, ["migrate"], env={"EXCHANGE_HOME": str(home), "EXCHANGE_DATABASE_URL": url})
        assert done.exit_code == 0, done.output
        assert current(url) == newest()
