"""`exchange doctor`: each thing that can be wrong is found and comes with what to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sqlite3
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.bare_server import CLOSE, BareServer, bare_server
from support.homes import copied_home

from consent import statements
from exchange.cli import examining_peers
from exchange.cli.doctor import examine, tell
from exchange.cli.examination import Federation, Finding, Level, look_at_contracts, read_federation
from exchange.cli.examining_peers import look_at_network
from exchange.cli.founding import register_client
from exchange.client import ClientKey
from exchange.demo.federation import HELPLINE, SHELTER, make_nodes
from exchange.envelope.epochs import published_weeks, state_epoch
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.envelope.keys import AgencyKey, EpochKey, StorageKey
from exchange.envelope.wire import to_base64url
from exchange.federation.transport import MOST_ANSWER_BYTES
from exchange.oauth.scopes import CLIENT_SCOPES
from exchange.roster import parse_roster, roster_bytes
from exchange.schemas.node import EpochKeyView
from exchange.settings import Environment, Settings, load_settings
from exchange.storage.access import revoke_client
from exchange.storage.database import Database
from exchange.storage.epochs import StoredEpoch, publish_epochs
from exchange.storage.key_store import EpochPrivate, KeyStore

NOW = datetime.now(UTC)
_NOBODY = 65534


@dataclass(frozen=True)
class Made:
    """The home of a node that is linked with another, and does not run."""

    home: Path
    passphrase: str
    peer_key: AgencyKey

    def settings(self, **arguments: Any) -> Settings:
        return load_settings(home=self.home, **arguments)

    def findings(self, **arguments: Any) -> list[Finding]:
        return examine(self.settings(**arguments), self.passphrase, offline=True)

    def storage_key(self) -> StorageKey:
        key = open_keys(read_key_file(self.home / "node.keys"), self.passphrase.encode()).storage
        assert key is not None
        return key

    def federation(self) -> Federation:
        found = read_federation(self.settings())
        assert isinstance(found, Federation)
        return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Made once for all tests."""
    (shelter, helpline), _ = make_nodes(tmp_path_factory.mktemp("template"), (SHELTER, HELPLINE), Environment.SANDBOX)
    keys = open_keys(read_key_file(helpline.home / "node.keys"), helpline.passphrase.encode())
    assert keys.agency is not None
    return Made(shelter.home, shelter.passphrase, keys.agency)


@pytest.fixture
def made(tmp_path: Path, template: Made) -> Made:
    return replace(template, home=copied_home(template.home, tmp_path / "node"))


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.BAD]


def test_nothing_is_bad_in_a_new_node(made: Made) -> None:
    assert bad(made.findings()) == []


def _other_roster_key(made: Made) -> None:
    roster = json.loads((made.home / "roster.json").read_text())
    own = next(member for member in roster["members"] if member["agency"] == SHELTER.agency)
    own["node_key"] = to_base64url(bytes(range(32)))
    (made.home / "roster.json").write_text(json.dumps(roster))


def _older_roster_than_was_used(made: Made) -> None:
    with closing(sqlite3.connect(made.home / "node.db")) as database, database:
        database.execute("INSERT INTO used_roster (one, version, digest) VALUES (1, 9, 'd')")


def _a_statement_that_is_none(made: Made) -> None:
    (made.home / "statements").mkdir()
    (made.home / "statements" / "x.toml").write_text("id = ")


def _anothers_key_store(made: Made) -> None:
    with closing(sqlite3.connect(made.home / "keys.db")) as database, database:
        database.execute("INSERT INTO referral_key (referral, wrapped, created_at) VALUES ('r', zeroblob(73), 1)")


def _a_client_of_somebody_elses(made: Made) -> None:
    with closing(sqlite3.connect(made.home / "node.db")) as database, database:
        database.execute(
            "INSERT INTO oauth_client (client_id, jwks, scopes, status, created_at) VALUES ('x', '{}', '', 'active', 1)"
        )


def _a_new_key_store(made: Made) -> None:
    with closing(sqlite3.connect(made.home / "node.db")) as database, database:
        later = round((NOW + timedelta(days=7)).timestamp() * 1000)
        database.execute(
            "INSERT INTO own_epoch (key_id, seq, not_before, not_after, statement) VALUES ('k', 1, 1, ?, zeroblob(9))",
            (later,),
        )


