"""Keys of the agency's own systems: made where they stay, and what is no key or no node is a sentence."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from support.homes import copied_home
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.profile import read_profile
from exchange.client import ClientKey
from exchange.demo.federation import SHELTER, make_nodes
from exchange.settings import Environment


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (made,), _ = make_nodes(tmp_path_factory.mktemp("template"), (SHELTER,), Environment.SANDBOX)
    return made.home


@pytest.fixture
def home(tmp_path: Path, template: Path) -> Path:
    return copied_home(template, tmp_path / "node")


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["client", *words], env={"COLUMNS": "400"})
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_system_makes_its_own_key_and_only_the_public_half_is_printed(home: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "key.jwk", tmp_path / "public.jwk"
    said = run("key", "--out", str(private)).stdout
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = ClientKey.load(private)
    assert json.loads(said) == key.public_jwk()
    assert json.loads(private.read_text())["d"] not in said
    public.write_text(said)
    run("add", "case-system", "--public-key", str(public), "--home", str(home))
    assert "case-system" in run("list", "--home", str(home)).output


@pytest.fixture
def open_mask() -> Iterator[None]:
    """A shell that keeps nobody from anything."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_mask")
def test_where_the_node_is_nobody_else_can_write_into_a_folder_that_was_there(home: Path, tmp_path: Path) -> None:
    """Whoever changes the address in a profile gets what is sent, her name too."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    run("add", "night-laptop", "--folder", str(folder), "--home", str(home))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == {"client.toml": 0o600, "client.jwk": 0o600}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["keys-here", "keys-elsewhere"])
def test_the_profile_says_where_the_node_holds_no_agency_key(tmp_path: Path, elsewhere: bool) -> None:
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.SANDBOX, keys_elsewhere=elsewhere)
    run("add", "night-laptop", "--folder", str(tmp_path / "laptop"), "--home", str(made.home))
    assert read_profile(tmp_path / "laptop").keys_elsewhere is (elsewhere or None)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    run("key", "--out", str(tmp_path / "key.jwk"))
    before = (tmp_path / "key.jwk").read_bytes()
    run("key", "--out", str(tmp_path / "key.jwk"), code=2)
    assert (tmp_path / "key.jwk").read_bytes() == before
    assert "cannot be written" in run("key", "--out", str(tmp_path / "missing" / "key.jwk"), code=2).output


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("CANARY", "is not a JSON Web Key", id="no JSON"),
        pytest.param("[]", "is not a JSON Web Key", id="a list"),
        pytest.param("private", "public", id="the private half"),
    ],
)
def test_what_is_no_public_key_is_not_registered(
    home: Path, tmp_path: Path, written: str | None, sentence: str
) -> None:
    path = tmp_path / "public.jwk"
    if written == "private":
        run("key", "--out", str(path))
    elif written is not None:
        path.write_text(written)
    refused = run("add", "case-system", "--public-key", str(path), "--home", str(home), code=2)
    assert sentence in refused.output
    assert "CANARY" not in refused.output
    assert "case-system" not in run("list", "--home", str(home)).output


def test_a_name_is_no_workers_id(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "laptop"
    refused = run("add", "laptop", "--folder", str(folder), "--actor", "CANARY Doe", "--home", str(home), code=2)
    assert "--actor is not acceptable" in refused.output
    assert "CANARY" not in refused.output
    refused = run("add", "laptop", "--folder", str(folder), "--unit", "CANARY north", "--home", str(home), code=2)
    assert "--unit is not acceptable" in refused.output
    assert "CANARY" not in refused.output
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    refused = run("add", "laptop", "--folder", str(tmp_path / "file"), "--home", str(home), code=2)
    assert "cannot be made" in refused.output
    assert "laptop" not in run("list", "--home", str(home)).output


@pytest.mark.parametrize("words", [("list",), ("revoke", "laptop"), ("add", "laptop", "--folder", "{}/laptop")])
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda home: (home / "node.db").write_text("CANARY" * 100), id="a damaged database"),
        pytest.param(lambda home: (home / "node.db").unlink(), id="no database"),
    ],
)
def test_a_database_that_is_no_use_is_a_sentence(
    home: Path, tmp_path: Path, words: tuple[str, ...], harm: Callable[[Path], object]
) -> None:
    harm(home)
    words = tuple(word.replace("{}", str(tmp_path)) for word in words)
    assert "exchange doctor" in run(*words, "--home", str(home), code=1).output


def test_where_no_node_is_no_client_is_registered(tmp_path: Path) -> None:
    assert "There is no node in" in run("list", "--home", str(tmp_path), code=2).output


def test_no_system_is_called_like_a_member_of_the_roster(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "laptop"
    refused = run("add", SHELTER.agency, "--folder", str(folder), "--home", str(home), code=1)
    assert "Choose another name" in refused.output
    assert not folder.exists()
    assert SHELTER.agency not in run("list", "--home", str(home)).output
