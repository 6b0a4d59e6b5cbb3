"""Cards, adherence and the roster file: what is not signed or not valid is never written."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from support.bare_server import CLOSE, bare_server
from support.homes import copied_home
from typer.testing import CliRunner

from contracts.loader import shipped_contract
from exchange.cli.application import app
from exchange.cli.founding import NodePlan, found, register_client
from exchange.client import ClientKey
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file
from exchange.envelope.keys import key_id
from exchange.envelope.wire import to_base64url
from exchange.oauth.scopes import CLIENT_SCOPES
from exchange.roster import RosterSnapshot, member_card, parse_member_card, parse_roster
from exchange.settings import Environment
from exchange.storage.database import Database
from exchange.storage.used_roster import UsedRoster, remember_roster

PASSPHRASE = "a long enough passphrase"


def make(
    folder: Path,
    agency: AgencyPlan,
    environment: Environment = Environment.SANDBOX,
    agency_home: Path | None = None,
) -> Path:
    home = folder / agency.agency
    url = "https://node.example" if environment is Environment.PRODUCTION else "http://127.0.0.1:1"
    plan = NodePlan(
        home=home,
        agency=agency.agency,
        name=agency.name,
        kind=agency.kind,
        country=agency.country,
        public_url=url,
        duty_contact="+00 000",
        breach_contact="breach@example.org",
        told_first=agency.told_first,
        service_types=agency.service_types,
        environment=environment,
        agency_home=agency_home,
    )
    found(plan, PASSPHRASE, cost=FLOOR)
    return home


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("templates")
    return make(folder, HELPLINE), make(folder, SHELTER)


@pytest.fixture
def homes(tmp_path: Path, templates: tuple[Path, Path]) -> tuple[Path, Path]:
    helpline, shelter = (copied_home(home, tmp_path / home.name) for home in templates)
    return helpline, shelter


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.yaml"
    path.write_bytes(shipped_contract())
    return path


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(
        app, list(words), env={"EXCHANGE_HOME": str(home), "EXCHANGE_PASSPHRASE": PASSPHRASE, "COLUMNS": "200"}
    )


def adopted(home: Path, contract: Path) -> Path:
    done = run(home, "contract", "adopt", str(contract))
    assert done.exit_code == 0, done.output
    (path,) = (home / "adherence").iterdir()
    return path


def test_two_agencies_become_a_federation(homes: tuple[Path, Path], contract: Path) -> None:
    files = [str(home / "card.json") for home in homes]
    files += [str(adopted(home, contract)) for home in homes]
    done = run(homes[0], "roster", "add", *files)
    assert done.exit_code == 0, done.output
    roster = parse_roster((homes[0] / "roster.json").read_bytes())
    assert len(roster.contract_in_force(HELPLINE.agency, SHELTER.agency, datetime.now(UTC))) == 1
    shown = run(homes[0], "roster", "show").output
    assert "SYNTHETIC" in shown
    assert f"{SHELTER.agency}: signed" in shown
    # Who has to telephone in a hurry reads it whole, on whatever screen.
    member = roster.members[SHELTER.agency]
    assert f"{SHELTER.agency}: duty {member.duty_contact}; breach {member.breach_contact}\n" in shown


def test_a_node_without_the_agency_key_puts_the_contract_in_place_and_says_where_to_sign(
    tmp_path: Path, contract: Path
) -> None:
    office = tmp_path / "office"
    home = make(tmp_path, SHELTER, agency_home=office)
    done = run(home, "contract", "adopt", str(contract))
    assert done.exit_code == 0, done.output
    assert "sign it on the agency's machine" in done.stderr
    assert [path.read_bytes() for path in (home / "contracts").iterdir()] == [shipped_contract()]
    assert not (home / "adherence").exists()
    signed = CliRunner().invoke(
        app,
        ["contract", "adopt", str(contract), "--agency-home", str(office)],
        env={"EXCHANGE_AGENCY_PASSPHRASE": PASSPHRASE},
    )
    assert signed.exit_code == 0, signed.output
    assert list((office / "adherence").iterdir())


def test_the_ids_of_both_keys_are_told_where_a_card_is_added(homes: tuple[Path, Path]) -> None:
    done = run(homes[0], "roster", "add", str(homes[1] / "card.json"))
    member = parse_member_card((homes[1] / "card.json").read_bytes().strip())
    assert f"agency key {key_id(member.agency_key)}, node key {key_id(member.node_key)}" in done.stderr


def test_a_member_that_joins_under_the_id_of_a_client_is_named(homes: tuple[Path, Path]) -> None:
    url = f"sqlite:///{homes[0] / 'node.db'}"
    storage_key = open_keys(read_key_file(homes[0] / "node.keys"), PASSPHRASE.encode()).storage
    assert storage_key is not None
    register_client(url, storage_key, SHELTER.agency, ClientKey(bytes(32)).public_jwk(), CLIENT_SCOPES, None)
    done = run(homes[0], "roster", "add", str(homes[1] / "card.json"))
    assert done.exit_code == 0, done.output
    assert f"exchange client revoke {SHELTER.agency}" in done.stderr
    assert run(homes[0], "client", "revoke", SHELTER.agency).exit_code == 0
    assert "exchange client revoke" not in run(homes[0], "roster", "add", str(homes[0] / "card.json")).output


@pytest.mark.parametrize("text", ["", "CANARY", "{}"])
def test_a_damaged_card_is_not_printed(homes: tuple[Path, Path], text: str) -> None:
    (homes[0] / "card.json").write_text(text)
    refused = run(homes[0], "roster", "card")
    assert refused.exit_code == 2
    assert "CANARY" not in refused.output


@pytest.mark.parametrize("mask", [0, 0o077])
def test_whatever_the_umask_the_nodes_user_reads_roster_and_contract_and_nobody_else_writes(
    homes: tuple[Path, Path], contract: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        statement = adopted(homes[0], contract)
        assert run(homes[0], "roster", "add", str(homes[0] / "card.json"), str(statement)).exit_code == 0
    finally:
        os.umask(before)
    files = [homes[0] / "roster.json", statement, *(homes[0] / "contracts").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o644}


def test_every_change_is_a_new_version(homes: tuple[Path, Path]) -> None:
    for number, home in enumerate(homes, start=1):
        assert run(homes[0], "roster", "add", str(home / "card.json")).exit_code == 0
        assert parse_roster((homes[0] / "roster.json").read_bytes()).version == number


def test_a_card_does_not_end_a_suspension(homes: tuple[Path, Path]) -> None:
    """Its member makes it, and asks to be listed under another address: the keeper would not have noticed."""
    card = str(homes[1] / "card.json")
    assert run(homes[0], "roster", "add", card).exit_code == 0
    for number, (status, said) in enumerate((("suspended", "stays suspended"), ("left", "stays left")), start=1):
        assert run(homes[0], "roster", "standing", SHELTER.agency, status).exit_code == 0
        again = run(homes[0], "roster", "add", card)
        assert said in again.stderr
        roster = parse_roster((homes[0] / "roster.json").read_bytes())
        assert (roster.version, roster.members[SHELTER.agency].status) == (1 + 2 * number, status)
    assert run(homes[0], "roster", "standing", SHELTER.agency, "active").exit_code == 0
    assert "stays" not in run(homes[0], "roster", "add", card).output


def test_the_standing_of_nobody_is_not_written(homes: tuple[Path, Path]) -> None:
    assert run(homes[0], "roster", "add", str(homes[1] / "card.json")).exit_code == 0
    assert run(homes[0], "roster", "standing", HELPLINE.agency, "left").exit_code == 2
    assert parse_roster((homes[0] / "roster.json").read_bytes()).version == 1


def listed_at(home: Path, url: str) -> RosterSnapshot:
    """The roster of both agencies lies here, and the other's node has this address."""
    path = home.parent / "card.json"
    member = parse_member_card((home.parent / SHELTER.agency / "card.json").read_bytes().strip())
    path.write_bytes(member_card(member.model_copy(update={"node_url": url})))
    done = run(home, "roster", "add", str(home / "card.json"), str(path))
    assert done.exit_code == 0, done.output
    return parse_roster((home / "roster.json").read_bytes())


