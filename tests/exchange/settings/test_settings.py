"""Settings: where they come from, what they refuse, and that no value is repeated."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exchange.settings import SECRETS, Environment, Settings, SettingsError, load_settings

URL = "https://node.shelter.example"
CANARY = "canary-7f3a-passphrase"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("EXCHANGE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXCHANGE_HOME", str(tmp_path))


def write_config(home: Path, text: str) -> None:
    (home / "exchange.toml").write_text(text)


def test_a_node_is_a_production_node_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load_settings(public_url=URL)
    assert settings.environment is Environment.PRODUCTION
    assert settings.otlp_endpoint is None
    assert settings.host == "127.0.0.1"
    assert settings.database_url.get_secret_value() == f"sqlite:///{tmp_path}/node.db"
    assert settings.key_database_url.get_secret_value() == f"sqlite:///{tmp_path}/keys.db"
    assert (settings.roster_path, settings.contracts_dir) == (tmp_path / "roster.json", tmp_path / "contracts")


def test_arguments_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path, f'public_url = "{URL}"\nport = 1001\nhost = "10.0.0.1"\nworkers = 2\n')
    monkeypatch.setenv("EXCHANGE_PORT", "1002")
    monkeypatch.setenv("EXCHANGE_HOST", "10.0.0.2")
    settings = load_settings(host="10.0.0.3", workers=None)
    assert (settings.workers, settings.port, settings.host) == (2, 1002, "10.0.0.3")


def test_the_file_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "etc.toml"
    elsewhere.write_text(f'public_url = "{URL}"\nhome = "{tmp_path}/other"\n')
    monkeypatch.delenv("EXCHANGE_HOME")
    monkeypatch.setenv("EXCHANGE_CONFIG", str(elsewhere))
    assert load_settings().home == tmp_path / "other"


def test_proxies_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
    assert load_settings(public_url=URL).trusted_proxies == ("127.0.0.1", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param({}, "EXCHANGE_PUBLIC_URL", id="no-public-url"),
        pytest.param({"public_url": "node.example"}, "EXCHANGE_PUBLIC_URL", id="no-scheme"),
        pytest.param({"public_url": f"{URL}/"}, "EXCHANGE_PUBLIC_URL", id="slash-at-the-end"),
        pytest.param({"public_url": f"{URL}?x={CANARY}"}, "EXCHANGE_PUBLIC_URL", id="query"),
        pytest.param({"public_url": f"https://u:{CANARY}@x.example"}, "EXCHANGE_PUBLIC_URL", id="user"),
        pytest.param({"public_url": URL, "port": 0}, "EXCHANGE_PORT", id="port-zero"),
        pytest.param({"public_url": URL, "port": CANARY}, "EXCHANGE_PORT", id="port-is-text"),
        pytest.param({"public_url": URL, "workers": 0}, "EXCHANGE_WORKERS", id="no-workers"),
        pytest.param({"public_url": URL, "environment": CANARY}, "EXCHANGE_ENVIRONMENT", id="unknown-environment"),
        pytest.param({"public_url": URL, "log_level": CANARY}, "EXCHANGE_LOG_LEVEL", id="unknown-level"),
        pytest.param({"public_url": URL, "trusted_proxies": "*"}, "EXCHANGE_TRUSTED_PROXIES", id="any-proxy"),
        pytest.param({"public_url": URL, "trusted_proxies": CANARY}, "EXCHANGE_TRUSTED_PROXIES", id="proxy-by-name"),
        pytest.param({"public_url": URL, "trace_ratio": 2}, "EXCHANGE_TRACE_RATIO", id="more-than-all"),
        pytest.param({"public_url": URL, "otlp_endpoint": "grpc://x"}, "EXCHANGE_OTLP_ENDPOINT", id="not-http"),
        *(
            pytest.param(
                {"public_url": URL, "otlp_endpoint": f"https://u:{start}{sign}{CANARY}@x.example"},
                "EXCHANGE_OTLP_ENDPOINT",
                id=f"password-{start}-{ord(sign):x}",
            )
            for sign in "/#?[]@:\u2100"
            for start in (CANARY, "1")
        ),
        pytest.param({"public_url": f"https://{CANARY}:99999"}, "EXCHANGE_PUBLIC_URL", id="no-such-port"),
        pytest.param({"public_url": URL, "unknown": CANARY}, "EXCHANGE_UNKNOWN", id="unknown-setting"),
        pytest.param({"public_url": URL, "passphrase_file": "/nowhere"}, "passphrase_file", id="no-such-file"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**arguments)
    assert named in str(refused.value)
    assert CANARY not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("public_url = ", id="not-toml"),
        pytest.param(f'public_url = "{URL}"\nprot = 1\n', id="misspelt"),
        pytest.param(f'public_url = "{URL}"\n[database]\nurl = "x"\n', id="unknown-table"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str) -> None:
    write_config(tmp_path, text)
    with pytest.raises(SettingsError):
        load_settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "databse_url_file = 1", ("`databse_url_file` in ", "did you mean `database_url_file`?"), id="near"
        ),
        pytest.param("zzzz = 1", ("`zzzz` in ", "is not a setting."), id="far"),
        pytest.param(f'port = 1\nhost = "{CANARY}', ("cannot be read as TOML: look at line 3.",), id="open string"),
        pytest.param(f"port = 1\nhost = {CANARY}", ("look at line 3.",), id="no string"),
        pytest.param("port =", ("cannot be read as TOML",), id="cut off"),
        pytest.param("\udcff", ("cannot be read as TOML",), id="no text"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, told: tuple[str, ...]) -> None:
    written = f'public_url = "{URL}"\n{text}\n'
    (tmp_path / "exchange.toml").write_bytes(written.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as refused:
        load_settings()
    for words in (str(tmp_path / "exchange.toml"), *told):
        assert words in str(refused.value)
    assert CANARY not in str(refused.value)


def test_where_no_node_is_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError) as refused:
            load_settings(home=home)
        assert f"There is no node in {home} " in str(refused.value)
        assert "--home" in str(refused.value)
    monkeypatch.delenv("EXCHANGE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=f"no node in {tmp_path}/.referral-exchange "):
        load_settings()


def test_a_file_without_an_address_is_a_node_that_lacks_one(tmp_path: Path) -> None:
    write_config(tmp_path, "port = 1\n")
    with pytest.raises(SettingsError, match="EXCHANGE_PUBLIC_URL: Field required"):
        load_settings()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("file", "told"),
    [
        pytest.param("missing", "put a file there: {} is missing", id="missing"),
        pytest.param("folder", "let the node's user read {} as text", id="a folder"),
        pytest.param("binary", "let the node's user read {} as text", id="no text"),
        pytest.param("empty", "fill {}: it is empty", id="empty"),
    ],
)
def test_a_secret_file_that_is_no_use_is_named_with_what_to_do(tmp_path: Path, name: str, file: str, told: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(public_url=URL, **{f"{name}_file": tmp_path / file})
    assert f"{name}_file: the operator must {told.format(tmp_path / file)}." in str(refused.value)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_place_of_its_file_is_not_repeated(name: str) -> None:
    for value in (CANARY, f"postgresql://user:{CANARY}@host/name"):
        with pytest.raises(SettingsError, match=f"{name}_file: the operator must") as refused:
            load_settings(public_url=URL, **{f"{name}_file": value})
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_does_not_stand_in_the_file(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, f'public_url = "{URL}"\n{name} = "{CANARY}"\n')
    with pytest.raises(SettingsError, match=name) as refused:
        load_settings()
    assert CANARY not in str(refused.value)


def test_a_missing_file_that_was_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(SettingsError, match="EXCHANGE_CONFIG"):
        load_settings(public_url=URL)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    settings = load_settings(public_url=URL, **{f"{name}_file": tmp_path / "secret"})
    assert getattr(settings, name).get_secret_value() == CANARY
    assert CANARY not in repr(settings) + str(settings) + str(settings.model_dump())


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_a_mistake(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(CANARY)
    monkeypatch.setenv(f"EXCHANGE_{name.upper()}", CANARY)
    with pytest.raises(SettingsError, match="keep one") as refused:
        load_settings(public_url=URL, **{f"{name}_file": tmp_path / "secret"})
    assert CANARY not in str(refused.value)


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(SettingsError, match="empty"):
        load_settings(public_url=URL, passphrase_file=tmp_path / "secret")


def test_a_dotenv_file_is_not_found_by_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("EXCHANGE_ENVIRONMENT=demo\n")
    assert load_settings(public_url=URL).environment is Environment.PRODUCTION


def test_settings_do_not_change() -> None:
    settings = load_settings(public_url=URL)
    with pytest.raises(ValidationError):
        settings.environment = Environment.DEMO  # type: ignore[misc]


def rows_of_the_documentation() -> dict[str, list[str]]:
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "`EXCHANGE_" in line
    ]
    return {row[0].strip("` "): row for row in cells if row[0].startswith("`EXCHANGE_")}


def test_the_documentation_lists_every_setting_and_no_other() -> None:
    documented = rows_of_the_documentation()
    assert set(documented) == {f"EXCHANGE_{name.upper()}" for name in Settings.model_fields} | {"EXCHANGE_CONFIG"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_documentation_says_what_the_code_says(name: str) -> None:
    row = rows_of_the_documentation()[f"EXCHANGE_{name.upper()}"]
    field = Settings.model_fields[name]
    assert row[2] == field.description
    if field.default_factory is None and not field.is_required() and field.default not in (None, ()):
        shown = field.default.value if hasattr(field.default, "value") else str(field.default).lower()
        assert row[1] == f"`{shown}`"


def test_even_the_library_s_own_error_repeats_no_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(public_url=URL, environment=CANARY)  # type: ignore[arg-type]
    assert CANARY not in str(refused.value)
