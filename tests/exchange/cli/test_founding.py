"""Making a node: private, whole, and never over something that exists."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli import answers
from exchange.cli.application import app
from exchange.cli.founding import FoundingError, NodePlan, found
from exchange.cli.profile import read_profile
from exchange.demo.search import find_key
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file
from exchange.envelope.keys import key_id
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


@pytest.mark.skipif(os.geteuid() != 0, reason="Giving a folder to another user needs root.")
def test_what_root_makes_in_the_folder_of_the_nodes_user_belongs_to_that_user(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    os.chown(folder, 65534, 65533)
    found(a_plan(folder), PASSPHRASE, cost=FLOOR)
    made = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
    assert made == dict.fromkeys(made, (65534, 65533))
    assert made.keys() >= {"node.keys", "exchange.toml", "contracts", "client.jwk"}


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
    assert read_profile(office).keys_elsewhere
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
    assert not (tmp_path / "node").exists()
    assert "Rose House" not in str(told.value)


TOLD = ["--freedom-of-movement", "She can leave by day.", "--no-requires-documents", "--reports-to", "nobody"]


def init(home: Path, *more: str, passphrase: str | None = PASSPHRASE, other: str | None = None) -> Result:
    words = ["init", "--home", str(home), "--agency", "rose-house-shelter", "--name", "Rose House", "--kind", "shelter"]
    words += ["--country", "MY", "--service", "safe-accommodation", "--public-url", "https://node.example"]
    words += ["--duty-contact", "+00 000", "--breach-contact", "breach@example.org"]
    words += TOLD if "--reports-to" not in more else TOLD[:-2]
    words += more
    return CliRunner().invoke(
        app, words, env={"EXCHANGE_PASSPHRASE": passphrase, "EXCHANGE_AGENCY_PASSPHRASE": other, "COLUMNS": "400"}
    )


def test_init_prints_the_card_and_what_comes_next(tmp_path: Path) -> None:
    made = init(tmp_path / "node")
    assert made.exit_code == 0, made.output
    assert '"agency":"rose-house-shelter"' in made.output
    assert "exchange doctor" in made.output
    assert PASSPHRASE not in made.output

    assert f"exchange contract adopt FILE --home {tmp_path / 'node'}" in made.output
    # The roster comes back with both, so it comes last.
    order = ["card.json", "contract adopt", "roster.json", "exchange doctor", "exchange serve"]
    assert sorted(order, key=made.output.rindex) == order
    card = parse_member_card((tmp_path / "node" / "card.json").read_bytes().strip())
    for key in (card.agency_key, card.node_key):
        assert key_id(key) in made.stderr
        assert key_id(key) in CliRunner().invoke(app, ["roster", "card", "--home", str(tmp_path / "node")]).stderr


@pytest.mark.parametrize(
    ("more", "passphrase", "sentence"),
    [
        pytest.param((), None, "--passphrase-file", id="nobody is here to type a passphrase"),
        pytest.param((), "short", "at least 16", id="a short passphrase"),
        pytest.param(("--agency", "CANARY House"), PASSPHRASE, "--agency is not acceptable: 2 to 63", id="no id"),
        pytest.param(("--agency", ""), PASSPHRASE, "--agency is not acceptable", id="an empty id"),
        pytest.param(("--name", "CANARY\nHouse"), PASSPHRASE, "--name is not acceptable: one line", id="two lines"),
        pytest.param(("--country", "CANARY"), PASSPHRASE, "--country is not acceptable: two capital", id="no country"),
        pytest.param(("--public-url", "https://CANARY/x"), PASSPHRASE, "--public-url is not acceptable", id="a path"),
        pytest.param(("--public-url", "http://127.0.0.1"), PASSPHRASE, "plain http", id="no TLS in production"),
        pytest.param(("--duty-contact", " "), PASSPHRASE, "--duty-contact is not acceptable", id="a blank contact"),
        pytest.param(
            ("--reports-to", "nobody", "--reports-to", "the police"),
            PASSPHRASE,
            "names somebody and `nobody`",
            id="nobody and somebody",
        ),
        pytest.param(("--reports-to", "x" * 121), PASSPHRASE, "--reports-to is not acceptable", id="a long one"),
        pytest.param(("--actor", "CANARY Doe"), PASSPHRASE, "--actor is not acceptable", id="a name as actor"),
        pytest.param(("--port", "0"), PASSPHRASE, "--port", id="no port"),
        pytest.param(("--kind", "embassy"), PASSPHRASE, "--represents", id="an embassy of nobody"),
        pytest.param(("--represents", "ID"), PASSPHRASE, "embassies only", id="a shelter that represents a country"),
        pytest.param(("--kind", "bank"), PASSPHRASE, "bank", id="an unknown kind"),
        pytest.param(("--passphrase-file", "/nowhere"), PASSPHRASE, "/nowhere cannot be read", id="no such file"),
        pytest.param(("--keys-elsewhere", "{}"), PASSPHRASE, "--agency-passphrase-file", id="no second passphrase"),
    ],
)
def test_init_refuses_names_the_flag_and_makes_nothing(
    tmp_path: Path, more: tuple[str, ...], passphrase: str | None, sentence: str
) -> None:
    more = tuple(word.replace("{}", str(tmp_path / "office")) for word in more)
    refused = init(tmp_path / "node", *more, passphrase=passphrase)
    assert refused.exit_code == 2
    assert sentence in refused.output
    assert "CANARY" not in refused.output
    assert list(tmp_path.iterdir()) == []


def test_what_she_is_told_before_she_agrees_has_no_default_and_is_shown(tmp_path: Path) -> None:
    """A house that locks its door would have said that she can come and go."""
    words = ["init", "--home", str(tmp_path / "node"), "--agency", "rose-house-shelter", "--name", "Rose House"]
    words += ["--kind", "shelter", "--country", "MY", "--service", "safe-accommodation"]
    words += ["--public-url", "https://node.example", "--duty-contact", "+00 000", "--breach-contact", "b@example.org"]
    for missing in (TOLD[:2], TOLD[2:3], TOLD[3:]):
        given = [word for word in TOLD if word not in missing]
        refused = CliRunner().invoke(app, words + given, env={"EXCHANGE_PASSPHRASE": PASSPHRASE, "COLUMNS": "400"})
        assert refused.exit_code == 2
        assert missing[0].removeprefix("--no-") in refused.output
        assert not (tmp_path / "node").exists()
    said = init(tmp_path / "node", "--reports-to", "the police").output
    for told in ("must report to: the police.", "She can leave by day.", "She is not asked for papers."):
        assert told in said
    said = init(tmp_path / "another", "--requires-documents").output
    for told in ("must report to: nobody.", "She is asked for papers."):
        assert told in said
    card = parse_member_card((tmp_path / "another" / "card.json").read_bytes().strip())
    assert (card.told_first.reports_to, card.told_first.requires_documents) == ((), True)


def test_who_sits_at_the_keyboard_is_asked_for_what_she_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["", "x" * 121, "nobody; the police", "the police; the ministry, by law", "Nobody", "yes", "no"])
    monkeypatch.setattr(answers.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(answers.Prompt, "ask", lambda *_, **__: next(typed))
    assert answers.told_whom_it_reports_to(None) == ("the police", "the ministry, by law")
    assert answers.told_whom_it_reports_to(None) == ()
    assert [answers.told_whether("--requires-documents", None, "Papers") for _ in range(2)] == [True, False]


def test_a_node_is_made_with_the_settings_that_it_will_run_with(tmp_path: Path) -> None:
    """As in a container: what the node will read from its environment `init` reads there too.

    Otherwise the tables lie in files that no process opens, and the key file has another passphrase.
    """
    secrets = {"PASSPHRASE": PASSPHRASE}
    secrets |= {f"{name}DATABASE_URL": f"sqlite:///{tmp_path}/{name}elsewhere.db" for name in ("", "KEY_")}
    variables = {"EXCHANGE_HOME": str(tmp_path / "node"), "EXCHANGE_PUBLIC_URL": "http://127.0.0.1:8473"}
    variables |= {"EXCHANGE_ENVIRONMENT": "sandbox", "EXCHANGE_PORT": "8473"}
    for name, text in secrets.items():
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        variables[f"EXCHANGE_{name}_FILE"] = str(file)
    words = ["--agency", "rose-house", "--name", "Rose House", "--kind", "shelter", "--country", "MY"]
    words += ["--service", "safe-accommodation", "--duty-contact", "+00 000", "--breach-contact", "b@example.org"]
    words += TOLD
    made = CliRunner().invoke(app, ["init", *words], env=variables)
    assert made.exit_code == 0, made.output
    assert list((tmp_path / "node").glob("*.db*")) == []
    for history, name in ((History.MAIN, ""), (History.KEYS, "KEY_")):
        ensure_current(secrets[f"{name}DATABASE_URL"], history)
    assert open_keys(read_key_file(tmp_path / "node" / "node.keys"), PASSPHRASE.encode()).node is not None
    settings = load_settings(home=tmp_path / "node")  # without the variables
    assert settings.environment is Environment.SANDBOX
    assert (settings.public_url, settings.port) == ("http://127.0.0.1:8473", 8473)
    assert settings.key_database_url.get_secret_value() == secrets["KEY_DATABASE_URL"]


def test_a_node_that_listens_on_ipv6_is_reached_by_its_own_command_line(tmp_path: Path) -> None:
    made = init(tmp_path / "node", "--host", "::1")
    assert made.exit_code == 0, made.output
    assert read_profile(tmp_path / "node").url == "http://[::1]:8080"


def test_with_keys_elsewhere_the_other_missing_passphrase_is_named_too(tmp_path: Path) -> None:
    refused = init(tmp_path / "node", "--keys-elsewhere", str(tmp_path / "office"), passphrase=None)
    assert "give --passphrase-file" in refused.output


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_has_to_go_before_it_is_made_again_is_named(tmp_path: Path, elsewhere: bool) -> None:
    """Of two folders the one that stays is refused the next time, and has an agency key that nobody lists."""
    home, office = tmp_path / "node", tmp_path / "office"
    made = init(home, *(("--keys-elsewhere", str(office)) if elsewhere else ()), other=OTHER if elsewhere else None)
    assert made.exit_code == 0, made.output
    folders = f"{home} and {office}" if elsewhere else str(home)
    assert f"delete {folders} and make it again" in made.output


@pytest.mark.parametrize("flag", ["--passphrase-file", "--database-url-file", "--key-database-url-file"])
@pytest.mark.parametrize(("mode", "text"), [(0o604, "x" * 20), (0o600, "\n")], ids=["others can read it", "empty"])
def test_a_secret_file_that_the_node_would_refuse_is_refused_now(
    tmp_path: Path, flag: str, mode: int, text: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(text)
    secret.chmod(mode)
    refused = init(tmp_path / "node", flag, str(secret))
    assert refused.exit_code == 2
    assert str(secret) in refused.output
    assert "Nothing was made" in refused.output
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("which", ["main", "key"])
@pytest.mark.parametrize("url", ["CANARY", "sqlite:////nowhere/x.db"], ids=["no address", "no folder"])
def test_the_database_that_cannot_be_made_is_named_and_nothing_stays(tmp_path: Path, which: str, url: str) -> None:
    flag = "--database-url-file" if which == "main" else "--key-database-url-file"
    secret, home = tmp_path / "secret", tmp_path / "node"
    secret.write_text(url)
    secret.chmod(0o600)
    refused = init(home, flag, str(secret), "--keys-elsewhere", str(tmp_path / "office"), other=OTHER)
    assert refused.exit_code == 2
    assert f"The {which} database cannot be made" in refused.output
    assert flag in refused.output
    assert "CANARY" not in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_only_what_has_a_name_of_this_program_is_taken_back(tmp_path: Path) -> None:
    home = tmp_path / "node"
    home.mkdir()
    plan = replace(
        a_plan(home), key_database_url=f"sqlite:///{home / 'others.db'}", database_url="sqlite:////nowhere/x"
    )
    with pytest.raises(FoundingError, match="main database"):
        found(plan, PASSPHRASE, cost=FLOOR)
    assert {path.name.split("-")[0] for path in home.iterdir()} == {"others.db"}


def test_a_database_with_another_nodes_client_is_refused_and_nothing_stays(tmp_path: Path, home: Path) -> None:
    plan = replace(a_plan(tmp_path / "node"), database_url=f"sqlite:///{home / 'node.db'}")
    with pytest.raises(FoundingError, match="another node's"):
        found(plan, PASSPHRASE, cost=FLOOR)
    assert list(tmp_path.iterdir()) == []


def test_one_folder_is_not_both(tmp_path: Path) -> None:
    with pytest.raises(FoundingError, match="another than"):
        found(replace(a_plan(tmp_path / "node"), agency_home=tmp_path / "node"), PASSPHRASE, cost=FLOOR)
    assert list(tmp_path.iterdir()) == []


def test_a_typed_answer_that_will_not_do_is_asked_for_again(tmp_path: Path) -> None:
    """At a terminal, where somebody can type."""
    words = ["init", "--home", str(tmp_path / "node"), "--name", "Rose House", "--kind", "shelter"]
    words += ["--public-url", "https://node.example", "--duty-contact", "+00 000", "--breach-contact", "b@example.org"]
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from exchange.cli import main; main()", *words],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"EXCHANGE_PASSPHRASE": PASSPHRASE, "COLUMNS": "400"},
    )
    os.close(terminal)
    os.write(main, b"Rose House\nrose-house\nMalaysia\nMY\nbeds\n,\nsafe-accommodation\n")
    os.write(main, b"the police; the ministry\nShe can leave by day.\nyes\n")
    said, _ = process.communicate(timeout=60)
    os.close(main)
    assert process.returncode == 0, said.decode()
    assert said.count(b"not acceptable") == 2
    assert said.count(b"not in the vocabulary") == 1
    card = parse_member_card((tmp_path / "node" / "card.json").read_bytes().strip())
    assert card.agency == "rose-house"
    told = ToldFirst(
        reports_to=("the police", "the ministry"), freedom_of_movement="She can leave by day.", requires_documents=True
    )
    assert card.told_first == told


def test_init_asks_nobody_when_nobody_is_there(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["init", "--home", str(tmp_path / "node")])
    assert refused.exit_code == 2
    assert "--agency" in refused.output