def own_card(version: int, digest: str) -> bytes:
    """What the other's node answers: by which roster it goes. Its keys may be others since."""
    said = {
        "agency": SHELTER.agency,
        "kind": "shelter",
        "software": "referral-exchange",
        "suites": ["s"],
        "vocabularies": [1],
        "agency_key": to_base64url(bytes(32)),
        "node_key": to_base64url(bytes(32)),
        "epochs": [],
        "contracts": [],
        "roster_version": version,
        "roster_digest": digest,
        "synthetic": True,
    }
    body = json.dumps(said).encode()
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body + CLOSE


WRITES = [
    pytest.param(lambda home: ("add", str(home / "card.json")), id="add"),
    pytest.param(lambda _: ("standing", SHELTER.agency, "left"), id="standing"),
]


@pytest.mark.parametrize("words", WRITES)
@pytest.mark.parametrize("ahead", [0, 1, 6])
async def test_no_roster_is_made_of_one_that_is_older_than_a_members(
    homes: tuple[Path, Path], words: Callable[[Path], tuple[str, ...]], ahead: int
) -> None:
    """The office restored a backup: who was suspended since would be active at every member."""
    async with bare_server([]) as server:
        roster = await asyncio.to_thread(listed_at, homes[0], server.url)
        server.answers.append(own_card(roster.version + ahead, "a" * 64))
        refused = await asyncio.to_thread(run, homes[0], "roster", *words(homes[0]))
    assert refused.exit_code == 1
    assert f"{SHELTER.agency} goes by version {roster.version + ahead}" in refused.stderr
    assert roster.members[SHELTER.agency].duty_contact in refused.stderr
    assert "Nothing was written" in refused.stderr
    # Not ready to be taken over: a member may claim any number.
    assert "the highest version that any has with --above." in refused.stderr
    assert (homes[0] / "roster.json").read_bytes() == roster.source


