"""`exchange serve` does not start a node that is insecure or half-made.

Exit code ≠ 0, and a sentence that says who must do what. Each case spoils one thing of a node that would start, and is
a process of its own, forked from one that has loaded the program; the last one is started as an operator starts it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.node_processes import NURSERY, NodeProcesses, node_processes

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.roster import parse_roster, roster_bytes

Variables = dict[str, str]
Spoil = Callable[[Path], Variables]
"""Spoils a home; returns further settings."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcesses]:
    """A node that would start; each case gets a copy of its home."""
    with node_processes(tmp_path_factory.mktemp("refuses") / "nodes", (HELPLINE, SHELTER)) as (helpline, _):
        yield helpline


def _settings(**variables: str) -> Spoil:
    return lambda home: {
        f"EXCHANGE_{name.upper()}": value.replace("{home}", str(home)) for name, value in variables.items()
    }


def _secret(name: str, text: str, mode: int = 0o600) -> Spoil:
    def spoil(home: Path) -> Variables:
        path = home / "secret"
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return {f"EXCHANGE_{name.upper()}_FILE": str(path)}

    return spoil


def _open_key_file(home: Path) -> Variables:
    (home / "node.keys").chmod(0o644)
    return {}


def _open_home(home: Path) -> Variables:
    home.chmod(0o755)
    return {}


def _no_key_file(home: Path) -> Variables:
    (home / "node.keys").unlink()
    return {}


def _keys_of_another(home: Path) -> Variables:
    """The roster does not list this node's key."""
    roster = parse_roster((home / "roster.json").read_bytes())
    others = tuple(member for member in roster.members.values() if member.agency != HELPLINE.agency)
    (home / "roster.json").write_bytes(roster_bytes(version=2, synthetic=True, members=others, contracts=()))
    return {}


