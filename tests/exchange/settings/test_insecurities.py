"""A node refuses to start insecure, and says who must do what."""

import os
from pathlib import Path
from typing import Any

import pytest

from exchange.insecurities import Problem, insecurities
from exchange.settings import Environment, Settings

PASSPHRASE = "a long made-up passphrase"
POSTGRES = "postgresql://node@db.example/node"
POSTGRES_KEYS = "postgresql://node@db.example/keys"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EXCHANGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


def problems_of(
    home: Path, *, synthetic: bool = False, variables: dict[str, str] | None = None, **changed: Any
) -> list[Problem]:
    right: dict[str, Any] = {"public_url": "https://node.example", "home": home, "passphrase": PASSPHRASE}
    settings = Settings(**(right | changed))
    return insecurities(settings, roster_is_synthetic=synthetic, variables=variables or {})


def codes(problems: list[Problem]) -> list[str]:
    return [problem.code for problem in problems]


def test_a_well_configured_node_starts(home: Path) -> None:
    assert problems_of(home) == []
    assert problems_of(home, workers=4, database_url=POSTGRES, key_database_url=POSTGRES_KEYS) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"public_url": "http://node.example"}, "plain-http", id="plain-http"),
        pytest.param({"public_url": "http://10.0.0.1:8080"}, "plain-http", id="plain-http-in-a-private-network"),
        pytest.param({"public_url": "http://127.0.0.1.evil.example"}, "plain-http", id="looks-like-loopback"),
        pytest.param({"otlp_endpoint": "http://collector.example"}, "plain-telemetry", id="plain-telemetry"),
        pytest.param({"host": "0.0.0.0"}, "open-listener", id="listens-to-all"),  # noqa: S104 - must be refused
        pytest.param({"host": "::"}, "open-listener", id="listens-to-all-six"),
        pytest.param({"passphrase": None}, "no-passphrase", id="no-passphrase"),
        pytest.param({"passphrase": "short"}, "short-passphrase", id="short-passphrase"),
        pytest.param({"log_level": "debug"}, "debug", id="debug"),
        pytest.param({"synthetic": True}, "synthetic-roster", id="sandbox-roster"),
        pytest.param({"variables": {"AUTHLIB_INSECURE_TRANSPORT": "1"}}, "unsafe-variable", id="authlib-switch"),
        pytest.param({"variables": {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"}}, "unsafe-variable", id="fastapi-switch"),
        pytest.param({"variables": {"PYTHONASYNCIODEBUG": "1"}}, "unsafe-variable", id="asyncio-debug"),
        pytest.param({"variables": {"SSLKEYLOGFILE": "/tmp/k"}}, "unsafe-variable", id="tls-keys"),  # noqa: S108
    ],
)
def test_what_production_refuses_and_a_sandbox_does_not(home: Path, changed: dict[str, Any], code: str) -> None:
    assert codes(problems_of(home, **changed)) == [code]
    assert problems_of(home, environment=Environment.SANDBOX, **changed) == []
    assert problems_of(home, environment=Environment.DEMO, **changed) == []


@pytest.mark.parametrize("environment", list(Environment))
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"workers": 2}, "workers-need-postgresql", id="two-workers-on-sqlite"),
        pytest.param({"workers": 2, "database_url": POSTGRES}, "workers-need-postgresql", id="keys-still-on-sqlite"),
        pytest.param(
            {"database_url": "sqlite:////tmp/x/../a.db", "key_database_url": "sqlite:////tmp/a.db"},
            "one-database",
            id="one-file-in-two-spellings",
        ),
        pytest.param(
            {"database_url": POSTGRES, "key_database_url": "postgresql+psycopg://other:x@DB.example:5432/node"},
            "one-database",
            id="one-database-under-two-users",
        ),
        pytest.param({"home": Path("/nowhere/at/all")}, "no-home", id="no-home"),
    ],
)
def test_what_every_node_refuses(home: Path, environment: Environment, changed: dict[str, Any], code: str) -> None:
    assert codes(problems_of(**{"home": home, "environment": environment} | changed)) == [code]


@pytest.mark.parametrize("mode", [0o701, 0o705, 0o750, 0o755, 0o777])
def test_a_home_others_can_look_into_is_refused(home: Path, mode: int) -> None:
    home.chmod(mode)
    assert codes(problems_of(home)) == ["open-home"]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, []), (0o400, []), (0o440, []), (0o644, ["open-secret"])])
def test_a_secret_file_is_for_its_owner_and_group(tmp_path: Path, home: Path, mode: int, expected: list[str]) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(mode)
    assert codes(problems_of(home, passphrase=None, passphrase_file=secret)) == expected


def test_a_link_to_the_main_database_is_the_main_database(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    changed = {"database_url": f"sqlite:///{tmp_path}/a.db", "key_database_url": f"sqlite:///{tmp_path}/b.db"}
    assert codes(problems_of(home, **changed)) == ["one-database"]


@pytest.mark.parametrize("sign", ["/", "#", "?", "[", "]", "@", "\u2100"])
def test_a_password_may_hold_any_sign(home: Path, sign: str) -> None:
    url = f"postgresql://node:CANARY{sign}CANARY@db.example:5433"
    assert problems_of(home, database_url=f"{url}/node", key_database_url=f"{url}/keys") == []
    assert codes(problems_of(home, database_url=f"{url}/node", key_database_url=f"{url}/node")) == ["one-database"]


@pytest.mark.parametrize("name", ["database_url", "key_database_url"])
@pytest.mark.parametrize("url", ["CANARY", "postgresql://u:p@db.example:CANARY/x", "mysql://u:CANARY@db.example/x"])
def test_an_address_of_no_database_is_named_by_its_setting(home: Path, name: str, url: str) -> None:
    (problem,) = problems_of(home, workers=2, **{name: url})
    assert problem.code == "database-url"
    assert f"EXCHANGE_{name.upper()} " in problem.sentence
    assert "CANARY" not in problem.sentence


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"])
def test_a_real_node_needs_tls_also_on_this_machine_and_a_collector_does_not(home: Path, url: str) -> None:
    assert codes(problems_of(home, public_url=url)) == ["plain-http"]
    assert problems_of(home, public_url=url, environment=Environment.SANDBOX) == []
    assert problems_of(home, otlp_endpoint=url) == []


def test_a_proxy_in_front_may_be_on_another_machine(home: Path) -> None:
    assert problems_of(home, host="0.0.0.0", trusted_proxies="10.0.0.2") == []  # noqa: S104 - behind a named proxy


def test_every_sentence_says_who_must_do_what_and_repeats_no_secret(home: Path) -> None:
    home.chmod(0o755)
    problems = problems_of(
        home,
        synthetic=True,
        public_url="http://node.example",
        passphrase="canary-short",
        workers=2,
        log_level="debug",
        database_url="postgresql://node:canary@db/x",
        key_database_url="postgresql://node:canary@db/x",
        variables={"SSLKEYLOGFILE": "canary"},
    )
    assert len(problems) >= 6
    for problem in problems:
        assert problem.sentence.startswith("The operator must ")
        assert problem.sentence.endswith(".")
        assert "canary" not in problem.sentence
