"""`exchange keys passphrase` and `renew`: what the key file's own refusal asks for can be done, and undoes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import Result
from support.homes import copied_home
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.demo.federation import HELPLINE, SHELTER, MadeNode, make_nodes
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import KeySet, open_keys, read_key_file
from exchange.roster import member_card, parse_member_card, parse_roster
from exchange.settings import Environment

OTHER = "another synthetic passphrase"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> MadeNode:
    """A node whose agency has its keys on a machine of its own; the passphrase is that machine's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (made, _), _ = make_nodes(folder, (SHELTER, HELPLINE), Environment.SANDBOX, keys_elsewhere=True)
    return made


@pytest.fixture
def office(tmp_path: Path, elsewhere: MadeNode) -> Path:
    assert elsewhere.office is not None
    return Path(shutil.copytree(elsewhere.office, tmp_path / "office"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    (made, _), _ = make_nodes(tmp_path_factory.mktemp("template"), (SHELTER, HELPLINE), Environment.SANDBOX)
    return made.home, made.passphrase


@pytest.fixture
def home(tmp_path: Path, template: tuple[Path, str]) -> Path:
    return copied_home(template[0], tmp_path / "node")


def keys_of(folder: Path, passphrase: str, name: str = "node.keys") -> KeySet:
    return open_keys(read_key_file(folder / name), passphrase.encode())


def run(home: Path, passphrase: str, *words: str, code: int = 0) -> Result:
    variables = {"COLUMNS": "400", "EXCHANGE_HOME": str(home), "EXCHANGE_PASSPHRASE": passphrase}
    config = home / "exchange.toml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "passphrase" not in line))
    done = CliRunner().invoke(app, words, env=variables)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code == code, done.output
    return done


def run_at(office: Path, passphrase: str, *words: str, code: int = 0) -> Result:
    variables = {"COLUMNS": "400", "EXCHANGE_HOME": str(office), "EXCHANGE_AGENCY_PASSPHRASE": passphrase}
    done = CliRunner().invoke(app, words, env=variables)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code == code, done.output
    return done


def test_a_new_passphrase_opens_the_same_keys_and_the_old_one_none(
    home: Path, template: tuple[Path, str], tmp_path: Path
) -> None:
    before = keys_of(home, template[1])
    new = tmp_path / "new"
    new.write_text(f"{OTHER}\n")
    new.chmod(0o600)
    said = run(home, template[1], "keys", "passphrase", "--new-passphrase-file", str(new)).output
    assert OTHER not in said
    assert keys_of(home, OTHER) == before
    with pytest.raises(KeyFileError):
        keys_of(home, template[1])
    assert (home / "node.keys").stat().st_mode & 0o077 == 0


def test_the_passphrase_of_the_agencys_own_keys_is_not_to_lie_on_the_node(
    office: Path, elsewhere: MadeNode, tmp_path: Path
) -> None:
    before = keys_of(office, elsewhere.passphrase, "agency.keys")
    new = tmp_path / "new"
    new.write_text(f"{OTHER}\n")
    new.chmod(0o600)
    said = run_at(office, elsewhere.passphrase, "keys", "passphrase", "--new-passphrase-file", str(new)).output
    assert keys_of(office, OTHER, "agency.keys") == before
    assert "EXCHANGE_AGENCY_PASSPHRASE" in said
    assert "never on the node" in said
    assert "EXCHANGE_PASSPHRASE_FILE" not in said


@pytest.mark.parametrize("text", ["too short", ""])
def test_what_is_no_passphrase_changes_nothing(
    home: Path, template: tuple[Path, str], tmp_path: Path, text: str
) -> None:
    before = (home / "node.keys").read_bytes()
    new = tmp_path / "new"
    new.write_text(text)
    new.chmod(0o600)
    run(home, template[1], "keys", "passphrase", "--new-passphrase-file", str(new), code=2)
    run(home, OTHER, "keys", "passphrase", "--new-passphrase-file", str(new), code=2)
    assert (home / "node.keys").read_bytes() == before


def test_new_keys_are_what_the_roster_takes_and_the_old_ones_stay(
    home: Path, template: tuple[Path, str], tmp_path: Path
) -> None:
    before, folder = keys_of(home, template[1]), tmp_path / "next"
    said = run(home, template[1], "keys", "renew", str(folder), "--agency", "--node").output
    after = keys_of(folder, template[1])
    assert keys_of(home, template[1]) == before
    assert after.storage == before.storage
    assert after.agency is not None
    assert after.node is not None
    member = parse_member_card((folder / "card.json").read_bytes().strip())
    assert (member.agency_key, member.node_key) == (after.agency.public, after.node.public)
    assert after.agency != before.agency
    assert after.node != before.node
    statements = [str(path) for path in (folder / "adherence").iterdir()]
    assert statements
    assert all(path in said for path in statements)
    run(home, template[1], "roster", "add", str(folder / "card.json"), *statements)
    assert parse_roster((home / "roster.json").read_bytes()).members[SHELTER.agency].agency_key == member.agency_key


@pytest.mark.parametrize("elsewhere_too", [False, True])
def test_a_contract_of_any_name_is_adhered_to_with_the_new_key(
    home: Path, template: tuple[Path, str], office: Path, elsewhere: MadeNode, tmp_path: Path, elsewhere_too: bool
) -> None:
    """The node finds it by its digest. Without the adherence the card is refused, and a stolen key counts on."""
    folder, where = tmp_path / "next", office if elsewhere_too else home
    (contract,) = (where / "contracts").iterdir()
    contract.rename(contract.with_name("agreed.yaml"))
    words = ("keys", "renew", str(folder), "--agency")
    if elsewhere_too:
        run_at(office, elsewhere.passphrase, *words)
    else:
        run(home, template[1], *words)
    assert len(list((folder / "adherence").iterdir())) == 1


def test_a_contract_that_is_not_on_file_is_named_and_nothing_is_made(
    home: Path, template: tuple[Path, str], tmp_path: Path
) -> None:
    (contract,) = (home / "contracts").iterdir()
    contract.write_bytes(contract.read_bytes() + b"# other bytes\n")
    (adoption,) = parse_roster((home / "roster.json").read_bytes()).contracts
    said = run(home, template[1], "keys", "renew", str(tmp_path / "next"), "--agency", code=2).output
    assert adoption.digest in said
    assert "nothing was made" in said
    assert not (tmp_path / "next").exists()
    run(home, template[1], "keys", "renew", str(tmp_path / "next"), "--node")


def test_without_a_roster_it_is_said_that_no_adherence_is_signed(
    home: Path, template: tuple[Path, str], tmp_path: Path
) -> None:
    (home / "roster.json").unlink()
    said = run(home, template[1], "keys", "renew", str(tmp_path / "next"), "--agency").output
    assert "no adherence is signed" in said
    assert not (tmp_path / "next" / "adherence").exists()


def test_new_keys_go_over_nothing(home: Path, template: tuple[Path, str], tmp_path: Path) -> None:
    for words in ((str(home), "--node"), (str(tmp_path / "next"),)):
        run(home, template[1], "keys", "renew", *words, code=2)
    assert not (tmp_path / "next").exists()


def test_one_key_alone_is_renewed(home: Path, template: tuple[Path, str], tmp_path: Path) -> None:
    before = keys_of(home, template[1])
    run(home, template[1], "keys", "renew", str(tmp_path / "next"), "--node")
    after = keys_of(tmp_path / "next", template[1])
    assert after.agency == before.agency
    assert after.node != before.node


def test_the_agency_key_is_renewed_where_it_is_and_the_key_store_stays_of_use(
    office: Path, elsewhere: MadeNode, tmp_path: Path
) -> None:
    """A machine was stolen with its passphrase: every member has to list another key, and what came has to open."""
    before, folder = (office / "agency.keys").read_bytes(), tmp_path / "next"
    said = run_at(office, elsewhere.passphrase, "keys", "renew", str(folder), "--agency").output
    assert (office / "agency.keys").read_bytes() == before
    old, new = (keys_of(one, elsewhere.passphrase, "agency.keys") for one in (office, folder))
    assert new.agency is not None
    assert new.agency != old.agency
    assert (new.storage, new.node) == (old.storage, None)
    member = parse_member_card((folder / "card.json").read_bytes().strip())
    assert member == elsewhere.member.model_copy(update={"agency_key": new.agency.public})
    statements = [str(path) for path in (folder / "adherence").iterdir()]
    assert len(statements) == 1
    assert all(words in said for words in (*statements, f"exchange keys publish --home {office}", "agency-keys.db"))
    assert "otherwise than the roster" not in said
    home = copied_home(elsewhere.home, tmp_path / "node")
    run(home, "", "roster", "add", str(folder / "card.json"), *statements)
    assert parse_roster((home / "roster.json").read_bytes()).members[SHELTER.agency] == member


def test_a_card_that_says_otherwise_than_the_roster_is_named(office: Path, elsewhere: MadeNode, tmp_path: Path) -> None:
    """Handed in as it is it would bring back the node key, or the address, of before."""
    card = office / "card.json"
    moved = elsewhere.member.model_copy(update={"node_url": "https://elsewhere.example"})
    card.write_bytes(member_card(moved) + b"\n")
    said = run_at(office, elsewhere.passphrase, "keys", "renew", str(tmp_path / "next"), "--agency").output
    assert f"{card} says otherwise than the roster: node_url." in said


def test_each_key_is_renewed_on_its_own_machine(office: Path, elsewhere: MadeNode, tmp_path: Path) -> None:
    folder = tmp_path / "next"
    for words in (("--node",), ("--agency", "--node")):
        said = run_at(office, elsewhere.passphrase, "keys", "renew", str(folder), *words, code=2).output
        assert "renewed on the node" in said
    home = copied_home(elsewhere.home, tmp_path / "node")
    passphrase = next(elsewhere.home.parent.glob(f".{SHELTER.agency}.*")).read_text()
    said = run(home, passphrase, "keys", "renew", str(folder), "--agency", code=2).output
    assert "exchange keys renew FOLDER --agency --home OFFICE" in said
    assert not folder.exists()


@pytest.mark.parametrize("missing", ["card.json", "agency.keys"])
def test_an_office_that_lacks_something_makes_nothing(
    office: Path, elsewhere: MadeNode, tmp_path: Path, missing: str
) -> None:
    (office / missing).unlink()
    run_at(office, elsewhere.passphrase, "keys", "renew", str(tmp_path / "next"), "--agency", code=2)
    run_at(office, OTHER, "keys", "renew", str(tmp_path / "next"), "--agency", code=2)
    assert not (tmp_path / "next").exists()