def _older_roster(home: Path) -> Variables:
    """The node has used a newer one."""
    with closing(sqlite3.connect(home / "node.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO used_roster (one, version, digest) VALUES (1, 9, 'd')")
    return {}


def _no_roster(home: Path) -> Variables:
    (home / "roster.json").unlink()
    return {}


def _bad_roster(home: Path) -> Variables:
    (home / "roster.json").write_bytes(b'{"members": []}')
    return {}


def _unmigrated(home: Path) -> Variables:
    (home / "node.db").unlink()
    return {}


def _other_version(home: Path) -> Variables:
    with closing(sqlite3.connect(home / "node.db")) as database, database:
        assert database.execute("UPDATE alembic_version SET version_num = 'main_9999'").rowcount == 1
    return {}


def _key_store_of_another(home: Path) -> Variables:
    """As where two nodes share a server, and somebody mixed up their addresses."""
    with closing(sqlite3.connect(home / "keys.db")) as database, database:
        database.execute("DELETE FROM epoch_private")
        database.execute("INSERT INTO referral_key (referral, wrapped, created_at) VALUES ('r', zeroblob(73), 1)")
    return {}


def _a_statement_that_is_none(home: Path) -> Variables:
    (home / "statements").mkdir()
    (home / "statements" / "x.toml").write_text("id = ")
    return {}


PRODUCTION = {"environment": "production", "public_url": "https://node.example.org"}

CASES = [
    pytest.param(_secret("passphrase", "another passphrase altogether"), "passphrase", id="wrong passphrase"),
    pytest.param(_secret("passphrase", "x" * 20, 0o644), "chmod o-rwx", id="passphrase file that others can read"),
    pytest.param(_open_key_file, "mode 600", id="key file that others can read"),
    pytest.param(_open_home, "chmod 700", id="home that others can enter"),
    pytest.param(_no_key_file, "exchange init", id="no key file"),
    pytest.param(_keys_of_another, "exchange roster card", id="roster without this node's key"),
    pytest.param(_older_roster, "newest roster", id="older roster than before"),
    pytest.param(_no_roster, "roster", id="no roster"),
    pytest.param(_bad_roster, "roster", id="roster that is none"),
    pytest.param(_settings(**PRODUCTION), "roster", id="production with a synthetic roster"),
    pytest.param(
        _settings(environment="production", public_url="http://node.example.org"), "TLS", id="http in production"
    ),
    pytest.param(_a_statement_that_is_none, "statements", id="consent statement that is none"),
    pytest.param(_unmigrated, "migrate", id="database that is not migrated"),
    pytest.param(_other_version, "version", id="database of another version"),
    pytest.param(
        _settings(key_database_url="sqlite:///{home}/node.db"), "EXCHANGE_KEY_DATABASE_URL", id="one database twice"
    ),
    pytest.param(_key_store_of_another, "EXCHANGE_KEY_DATABASE_URL", id="key store of another node"),
    pytest.param(_settings(workers="2"), "PostgreSQL", id="two workers on SQLite"),
    pytest.param(_settings(database_url="mysql://x"), "database", id="database of another kind"),
]


@pytest.mark.parametrize(("spoil", "word"), CASES)
def test_says_who_must_do_what(node: NodeProcesses, tmp_path: Path, spoil: Spoil, word: str) -> None:
    home, variables = _spoiled(node, tmp_path, spoil)
    log = tmp_path / "log"
    code = NURSERY.wait(NURSERY.start(["exchange", "serve"], variables, log))
    _refused(code, log.read_text("utf-8"), word, home)


@pytest.mark.parametrize("name", ["node.db", "keys.db"])
def test_a_damaged_file_is_no_reason_to_start_again(node: NodeProcesses, tmp_path: Path, name: str) -> None:
    """systemd would start it every five seconds for ever; after exit code 2 somebody has to look."""

    def damage(home: Path) -> Variables:
        os.truncate(home / name, 5000)
        (home / f"{name}-wal").unlink(missing_ok=True)
        return {}

    home, variables = _spoiled(node, tmp_path, damage)
    log = tmp_path / "log"
    code = NURSERY.wait(NURSERY.start(["exchange", "serve"], variables, log))
    _refused(code, log.read_text("utf-8"), "When a database file is damaged", home)
    assert code == 2


def test_started_as_an_operator_starts_it(node: NodeProcesses, tmp_path: Path) -> None:
    home, variables = _spoiled(node, tmp_path, _keys_of_another)
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import main; main()", "serve"],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    _refused(done.returncode, done.stdout + done.stderr, "exchange roster card", home)


def _spoiled(node: NodeProcesses, tmp_path: Path, spoil: Spoil) -> tuple[Path, Variables]:
    """A copy of the node's home with one thing spoiled, and its settings."""
    home = tmp_path / "home"
    shutil.copytree(node.home, home)
    home.chmod(0o700)
    variables = node.environment() | {
        "EXCHANGE_HOME": str(home),
        "EXCHANGE_DATABASE_URL": f"sqlite:///{home / 'node.db'}",
        "EXCHANGE_KEY_DATABASE_URL": f"sqlite:///{home / 'keys.db'}",
        "EXCHANGE_PORT": str(_free_port()),
        "COLUMNS": "400",
    }
    spoiled = spoil(home)
    config = home / "exchange.toml"
    # The copy lies elsewhere than the file says.
    kept = [line for line in config.read_text("utf-8").splitlines() if not line.startswith("home ")]
    config.write_text("\n".join(kept) + "\n", "utf-8")
    return home, variables | spoiled


def _refused(code: int, output: str, word: str, home: Path) -> None:
    told = " ".join(output.split())  # lines are broken where the terminal ends
    assert code != 0, told
    assert word in told, told
    assert "operator must" in told.lower(), told
    assert "Traceback" not in told, told
    assert "another passphrase" not in told
    assert not _still_running(home)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _still_running(home: Path) -> list[str]:
    """Processes whose environment names this home."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(home).encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found