def _a_backup_from_before_keys_were_revoked(made: Made) -> None:
    """The week's key is published, as it was then, and the key store, which was kept, knows better."""
    week, key = published_weeks(int(NOW.timestamp() * 1000))[0], EpochKey(b"\x07" * 32)
    private = EpochPrivate(key, week.not_before, week.not_after, week.not_after)
    row = StoredEpoch(key.key_id, 1, week.not_before, week.not_after, b"\x00")
    settings = made.settings()
    key_database = Database.open(settings.key_database_url.get_secret_value())
    database = Database.open(settings.database_url.get_secret_value())

    async def harm() -> None:
        store = KeyStore(key_database, made.storage_key().row_key())
        await store.put_epochs([private])
        await database.write(lambda conn: publish_epochs(conn, [row]))
        assert bad(made.findings()) == []
        await store.retire_epochs([key.key_id])
        await database.close()
        await key_database.close()

    asyncio.run(harm())


def _suspend(made: Made) -> None:
    roster = json.loads((made.home / "roster.json").read_text())
    for member in roster["members"]:
        member["status"] = "suspended"
    (made.home / "roster.json").write_text(json.dumps(roster))


@pytest.mark.parametrize(
    ("harm", "subject", "advice"),
    [
        pytest.param(lambda made: (made.home / "roster.json").unlink(), "roster", "Install", id="no roster"),
        pytest.param(
            lambda made: (made.home / "roster.json").write_text("{}"), "roster", "again", id="a damaged roster"
        ),
        pytest.param(lambda made: (made.home / "card.json").unlink(), "roster", "init", id="no card"),
        pytest.param(lambda made: (made.home / "node.keys").unlink(), "keys", "Restore", id="no key file"),
        pytest.param(lambda made: (made.home / "node.keys").chmod(0o644), "keys", "chmod", id="keys others can read"),
        pytest.param(lambda made: made.home.chmod(0o755), "configuration", "chmod 700", id="a home others can enter"),
        pytest.param(lambda made: (made.home / "keys.db").unlink(), "databases", "migrate", id="no key store"),
        pytest.param(lambda made: (made.home / "node.db").unlink(), "databases", "lost disk", id="no database"),
        pytest.param(
            _a_new_key_store, "weekly keys", "exchange keys revoke", id="a new key store beside an old database"
        ),
        pytest.param(
            _a_backup_from_before_keys_were_revoked,
            "weekly keys",
            "exchange keys revoke",
            id="a backup from before a revocation",
        ),
        pytest.param(_other_roster_key, "keys", "at once", id="another key in the roster"),
        pytest.param(_anothers_key_store, "keys", "EXCHANGE_KEY_DATABASE_URL", id="another node's key store"),
        pytest.param(_a_client_of_somebody_elses, "clients", "exchange client revoke x", id="a client of nobody's"),
        pytest.param(_suspend, "roster", "office", id="suspended"),
        pytest.param(_older_roster_than_was_used, "roster", "newest", id="an older roster than before"),
        pytest.param(
            lambda made: [path.unlink() for path in (made.home / "contracts").iterdir()],
            "contract",
            "Put it into",
            id="a contract in force that is not on file",
        ),
        pytest.param(_a_statement_that_is_none, "consent statements", "Mend or remove", id="a damaged statement"),
        pytest.param(
            lambda made: (made.home / "contracts" / "x.yaml").write_text("rules: ["), "contract", "check", id="damaged"
        ),
    ],
)
def test_what_is_wrong_is_found(made: Made, harm: Callable[[Made], object], subject: str, advice: str) -> None:
    harm(made)
    found = bad(made.findings())
    assert any(finding.subject == subject and advice in finding.what_to_do for finding in found), found
    assert all(finding.what_to_do for finding in found)


def test_looking_for_a_lost_database_makes_none(made: Made) -> None:
    """A running node would take an empty one for its own, and an empty one is soon migrated."""
    for name in ("node.db", "keys.db"):
        (made.home / name).unlink()
    said = [finding for finding in bad(made.findings()) if finding.subject == "databases"]
    assert "Restore it from its backup" in said[0].sentence
    assert list(made.home.glob("*.db*")) == []


