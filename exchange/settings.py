"""What an operator may set, and what a node refuses to start with.

Rules:

* A setting comes from the environment (`EXCHANGE_` and its name) or from `exchange.toml` (the file `EXCHANGE_CONFIG`
  names, otherwise the one in the node's home). The environment wins. An unknown name in the file is an error.
* A secret comes from the environment or from a file of its own (`…_file`), never from `exchange.toml`, so that the
  configuration can be shown to anybody.
* A node is a production node unless it is told otherwise: a forgotten setting makes it stricter.
* No error and no `repr` repeats a value, but for the absolute path of a file that cannot be read.
* What is wrong is said as a sentence: who must do what (`insecurities`).
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from exchange.limits import LIMITS

ENVIRONMENT_PREFIX: Final = "EXCHANGE_"
CONFIG_VARIABLE: Final = "EXCHANGE_CONFIG"
CONFIG_NAME: Final = "exchange.toml"
KEYS_NAME: Final = "node.keys"
"""The key file in the home of a node."""
CARD_NAME: Final = "card.json"
"""What its agency hands to the federation; it holds no secret."""
MARKED_NAME: Final = "clients-marked"
"""A file in the home of a node: whoever stood in its database before clients had marks has got them."""
STATEMENTS_NAME: Final = "statements"
"""The folder in the home of a node in which an agency's own consent statements lie; it may be missing."""
DEFAULT_HOME: Final = "~/.referral-exchange"
SHORTEST_PASSPHRASE: Final = 16

#: Set from the environment or from a file of their own only.
SECRETS: Final = ("passphrase", "database_url", "key_database_url")


class Environment(StrEnum):
    """What the node is used for."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"
    DEMO = "demo"


class LogLevel(StrEnum):
    """The least severe event that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SettingsError(Exception):
    """The settings cannot be read. The text names settings and what is expected, never what was set."""


class Settings(BaseSettings):
    """Everything an operator may set. Read it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    public_url: str = Field(
        description="Address at which others reach this node; also its OAuth issuer. No slash at its end."
    )
    environment: Environment = Field(Environment.PRODUCTION, description="production, sandbox or demo.")
    home: Path = Field(Path(DEFAULT_HOME), description="The node's folder: keys, databases, roster, contracts.")
    host: str = Field("127.0.0.1", description="Address to listen on. TLS is the proxy's in front.")
    port: int = Field(8080, ge=1, le=65535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="API processes. More than one needs PostgreSQL.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of the TLS proxy, separated by commas; only their X-Forwarded-For counts.",
    )
    database_url: SecretStr = Field(
        default_factory=lambda earlier: SecretStr(_sqlite_in(earlier, "node.db")),
        description="Main database: sqlite:////folder/node.db or postgresql://user@host/name. Secret.",
    )
    database_url_file: Path | None = Field(None, description="File that holds the main database's address.")
    key_database_url: SecretStr = Field(
        default_factory=lambda earlier: SecretStr(_sqlite_in(earlier, "keys.db")),
        description="Key store: another database, kept out of backups. Secret.",
    )
    key_database_url_file: Path | None = Field(None, description="File that holds the key store's address.")
    passphrase: SecretStr | None = Field(None, description="Opens the node's key files. Secret.")
    passphrase_file: Path | None = Field(None, description="File that holds the passphrase.")
    roster_path: Path = Field(
        default_factory=lambda earlier: _in_home(earlier, "roster.json"), description="Roster of the federation."
    )
    contracts_dir: Path = Field(
        default_factory=lambda earlier: _in_home(earlier, "contracts"), description="Folder of the adopted contracts."
    )
    exercise: bool = Field(
        default=False, description="Mark every referral of this node as a drill; not where the keys are elsewhere."
    )
    client_requests_per_minute: int = Field(
        LIMITS.client_requests_per_minute, ge=1, description="Requests of one client before 429."
    )
    peer_requests_per_minute: int = Field(
        LIMITS.peer_requests_per_minute, ge=1, description="Requests of one peer before 429."
    )
    peer_bytes_per_minute: int = Field(
        LIMITS.peer_bytes_per_minute,
        ge=LIMITS.batch_bytes,
        description="Bytes of envelopes of one peer before 429; for small requests a thirty-second part on top.",
    )
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error.")
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector, OTLP over HTTP, without /v1/…. Left out: no telemetry leaves."
    )
    trace_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of requests that are traced, when a collector is set."
    )

    @field_validator(
        "home", "roster_path", "contracts_dir", "database_url_file", "key_database_url_file", "passphrase_file"
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("public_url", "otlp_endpoint")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not _is_plain_address(url):
            raise ValueError("an http or https address without user, query and fragment is expected")
        if url.endswith("/"):
            raise ValueError("no slash is expected at the end")
        return url

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            try:
                ipaddress.ip_network(part, strict=False)
            except ValueError:
                raise ValueError("IP addresses or networks are expected, never a name or *") from None
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read each `…_file`; a secret that is given twice is a mistake somebody must look at."""
        values = dict(values)
        for name in SECRETS:
            path = values.get(f"{name}_file")
            if path is None:
                continue
            if values.get(name) is not None:
                raise ValueError(f"{name} and {name}_file are both set; keep one")
            values[name] = _secret_in(Path(path).expanduser(), f"{name}_file")
        return values

    @model_validator(mode="after")
    def _no_empty_secret(self) -> Self:
        if self.passphrase is not None and not self.passphrase.get_secret_value():
            raise ValueError("passphrase is empty")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file. No `.env` file: it would be found by accident."""
        del dotenv_settings, file_secret_settings
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        return init_settings, env_settings, _file_source(settings_cls, given)


def load_settings(**arguments: Any) -> Settings:
    """The settings of this process; arguments (from the command line) win over environment and file.

    Raises:
        SettingsError: with one line for each setting that is missing or wrong, without its value.
    """
    try:
        return Settings(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as invalid:
        # A default that could not be computed follows from an error that is named already.
        told = [error for error in invalid.errors(include_url=False) if error["type"] != "default_factory_not_called"]
        lines = [f"{_named(error['loc'])}{error['msg'].removeprefix('Value error, ')}." for error in told]
        config = _config_path(arguments)
        if any(error["type"] == "missing" for error in told) and not config.is_file():
            raise SettingsError(
                f"There is no node in {config.parent} (EXCHANGE_PUBLIC_URL is not set either). "
                "Name its folder with --home or EXCHANGE_HOME, or make one: exchange init."
            ) from None
        raise SettingsError("\n".join(lines)) from None


def local_address(host: str, port: int) -> str:
    """Where a node that listens there is reached from its own machine."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def closest_setting(name: str) -> str | None:
    """The setting that a misspelt name is most likely meant to be."""
    return next(iter(get_close_matches(name, Settings.model_fields, n=1)), None)


