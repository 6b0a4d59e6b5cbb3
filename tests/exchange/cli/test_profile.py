"""Where the command line finds its node, and what it refuses to use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.asking import agency_folder
from exchange.cli.profile import Profile, open_client, read_profile, write_profile
from exchange.client import ClientKey, ClientSetupError
from exchange.oauth.scopes import Scope

PROFILE = Profile(
    url="https://node.example",
    client_id="night-laptop",
    key_file=Path("client.jwk"),
    scopes=frozenset({Scope.INBOX_READ, Scope.INBOX_OPEN}),
    actor="w-1",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_profile(tmp_path, PROFILE)
    assert read_profile(tmp_path) == PROFILE.model_copy(update={"key_file": tmp_path / "client.jwk"})


def test_a_profile_is_never_overwritten(tmp_path: Path) -> None:
    write_profile(tmp_path, PROFILE)
    with pytest.raises(ClientSetupError):
        write_profile(tmp_path, PROFILE)


def test_the_profile_holds_no_key(tmp_path: Path) -> None:
    key = ClientKey(bytes(range(32)))
    key.save(tmp_path / "client.jwk")
    written = write_profile(tmp_path, PROFILE).read_text()
    assert (tmp_path / "client.jwk").read_text().split('"d": "')[1][:20] not in written


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("url = ", id="not TOML"),
        pytest.param('url = "https://n.example"\nclient_id = "c"', id="a member missing"),
        pytest.param('url = "u"\nclient_id = "c"\nkey_file = "k"\npassword = "CANARY"', id="an unknown member"),
        pytest.param('url = "u"\nclient_id = "c"\nkey_file = "k"\nscopes = ["CANARY"]', id="an unknown scope"),
        pytest.param('url = "u"\nclient_id = "c"\nkey_file = "k"\nactor = "CANARY Jane Doe"', id="a name as actor"),
        pytest.param('url = "u"\nclient_id = "c"\nkey_file = "k"\nwhen = 2026-11-23', id="a date"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str) -> None:
    (tmp_path / "client.toml").write_text(text)
    with pytest.raises(ClientSetupError) as told:
        read_profile(tmp_path)
    assert "CANARY" not in str(told.value)


def test_home_wins_over_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    users, homes = tmp_path / ".config" / "exchange", tmp_path / "node"
    for folder, client_id in ((users, "users"), (homes, "homes")):
        folder.mkdir(parents=True)
        write_profile(folder, PROFILE.model_copy(update={"client_id": client_id}))
    assert read_profile(None).client_id == "users"
    assert read_profile(homes).client_id == "homes"


def test_no_profile_is_a_sentence(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["token", "--home", str(tmp_path)])
    assert refused.exit_code == 2
    assert "Ask whoever runs your agency's node for the folder" in refused.output


def test_an_address_in_the_open_is_refused(tmp_path: Path) -> None:
    ClientKey(bytes(range(32))).save(tmp_path / "client.jwk")
    write_profile(tmp_path, PROFILE.model_copy(update={"url": "http://node.example"}))
    with pytest.raises(ClientSetupError, match="https"):
        open_client(tmp_path, None)


SIGNS = ("agency-keys.db", "card.json")


@pytest.mark.parametrize(("mark", "beside"), [(True, ()), *((None, (sign,)) for sign in SIGNS)])
def test_an_agency_whose_keys_are_elsewhere_and_not_here_is_refused(
    tmp_path: Path, mark: bool | None, beside: tuple[str, ...]
) -> None:
    """A profile of before says nothing: then what lies beside it does."""
    write_profile(tmp_path, PROFILE.model_copy(update={"keys_elsewhere": mark}))
    for name in beside:
        (tmp_path / name).touch()
    with pytest.raises(ClientSetupError, match=r"Nothing was sent: .* not with the node") as refused:
        agency_folder(tmp_path)
    # Nobody is told how to get around what the profile says.
    assert ("keys_elsewhere = false" in str(refused.value)) is (mark is None)
    (tmp_path / "agency.keys").touch()
    assert agency_folder(tmp_path) == tmp_path


def test_keys_that_lie_with_the_clients_key_are_not_passed_over(tmp_path: Path) -> None:
    """There they were looked for before: who has them there must not go on in the clear."""
    folder, stick = tmp_path / "profile", tmp_path / "stick"
    for one in (folder, stick):
        one.mkdir()
    write_profile(folder, PROFILE.model_copy(update={"key_file": stick / "client.jwk"}))
    (stick / "agency.keys").touch()
    with pytest.raises(ClientSetupError, match="Nothing was sent"):
        agency_folder(folder)


def test_a_link_to_a_stick_that_is_not_there_is_a_key_that_is_missing(tmp_path: Path) -> None:
    write_profile(tmp_path, PROFILE)
    (tmp_path / "agency.keys").symlink_to(tmp_path / "stick" / "agency.keys")
    with pytest.raises(ClientSetupError, match="Nothing was sent"):
        agency_folder(tmp_path)


@pytest.mark.parametrize(
    ("mark", "beside"),
    [
        pytest.param(None, (), id="a folder for a system"),
        pytest.param(None, ("card.json", "node.keys"), id="the home of a node"),
        pytest.param(False, SIGNS, id="said so"),
    ],
)
def test_where_the_node_holds_the_keys_it_is_asked(tmp_path: Path, mark: bool | None, beside: tuple[str, ...]) -> None:
    write_profile(tmp_path, PROFILE.model_copy(update={"keys_elsewhere": mark}))
    for name in beside:
        (tmp_path / name).touch()
    assert agency_folder(tmp_path) is None


def test_a_command_loads_neither_a_database_nor_a_server() -> None:
    code = "import sys, exchange.cli.application; sys.exit(bool({'sqlalchemy', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