@pytest.mark.parametrize("name", ["database_url", "key_database_url"])
@pytest.mark.parametrize(
    ("url", "advice"),
    [
        pytest.param(
            "CANARY", "Mend the address in EXCHANGE_{}, or in the file that EXCHANGE_{}_FILE", id="no address"
        ),
        pytest.param("sqlite:///{home}/missing/x.db", "Make its folder", id="no folder"),
        pytest.param("sqlite:///{home}/empty.db", "exchange migrate", id="old"),
        pytest.param("sqlite:///{home}/other.db", "database of its own in EXCHANGE_{}", id="something else's"),
        pytest.param("sqlite:///{home}/card.json", "Look at the disk", id="damaged"),
        pytest.param("postgresql://u:CANARY@127.0.0.1:1/x", "Start the database server", id="no server"),
    ],
)
def test_each_cause_of_a_bad_database_has_its_advice(made: Made, name: str, url: str, advice: str) -> None:
    with closing(sqlite3.connect(made.home / "other.db")) as other:
        other.execute("CREATE TABLE something (x)")
    found = bad(made.findings(**{name: url.format(home=made.home)}))
    (said,) = [finding for finding in found if finding.subject == "databases"]
    assert advice.replace("{}", name.upper()) in said.what_to_do
    assert "CANARY" not in said.sentence + said.what_to_do