def _is_plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text quotes the address
        return False
    # A password that is not escaped ends the host early, and its @ stands in the path.
    extra = "@" in url or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra


def _secret_in(path: Path, setting: str) -> str:
    # What is no absolute path may be the secret itself, set under the wrong name.
    file = str(path) if path.is_absolute() else f"the file that {setting} names"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ValueError(f"{setting}: the operator must put a file there: {file} is missing") from None
    except (OSError, ValueError):
        raise ValueError(f"{setting}: the operator must let the node's user read {file} as text") from None
    if not text:
        raise ValueError(f"{setting}: the operator must fill {file}: it is empty")
    return text


def _named(location: tuple[int | str, ...]) -> str:
    return f"{ENVIRONMENT_PREFIX}{str(location[0]).upper()}: " if location else ""


def _config_path(given: Mapping[str, Any]) -> Path:
    if chosen := os.environ.get(CONFIG_VARIABLE):
        return Path(chosen).expanduser()
    home = Path(given.get("home") or os.environ.get(f"{ENVIRONMENT_PREFIX}HOME") or DEFAULT_HOME)
    return home.expanduser().absolute() / CONFIG_NAME


def _file_source(settings_cls: type[BaseSettings], given: Mapping[str, Any]) -> TomlConfigSettingsSource:
    path = _config_path(given)
    if os.environ.get(CONFIG_VARIABLE) and not path.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names a file that is not there.")
    try:
        source = TomlConfigSettingsSource(settings_cls, toml_file=path)
    except OSError:
        raise SettingsError(f"The operator must let the node's user read {path}.") from None
    except ValueError as wrong:
        # The parser's own text quotes what stands there.
        line = re.search(r"at line [0-9]+", str(wrong))
        raise SettingsError(f"{path} cannot be read as TOML{f': look {line[0]}' if line else ''}.") from None
    for name in source.toml_data:
        if name in SECRETS:
            raise SettingsError(f"Remove {name} from {path}: set it in the environment, or name a file in {name}_file.")
        if name not in Settings.model_fields:
            meant = closest_setting(name)
            ask = f"; did you mean `{meant}`?" if meant else "."
            raise SettingsError(f"`{name}` in {path} is not a setting{ask}")
    return source


def _in_home(earlier: Mapping[str, Any], name: str) -> Path:
    return Path(earlier.get("home", DEFAULT_HOME)) / name


def _sqlite_in(earlier: Mapping[str, Any], name: str) -> str:
    return f"sqlite:///{_in_home(earlier, name)}"
