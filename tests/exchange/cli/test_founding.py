"""Making a node: private, whole, and never over something that exists."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli.application import app
from exchange.cli.founding import FoundingError, NodePlan, found
from exchange.demo.search import find_key
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file
from exchange.roster import ToldFirst, parse_member_card
from exchange.settings import Environment, load_settings
from exchange.storage.versions import History, ensure_current

PASSPHRASE = "a long enough passphrase"


def a_plan(home: Path) -> NodePlan:
    return NodePlan(
        home=home,
        agency="rose-house-shelter",
        name="Rose House (synthetic)",
        kind=AgencyKind.SHELTER,
        country="MY",
        public_url="http://127.0.0.1:8080",
        duty_contact="+00 000",
        breach_contact="breach@example.org",
        told_first=ToldFirst(freedom_of_movement="Yes.", requires_documents=False),
        service_types=(ServiceType.SAFE_ACCOMMODATION,),
        environment=Environment.SANDBOX,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "node"
    found(a_plan(folder), PASSPHRASE, cost=FLOOR)
    return folder


def test_the_home_is_for_its_owner_only(home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for secret in ("node.keys", "client.jwk"):
        assert stat.S_IMODE((home / secret).stat().st_mode) == 0o600


def test_the_key_file_opens_and_the_card_lists_its_public_halves(home: Path) -> None:
    keys = open_keys(read_key_file(home / "node.keys"), PASSPHRASE.encode())
    card = parse_member_card((home / "card.json").read_bytes().strip())
    assert keys.agency is not None
    assert keys.node is not None
    assert (card.agency_key, card.node_key) == (keys.agency.public, keys.node.public)
    assert card.synthetic


def test_another_passphrase_opens_nothing(home: Path) -> None:
    with pytest.raises(KeyFileError):
        open_keys(read_key_file(home / "node.keys"), b"another long passphrase")


def test_nothing_secret_is_in_configuration_card_or_profile(home: Path) -> None:
    keys = open_keys(read_key_file(home / "node.keys"), PASSPHRASE.encode())
    assert keys.storage is not None
    for name in ("exchange.toml", "card.json", "client.toml"):
        text = (home / name).read_bytes()
        assert PASSPHRASE.encode() not in text
        assert keys.storage.secret_bytes() not in text


def test_both_databases_are_ready(home: Path) -> None:
    settings = load_settings(home=home)
    ensure_current(settings.database_url.get_secret_value(), History.MAIN)
    ensure_current(settings.key_database_url.get_secret_value(), History.KEYS)


def test_an_existing_home_is_never_touched(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    with pytest.raises(FoundingError):
        found(a_plan(home), PASSPHRASE, cost=FLOOR)
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == before


OTHER = "another long passphrase"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A node's home, and the folder of its agency's own machine."""
    folder = tmp_path_factory.mktemp("elsewhere")
    plan = replace(a_plan(folder / "node"), agency_home=folder / "office")
    found(plan, PASSPHRASE, agency_passphrase=OTHER, cost=FLOOR)
    return folder / "node", folder / "office"


def test_with_keys_elsewhere_the_node_never_has_the_agency_key(elsewhere: tuple[Path, Path]) -> None:
    node, office = elsewhere
    its, own = (
        open_keys(read_key_file(node / "node.keys"), PASSPHRASE.encode()),
        open_keys(read_key_file(office / "agency.keys"), OTHER.encode()),
    )
    assert (its.agency, own.node) == (None, None)
    assert own.agency is not None
    card = parse_member_card((office / "card.json").read_bytes().strip())
    assert card == parse_member_card((node / "card.json").read_bytes().strip())
    assert card.agency_key == own.agency.public
    assert not any(find_key(node, own.agency.secret_bytes()).finds)
    assert its.storage != own.storage


def test_with_keys_elsewhere_the_first_client_is_the_agencys_and_both_folders_are_private(
    elsewhere: tuple[Path, Path],
) -> None:
    node, office = elsewhere
    assert {path.name for path in office.iterdir()} == {
        "agency.keys", "card.json", "client.jwk", "client.toml", "contracts",
    }  # fmt: skip
    assert not (node / "client.jwk").exists()
    assert stat.S_IMODE(office.stat().st_mode) == 0o700
    assert stat.S_IMODE((office / "agency.keys").stat().st_mode) == 0o600
    with pytest.raises(KeyFileError):
        open_keys(read_key_file(office / "agency.keys"), PASSPHRASE.encode())


def test_a_folder_of_the_agency_that_holds_something_is_never_touched(tmp_path: Path) -> None:
    office = tmp_path / "office"
    office.mkdir()
    (office / "kept").write_text("kept", encoding="utf-8")
    with pytest.raises(FoundingError):
        found(replace(a_plan(tmp_path / "node"), agency_home=office), PASSPHRASE, cost=FLOOR)
    assert not (tmp_path / "node").exists()
    assert [path.name for path in office.iterdir()] == ["kept"]


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        found(a_plan(tmp_path / "node"), "short", cost=FLOOR)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"agency": "Rose House"}, id="an id with capitals and spaces"),
        pytest.param({"country": "Malaysia"}, id="a country that is no code"),
        pytest.param({"public_url": "https://node.example/"}, id="a slash at the end"),
        pytest.param({"represents": "ID"}, id="a shelter that represents a country"),
    ],
)
def test_plans_that_no_roster_would_hold(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r".") as told:
        found(replace(a_plan(tmp_path / "node"), **wrong), PASSPHRASE, cost=FLOOR)  # type: ignore[arg-type]
    assert not (tmp_path / "node" / "exchange.toml").exists()
    assert "Rose House" not in str(told.value)


def init(home: Path, *more: str, passphrase: str | None = PASSPHRASE) -> Result:
    words = ["init", "--home", str(home), "--agency", "rose-house-shelter", "--name", "Rose House", "--kind", "shelter"]
    words += ["--country", "MY", "--service", "safe-accommodation", "--public-url", "https://node.example"]
    words += ["--duty-contact", "+00 000", "--breach-contact", "breach@example.org", *more]
    return CliRunner().invoke(app, words, env={"EXCHANGE_PASSPHRASE": passphrase})


def test_init_prints_the_card_and_what_comes_next(tmp_path: Path) -> None:
    made = init(tmp_path / "node")
    assert made.exit_code == 0, made.output
    assert '"agency":"rose-house-shelter"' in made.output
    assert "exchange doctor" in made.output
    assert PASSPHRASE not in made.output


@pytest.mark.parametrize(
    ("more", "passphrase", "sentence"),
    [
        pytest.param((), None, "--passphrase-file", id="nobody is here to type a passphrase"),
        pytest.param((), "short", "at least 16", id="a short passphrase"),
        pytest.param(("--country", "Malaysia"), PASSPHRASE, "not acceptable", id="a country that is no code"),
        pytest.param(("--kind", "embassy"), PASSPHRASE, "--represents", id="an embassy of nobody"),
        pytest.param(("--kind", "bank"), PASSPHRASE, "bank", id="an unknown kind"),
    ],
)
def test_init_refuses(tmp_path: Path, more: tuple[str, ...], passphrase: str | None, sentence: str) -> None:
    refused = init(tmp_path / "node", *more, passphrase=passphrase)
    assert refused.exit_code == 2
    assert sentence in refused.output
    assert not (tmp_path / "node" / "exchange.toml").exists()


def test_init_asks_nobody_when_nobody_is_there(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["init", "--home", str(tmp_path / "node")])
    assert refused.exit_code == 2
    assert "--agency" in refused.output