@pytest.mark.parametrize(
    ("name", "table"), [("node.db", "referral"), ("node.db", "used_roster"), ("keys.db", "epoch_private")]
)
def test_damage_that_nobody_has_met_yet_is_found(made: Made, name: str, table: str) -> None:
    """The node goes on until somebody asks for that page, and older backups are let go meanwhile."""
    with closing(sqlite3.connect(made.home / name)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = database.execute("PRAGMA page_size").fetchone()[0]
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with (made.home / name).open("r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(b"\xa5" * size)
    (said,) = bad(made.findings())
    assert said.subject == "databases"
    assert "The database file is damaged" in said.sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="Giving files to another user needs root.")
@pytest.mark.parametrize("name", ["keys.db", "node.keys", "contracts", "exchange.toml"])
def test_what_root_left_in_the_home_is_found_by_root_too(made: Made, name: str) -> None:
    """Root may use everything, so no other look of its own finds what the node's user cannot use."""
    for path in (made.home, *made.home.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    assert bad(made.findings()) == []
    os.chown(made.home / name, 0, 0)
    (made.home / name).chmod(0o700)
    (said,) = bad(made.findings())
    assert said.subject == "files"
    assert f"{made.home / name} is not open" in said.sentence
    assert f"chown --reference={made.home} {made.home / name}" in said.what_to_do


@pytest.mark.parametrize("name", ["node.db", "node.db-served"])
def test_a_database_that_may_not_be_written_is_found(made: Made, name: str) -> None:
    """Nor what lies beside it, without which the node does not start."""
    (made.home / name).touch()
    (made.home / name).chmod(0o400)
    (said,) = bad(made.findings())
    assert (said.subject, "chmod u+rwX" in said.what_to_do) == ("files", True)


def test_a_contract_that_cannot_be_read_hides_nothing_else(made: Made) -> None:
    (made.home / "contracts" / "folder.yaml").mkdir()
    (made.home / "contracts" / "x.yaml").write_text("rules: [")
    sentences = [finding.sentence for finding in bad(made.findings())]
    assert "folder.yaml cannot be read." in sentences
    assert "x.yaml: 1 problem(s)." in sentences


def test_exchanged_databases_are_found(made: Made) -> None:
    main, keys = (f"sqlite:///{made.home}/{name}" for name in ("keys.db", "node.db"))
    found = bad(made.findings(database_url=main, key_database_url=keys))
    assert sum("exchanged" in finding.what_to_do for finding in found if finding.subject == "databases") == 2


def test_a_misspelt_variable_is_found_and_its_value_not_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXCHANGE_DATABSE_URL", "EXCHANGE_ZZZZ", "EXCHANGE_ACTOR", "EXCHANGE_LOG_LEVEL"):
        monkeypatch.setenv(name, "CANARY")
    found = [finding for finding in made.findings(log_level="info") if "environment and is no" in finding.sentence]
    assert [(finding.level, finding.sentence.split()[0]) for finding in found] == [
        (Level.WARN, "EXCHANGE_DATABSE_URL"),
        (Level.WARN, "EXCHANGE_ZZZZ"),
    ]
    assert "EXCHANGE_DATABASE_URL?" in found[0].what_to_do
    assert "CANARY" not in str(found)


def _about_statements(made: Made, environment: Environment) -> tuple[Level, str]:
    found = [one for one in made.findings(environment=environment) if one.subject == "consent statements"]
    return found[0].level, found[0].sentence + found[0].what_to_do


def test_a_production_node_without_reviewed_statements_is_told_where_to_put_them(made: Made) -> None:
    assert _about_statements(made, Environment.SANDBOX) == (Level.OK, "0 reviewed, 6 drafts")
    level, told = _about_statements(made, Environment.PRODUCTION)
    assert level is Level.WARN
    assert str(made.home / "statements") in told

    shipped = Path(statements.__file__).parent / "en" / "adult-consent.toml"
    lines = 'status = "reviewed"\nreviewed_by = "Legal aid of Sunrise"\nreviewed_on = 2027-01-15'
    (made.home / "statements").mkdir()
    (made.home / "statements" / "ours.toml").write_text(
        shipped.read_text("utf-8").replace('status = "draft-needs-local-review"', lines), "utf-8"
    )
    assert _about_statements(made, Environment.PRODUCTION) == (Level.OK, "1 reviewed, 5 drafts")


@pytest.mark.parametrize(
    ("same_key", "level", "sentence"),
    [
        pytest.param(False, Level.WARN, "each is let in by its own key", id="another key"),
        pytest.param(True, Level.BAD, "neither is let in", id="the member's key"),
    ],
)
def test_a_member_that_joined_under_the_id_of_a_client_is_found(
    made: Made, same_key: bool, level: Level, sentence: str
) -> None:
    node_key = made.federation().roster.members[HELPLINE.agency].node_key
    jwk = ClientKey(bytes(32)).public_jwk() | ({"x": to_base64url(node_key)} if same_key else {})
    url = made.settings().database_url.get_secret_value()
    register_client(url, made.storage_key(), HELPLINE.agency, jwk, CLIENT_SCOPES, None)
    (found,) = [finding for finding in made.findings() if finding.subject == "clients"]
    assert (found.level, sentence in found.sentence) == (level, True)
    assert f"exchange client revoke {HELPLINE.agency}" in found.what_to_do
    database = Database.open(url)
    database.write_sync(lambda conn: revoke_client(conn, HELPLINE.agency))
    database.close_sync()
    assert [finding for finding in made.findings() if finding.subject == "clients"] == []


def test_a_wrong_passphrase_is_found(made: Made) -> None:
    assert any(
        finding.subject == "keys" for finding in bad(examine(made.settings(), "another passphrase", offline=True))
    )


@pytest.mark.parametrize(
    ("at", "level"),
    [
        pytest.param(datetime(2027, 12, 1, tzinfo=UTC), Level.WARN, id="soon over"),
        pytest.param(datetime(2027, 6, 1, tzinfo=UTC), Level.WARN, id="soon to be reviewed"),
        pytest.param(datetime(2028, 1, 1, tzinfo=UTC), Level.BAD, id="over"),
    ],
)
def test_the_end_of_a_contract_is_seen_coming(made: Made, at: datetime, level: Level) -> None:
    findings = list(look_at_contracts(made.settings(), made.federation(), at))
    assert any(finding.level is level and finding.what_to_do for finding in findings)


def own_card(made: Made) -> dict[str, Any]:
    """What this node itself shows; no weekly keys."""
    own = made.federation().own
    keys = {"agency_key": to_base64url(own.agency_key), "node_key": to_base64url(own.node_key)}
    return card(made, epochs=[], agency=own.agency, **keys)


def card(made: Made, weeks: int = 6, **members: Any) -> dict[str, Any]:
    roster = made.federation().roster
    peer = roster.members[HELPLINE.agency]
    epochs = []
    for seq, week in enumerate(published_weeks(int(NOW.timestamp() * 1000))[:weeks], start=1):
        key = EpochKey(bytes([seq]) * 32)
        signed = state_epoch(key, week, agency=HELPLINE.agency, seq=seq, sign=made.peer_key.sign)
        epochs.append(
            {
                "key_id": key.key_id,
                "key": to_base64url(key.public),
                "seq": seq,
                "not_before": NOW.isoformat(),
                "not_after": NOW.isoformat(),
                "statement": to_base64url(signed.to_bytes()),
            }
        )
    return {
        "agency": HELPLINE.agency,
        "kind": "helpline",
        "software": "referral-exchange",
        "suites": ["s"],
        "vocabularies": [1],
        "agency_key": to_base64url(peer.agency_key),
        "node_key": to_base64url(peer.node_key),
        "epochs": epochs,
        "contracts": [],
        "roster_version": roster.version,
        "roster_digest": roster.digest,
        "synthetic": True,
    } | members


async def ask(made: Made, body: object, *, skew: timedelta = timedelta()) -> list[Finding]:
    """What doctor says when the peer answers so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/health/ready":
            raise httpx2.ConnectError("down")
        if isinstance(body, Exception):
            raise body
        headers = {"date": format_datetime(NOW + skew, usegmt=True)}
        return httpx2.Response(200, content=json.dumps(body), headers=headers)

    transport = httpx2.MockTransport(answer)
    return await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)


async def test_a_good_peer(made: Made) -> None:
    findings = await ask(made, card(made))
    assert [finding.level for finding in findings] == [Level.WARN, Level.OK, Level.OK]


def _older(made: Made) -> dict[str, Any]:
    """What the peer says that does not have yet what is the roster here from now on."""
    before = card(made)
    path = made.settings().roster_path
    roster = parse_roster(path.read_bytes())
    members, contracts = tuple(roster.members.values()), roster.contracts
    path.write_bytes(roster_bytes(version=roster.version + 1, synthetic=True, members=members, contracts=contracts))
    return before


@pytest.mark.parametrize(
    ("body", "level", "sentence"),
    [
        pytest.param(lambda _: httpx2.ConnectError("down"), Level.WARN, "not reachable", id="away"),
        pytest.param(lambda _: {"hello": "world"}, Level.BAD, "no node card", id="something else"),
        pytest.param(lambda made: card(made, agency="someone-else"), Level.BAD, "other keys", id="another agency"),
        pytest.param(
            lambda made: card(made, agency_key=to_base64url(bytes(range(32)))),
            Level.BAD,
            "other keys",
            id="another key",
        ),
        pytest.param(
            lambda made: card(made, node_key=to_base64url(bytes(range(32)))),
            Level.BAD,
            "other keys",
            id="another node key",
        ),
        pytest.param(lambda made: card(made, roster_version=9), Level.WARN, "newer roster, version 9", id="newer"),
        pytest.param(lambda made: card(made, roster_digest="a" * 64), Level.BAD, "of the same version", id="other"),
        pytest.param(_older, Level.WARN, "older roster, version 1", id="older"),
        pytest.param(lambda made: card(made, epochs=[]), Level.BAD, "no current key", id="no keys"),
        pytest.param(lambda made: card(made, weeks=2), Level.WARN, "few keys", id="few keys ahead"),
    ],
)
async def test_peers_that_are_not_well(made: Made, body: Callable[[Made], object], level: Level, sentence: str) -> None:
    findings = await ask(made, body(made))
    assert any(finding.level is level and sentence in finding.sentence for finding in findings)


def test_a_node_that_listens_on_ipv6_is_asked(made: Made) -> None:
    """Its address needs brackets: without them doctor ended with a traceback."""
    said = examine(made.settings(host="::1", port=1), made.passphrase, offline=False)
    assert "This node is not running." in [finding.sentence for finding in said]


def _federation_with(made: Made, url: str) -> Federation:
    """The federation whose other member is at this address."""
    federation = made.federation()
    peer = federation.roster.members[HELPLINE.agency].model_copy(update={"node_url": url})
    members = {**federation.roster.members, HELPLINE.agency: peer}
    return replace(federation, roster=replace(federation.roster, members=members))


def _answer(body: bytes, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""]).encode() + body


async def _told_of_peer(made: Made, answer: bytes) -> tuple[list[Finding], BareServer]:
    async with bare_server([answer]) as server:
        said = await look_at_network(_federation_with(made, server.url), "http://127.0.0.1:1", now_s=NOW.timestamp)
    return said, server


async def test_a_peer_is_asked_for_nothing_packed_and_a_card_of_any_allowed_size_is_read(made: Made) -> None:
    body = json.dumps(card(made)).encode().ljust(MOST_ANSWER_BYTES)
    said, server = await _told_of_peer(made, _answer(body))
    assert [finding.level for finding in said if finding.subject == f"peer {HELPLINE.agency}"] == [Level.OK]
    (asked,) = server.asked
    assert b"accept-encoding: identity\r\n" in asked.lower()


@pytest.mark.parametrize("how", ["packed", "large", "large without a length"])
async def test_a_packed_or_oversized_card_is_none(made: Made, how: str) -> None:
    """Unpacked it could fill the memory of this machine, on which the node runs."""
    body = json.dumps(card(made)).encode()
    large = body.ljust(MOST_ANSWER_BYTES + 1)
    answers = {
        "packed": _answer(gzip.compress(body), "content-encoding: gzip"),
        "large": _answer(large),
        "large without a length": b"HTTP/1.1 200 OK\r\n\r\n" + large + CLOSE,
    }
    said, _ = await _told_of_peer(made, answers[how])
    (found,) = [finding for finding in said if finding.subject == f"peer {HELPLINE.agency}"]
    assert (found.level, found.sentence) == (Level.BAD, "answers with something that is no node card.")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"])
async def test_a_peer_whose_answer_trickles_is_away(made: Made, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """Each piece came in time, and the whole never."""
    monkeypatch.setattr(examining_peers, "PATIENCE_S", 0.2)
    piece, ended = b"1\r\n \r\n" if head else b"HTTP/1.1 103 Early Hints\r\n\r\n", asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while not reader.at_eof():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        federation = _federation_with(made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        said = await look_at_network(federation, "http://127.0.0.1:1", now_s=NOW.timestamp)
        await ended.wait()
    (found,) = [finding for finding in said if finding.subject == f"peer {HELPLINE.agency}"]
    assert (found.level, found.sentence) == (Level.WARN, "is not reachable.")


@pytest.mark.parametrize(
    "date",
    [
        pytest.param(f"Mon, 30 Nov 2026 10:00:00 +{'9' * 30}", id="an offset of many digits"),
        pytest.param(f"Mon, 30 Nov {'9' * 30} 10:00:00 GMT", id="a year of many digits"),
        pytest.param(f"Mon, 30 Nov 2026 10:00:00 +{'9' * 5000}", id="more digits than are converted"),
        pytest.param("Mon, 01 Jan 0001 00:00:00 -0000", id="before all time"),
        pytest.param("", id="nothing"),
        pytest.param("now", id="no time"),
    ],
)
async def test_a_peers_date_that_is_no_time_says_nothing_of_the_clock(made: Made, date: str) -> None:
    said, _ = await _told_of_peer(made, _answer(json.dumps(card(made)).encode(), f"date: {date}"))
    assert [finding.level for finding in said if finding.subject == f"peer {HELPLINE.agency}"] == [Level.OK]
    (clock,) = [finding for finding in said if finding.subject == "clock"]
    assert clock.level is not Level.OK


@pytest.mark.parametrize(
    ("checks", "sentence", "advice"),
    [
        pytest.param({"database": "full", "roster": "ok"}, "database is full", "Make room", id="full"),
        pytest.param({"database": "damaged"}, "database is damaged", "When a database file", id="damaged"),
        pytest.param({"key-store": "unavailable"}, "key-store is unavailable", "log", id="gone"),
        pytest.param({"roster": "not-a-member"}, "roster is not-a-member", "office", id="not listed"),
        pytest.param({"roster": "other-node-key"}, "roster is other-node-key", "key file", id="other node key"),
        pytest.param({"roster": "other-agency-key"}, "roster is other-agency-key", "card", id="other agency key"),
        pytest.param({}, "not ready.", "log", id="no word"),
    ],
)
async def test_what_a_node_that_is_not_ready_lacks_is_told(
    made: Made, checks: dict[str, str], sentence: str, advice: str
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port != 1:
            raise httpx2.ConnectError("away")
        return httpx2.Response(503, json={"status": "not-ready", "checks": checks})

    transport = httpx2.MockTransport(answer)
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    (found,) = bad(said)
    assert sentence in found.sentence
    assert advice in found.what_to_do


async def test_another_program_at_the_nodes_port_is_not_taken_for_the_node(made: Made) -> None:
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(404, text="no such file"))
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    found = next(finding for finding in said if finding.subject == "node")
    assert (found.level, found.sentence) == (Level.BAD, "Something else answers at http://127.0.0.1:1.")
    assert "EXCHANGE_PORT" in found.what_to_do


_NOT_OURS = [
    pytest.param(200, card, "answers for another agency", id="another agency"),
    pytest.param(
        200,
        lambda made: own_card(made) | {"node_key": to_base64url(bytes(range(32)))},
        "other keys than the roster lists",
        id="another node key",
    ),
    pytest.param(
        200,
        lambda made: own_card(made) | {"agency_key": to_base64url(bytes(range(32)))},
        "other keys than the roster lists",
        id="another agency key",
    ),
    pytest.param(200, lambda _made: {"hello": "world"}, "no node card", id="something else"),
    pytest.param(404, lambda _made: {}, "(404)", id="not found"),
    pytest.param(502, lambda _made: {}, "(502)", id="a proxy that reaches nobody"),
]


@pytest.mark.parametrize(("status", "body", "sentence"), _NOT_OURS)
async def test_another_node_at_the_nodes_port_is_not_taken_for_this_one(
    made: Made, status: int, body: Callable[[Made], object], sentence: str
) -> None:
    """It is ready, for its own agency: this node was not even started."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port != 1:
            raise httpx2.ConnectError("away")
        if request.url.path == "/health/ready":
            return httpx2.Response(200, json={"status": "ready", "checks": {"clock": "ok"}})
        return httpx2.Response(status, json=body(made))

    transport = httpx2.MockTransport(answer)
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    (found,) = [finding for finding in said if finding.subject in {"node", "weekly keys"}]
    assert (found.level, sentence in found.sentence) == (Level.BAD, True)
    assert found.what_to_do


async def test_a_node_of_another_agency_that_is_not_ready_is_not_taken_for_this_one(made: Made) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port != 1:
            raise httpx2.ConnectError("away")
        if request.url.path == "/health/ready":
            return httpx2.Response(503, json={"status": "not-ready", "checks": {"database": "full"}})
        return httpx2.Response(200, json=card(made))

    transport = httpx2.MockTransport(answer)
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    (found,) = bad(said)
    assert "another agency" in found.sentence


async def _told_of_address(made: Made, status: int, body: object) -> list[Finding]:
    """What doctor says of this node's public address, when it answers so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host != "node.example":
            raise httpx2.ConnectError("away")
        return httpx2.Response(status, json=body)

    federation = made.federation()
    federation = replace(federation, own=federation.own.model_copy(update={"node_url": "https://node.example"}))
    transport = httpx2.MockTransport(answer)
    said = await look_at_network(federation, "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    return [finding for finding in said if finding.subject == "address"]


async def test_a_public_address_that_leads_to_this_node(made: Made) -> None:
    assert [finding.level for finding in await _told_of_address(made, 200, own_card(made))] == [Level.OK]


@pytest.mark.parametrize(("status", "body", "sentence"), _NOT_OURS)
async def test_a_public_address_that_does_not_lead_to_this_node_is_told(
    made: Made, status: int, body: Callable[[Made], object], sentence: str
) -> None:
    """Its certificate is good, and nobody reaches the node."""
    (found,) = await _told_of_address(made, status, body(made))
    # While the node is off a proxy in front says so, and nothing is wrong.
    assert found.level is (Level.WARN if status >= 500 else Level.BAD)
    assert sentence in found.sentence
    assert "https://node.example" in found.sentence
    assert "proxy" in found.what_to_do


@pytest.mark.parametrize("word", ["ok", "jumped"])
async def test_a_clock_that_jumped_is_told_where_the_node_is_ready(made: Made, word: str) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port != 1:
            raise httpx2.ConnectError("away")
        if request.url.path != "/health/ready":
            return httpx2.Response(200, json=own_card(made))
        return httpx2.Response(200, json={"status": "ready", "checks": {"clock": word}})

    transport = httpx2.MockTransport(answer)
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    assert any("confirm-clock" in finding.what_to_do for finding in said) is (word == "jumped")


async def test_a_certificate_that_is_refused_is_told_at_both_ends(made: Made) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port == 1:
            raise httpx2.ConnectError("down")
        refused = ssl.SSLCertVerificationError()
        refused.verify_message = "certificate has expired"
        raise httpx2.ConnectError("handshake") from refused

    federation = made.federation()
    federation = replace(federation, own=federation.own.model_copy(update={"node_url": "https://node.example"}))
    transport = httpx2.MockTransport(answer)
    said = await look_at_network(federation, "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    told = {finding.subject: finding for finding in said if "certificate has expired" in finding.sentence}
    assert told["certificate"].level is Level.BAD
    assert "Renew" in told["certificate"].what_to_do
    assert told[f"peer {HELPLINE.agency}"].level is Level.WARN


async def test_a_peer_behind_a_proxy_that_cannot_answer_is_away(made: Made) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(502))
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    (found,) = [finding for finding in said if finding.subject == f"peer {HELPLINE.agency}"]
    assert (found.level, found.sentence) == (Level.WARN, "cannot answer now (502).")


async def test_keys_that_the_peer_did_not_sign(made: Made) -> None:
    forged = card(made)
    other = AgencyKey(bytes(range(32)))
    week = published_weeks(int(NOW.timestamp() * 1000))[0]
    key = EpochKey(b"\x07" * 32)
    statement = state_epoch(key, week, agency=HELPLINE.agency, seq=1, sign=other.sign)
    forged["epochs"][0]["statement"] = to_base64url(statement.to_bytes())
    assert any("did not sign" in finding.sentence for finding in bad(await ask(made, forged)))


@pytest.mark.parametrize(
    ("from_week", "to_week", "level"),
    [
        pytest.param(0, 6, Level.OK, id="enough"),
        pytest.param(0, 2, Level.WARN, id="few"),
        pytest.param(1, 6, Level.BAD, id="none-for-this-week"),
        pytest.param(0, 0, Level.BAD, id="none"),
    ],
)
async def test_the_agencys_own_weekly_keys(made: Made, from_week: int, to_week: int, level: Level) -> None:
    own = own_card(made)
    own["epochs"] = [
        EpochKeyView(
            key_id="a" * 32,
            key="",
            seq=1,
            not_before=datetime.fromtimestamp(week.not_before / 1000, UTC),
            not_after=datetime.fromtimestamp(week.not_after / 1000, UTC),
            statement="",
        ).model_dump(mode="json")
        for week in published_weeks(int(NOW.timestamp() * 1000))[from_week:to_week]
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.port != 1:
            raise httpx2.ConnectError("away")
        return httpx2.Response(200, json=own)

    transport = httpx2.MockTransport(answer)
    said = await look_at_network(made.federation(), "http://127.0.0.1:1", transport=transport, now_s=NOW.timestamp)
    assert [finding.level for finding in said if finding.subject == "weekly keys"] == [level]


@pytest.mark.parametrize(
    ("skew", "level"),
    [
        pytest.param(timedelta(seconds=60), Level.OK, id="a minute"),
        pytest.param(timedelta(minutes=-3), Level.BAD, id="three minutes behind"),
        pytest.param(timedelta(hours=8), Level.BAD, id="a wrong time zone"),
    ],
)
async def test_the_clock(made: Made, skew: timedelta, level: Level) -> None:
    findings = [finding for finding in await ask(made, card(made), skew=skew) if finding.subject == "clock"]
    assert [finding.level for finding in findings] == [level]


def test_every_finding_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell([Finding(Level.BAD, "keys", "[bold]not markup[/bold]", "Do this.")])
    said = capsys.readouterr().out
    assert "[bold]not markup[/bold]" in said
    assert "Do this." in said