@pytest.mark.parametrize("words", WRITES)
async def test_who_goes_by_this_roster_or_an_older_one_holds_nothing_back(
    homes: tuple[Path, Path], words: Callable[[Path], tuple[str, ...]]
) -> None:
    async with bare_server([]) as server:
        roster = await asyncio.to_thread(listed_at, homes[0], server.url)
        for used in (UsedRoster(roster.version, roster.digest), UsedRoster(1, "a" * 64)):
            server.answers.append(own_card(*used))
            done = await asyncio.to_thread(run, homes[0], "roster", *words(homes[0]))
            assert done.exit_code == 0, done.output
            assert "Not asked" not in done.stderr
    assert parse_roster((homes[0] / "roster.json").read_bytes()).version == roster.version + 2


async def test_where_nobody_has_the_newer_one_the_office_goes_on_above_it(homes: tuple[Path, Path]) -> None:
    async with bare_server([]) as server:
        roster = await asyncio.to_thread(listed_at, homes[0], server.url)
        # More than a roster can count: a member that lies keeps no suspension back.
        server.answers.append(own_card(2**53, "a" * 64))
        words = ("roster", "standing", SHELTER.agency, "suspended", "--above", "7")
        done = await asyncio.to_thread(run, homes[0], *words)
    assert done.exit_code == 0, done.output
    assert f"{SHELTER.agency} goes by version {2**53}" in done.stderr
    assert f"Active in it: {HELPLINE.agency}." in done.stderr
    written = parse_roster((homes[0] / "roster.json").read_bytes())
    assert (roster.version, written.version) == (1, 8)
    assert written.members[SHELTER.agency].status == "suspended"


async def test_a_number_that_no_roster_has_had_is_not_gone_above(homes: tuple[Path, Path]) -> None:
    """After the highest number that there is no suspension could be written any more, and members take none lower."""
    async with bare_server([]) as server:
        roster = await asyncio.to_thread(listed_at, homes[0], server.url)
        server.answers.append(own_card(2**53 - 2, "a" * 64))
        words = ("roster", "standing", SHELTER.agency, "suspended", "--above", str(2**53 - 2))
        refused = await asyncio.to_thread(run, homes[0], *words)
    assert refused.exit_code == 1
    assert "No roster has had a version above 10001" in refused.stderr
    assert (homes[0] / "roster.json").read_bytes() == roster.source


def test_who_cannot_be_asked_holds_nothing_back_and_is_named(homes: tuple[Path, Path]) -> None:
    cards = [str(home / "card.json") for home in homes]
    assert "Not asked" not in run(homes[0], "roster", "add", *cards).output
    done = run(homes[0], "roster", "add", cards[1])
    assert done.exit_code == 0, done.output
    (told,) = [line for line in done.stderr.splitlines() if "Not asked" in line]
    assert f"{SHELTER.agency} (" in told
    assert HELPLINE.agency not in told


@pytest.mark.parametrize("lost", [False, True])
def test_no_roster_is_made_of_one_that_is_older_than_what_this_node_has_used(
    homes: tuple[Path, Path], lost: bool
) -> None:
    cards = [str(home / "card.json") for home in homes]
    assert run(homes[0], "roster", "add", *cards).exit_code == 0
    path = homes[0] / "roster.json"
    database = Database.open(f"sqlite:///{homes[0] / 'node.db'}")
    database.write_sync(lambda conn: remember_roster(conn, UsedRoster(7, "a" * 64)))
    database.close_sync()
    if lost:
        path.unlink()
    refused = run(homes[0], "roster", "add", *cards)
    assert refused.exit_code == 1
    assert "this node has used version 7" in refused.stderr
    assert path.exists() is not lost
    assert run(homes[0], "roster", "add", *cards, "--above", "7").exit_code == 0
    assert parse_roster(path.read_bytes()).version == 8


def test_adherence_that_another_key_signed_is_not_written(homes: tuple[Path, Path], contract: Path) -> None:
    statement = adopted(homes[0], contract)
    forged = json.loads(statement.read_text())
    forged["body"]["agency"] = SHELTER.agency
    path = homes[0] / "forged.json"
    path.write_text(json.dumps(forged, sort_keys=True, separators=(",", ":")))
    cards = [str(home / "card.json") for home in homes]
    refused = run(homes[0], "roster", "add", *cards, str(path))
    assert refused.exit_code == 1
    assert "not signed" in refused.output
    assert not (homes[0] / "roster.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "CANARY", '{"agency": "CANARY"}'])
def test_files_that_are_neither_card_nor_statement(homes: tuple[Path, Path], text: str) -> None:
    path = homes[0] / "other.json"
    path.write_text(text)
    refused = run(homes[0], "roster", "add", str(homes[0] / "card.json"), str(path))
    assert refused.exit_code == 1
    assert "CANARY" not in refused.output
    assert not (homes[0] / "roster.json").exists()


def test_a_contract_that_is_not_on_file_cannot_come_into_force(homes: tuple[Path, Path], contract: Path) -> None:
    statement = adopted(homes[0], contract)
    for path in (homes[1] / "contracts").iterdir():
        path.unlink()
    refused = run(homes[1], "roster", "add", str(homes[0] / "card.json"), str(statement))
    assert refused.exit_code == 1
    assert "Nothing was written" in refused.output


def swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(text: bytes) -> bytes:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + b"\nrules: []\n", id="a repeated key"),
        pytest.param(swapped(b"onward: none", b"onward: everybody"), id="an unknown term"),
        pytest.param(swapped(b"offer: [needs", b"offer: [legal_name, needs"), id="a name in an offer"),
        pytest.param(lambda _: b"", id="an empty file"),
    ],
)
def test_contracts_that_are_not_signed(
    homes: tuple[Path, Path], contract: Path, change: Callable[[bytes], bytes]
) -> None:
    contract.write_bytes(change(contract.read_bytes()))
    refused = run(homes[0], "contract", "adopt", str(contract))
    assert refused.exit_code == 1
    assert "Nothing was signed" in refused.output
    assert not (homes[0] / "adherence").exists()
    assert not list((homes[0] / "contracts").iterdir())


def test_a_production_node_signs_no_draft(tmp_path: Path, contract: Path) -> None:
    home = make(tmp_path, replace(SHELTER, agency="real-shelter"), Environment.PRODUCTION)
    refused = run(home, "contract", "adopt", str(contract))
    assert refused.exit_code == 1
    assert "draft" in refused.output


def test_real_and_synthetic_agencies_never_stand_in_one_roster(tmp_path: Path, homes: tuple[Path, Path]) -> None:
    real = make(tmp_path, replace(SHELTER, agency="real-shelter"), Environment.PRODUCTION)
    refused = run(homes[0], "roster", "add", str(homes[0] / "card.json"), str(real / "card.json"))
    assert refused.exit_code == 1
    assert not (homes[0] / "roster.json").exists()


def test_a_production_node_does_not_start_with_a_synthetic_roster(tmp_path: Path, homes: tuple[Path, Path]) -> None:
    real = make(tmp_path, replace(SHELTER, agency="real-shelter"), Environment.PRODUCTION)
    run(homes[0], "roster", "add", str(homes[0] / "card.json"))
    (real / "roster.json").write_bytes((homes[0] / "roster.json").read_bytes())
    refused = run(real, "serve")
    assert refused.exit_code == 2
    assert "synthetic-roster" in refused.output
    assert "Nothing was started" in refused.output
