"""Why a node refuses to start: every insecure setting, as a sentence that says who must do what.

Rules:

* A production node starts with none of these. A sandbox or a demo keeps to the ones that lose data or keys; what is
  only unsafe for real people is left to production, and nothing real may enter the other two.
* A sentence names a setting, a file or a folder, never the value of a secret.
* Deciding needs the settings, the permissions of files and the variables of the process, and changes nothing.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from exchange.settings import SECRETS, SHORTEST_PASSPHRASE, Environment, LogLevel, Settings

_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_USUAL_PORT = 5432

#: Variables of libraries that would open a door this node keeps shut.
_UNSAFE_VARIABLES = {
    "AUTHLIB_INSECURE_TRANSPORT": "it lets tokens travel without TLS",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "it exports addresses with their queries",
    "PYTHONASYNCIODEBUG": "it writes arguments into the log",
    "SSLKEYLOGFILE": "it writes down the keys of every connection",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason not to start."""

    code: str
    sentence: str


def insecurities(
    settings: Settings, *, roster_is_synthetic: bool, variables: Mapping[str, str] | None = None
) -> list[Problem]:
    """Every reason why this node must not start; empty when it may.

    Args:
        settings: what is set.
        roster_is_synthetic: whether the roster it would use is marked as made up (`RosterSnapshot.synthetic`).
        variables: the environment of the process; `os.environ` unless given.
    """
    variables = os.environ if variables is None else variables
    problems = [*_storage(settings), *_permissions(settings)]
    if settings.environment is Environment.PRODUCTION:
        problems += [
            *_addresses(settings),
            *_secrets(settings),
            *_production_only(settings, roster_is_synthetic=roster_is_synthetic),
            *_variables(variables),
        ]
    return problems


def _storage(settings: Settings) -> Iterator[Problem]:
    main, keys = _database_identity(settings.database_url), _database_identity(settings.key_database_url)
    for name, identity in (("DATABASE_URL", main), ("KEY_DATABASE_URL", keys)):
        if identity is None:
            yield Problem(
                "database-url",
                f"The operator must mend the address in EXCHANGE_{name} (or in the file that EXCHANGE_{name}_FILE "
                "names): it is not one of a database that this program can use.",
            )
    if main is None or keys is None:
        return
    if main == keys:
        yield Problem(
            "one-database",
            "The operator must give EXCHANGE_KEY_DATABASE_URL another database than EXCHANGE_DATABASE_URL: "
            "keys that lie beside what they open, and in its backups, cannot be destroyed.",
        )
    if settings.workers > 1 and "sqlite" in {main[0], keys[0]}:
        yield Problem(
            "workers-need-postgresql",
            "The operator must set EXCHANGE_WORKERS to 1 or move both databases to PostgreSQL: "
            "SQLite serves one API process.",
        )


def _permissions(settings: Settings) -> Iterator[Problem]:
    if not settings.home.is_dir():
        yield Problem("no-home", f"The operator must run `exchange init`: the folder {settings.home} is not there.")
    elif _mode(settings.home) & _GROUP_AND_OTHERS:
        yield Problem("open-home", f"The operator must run `chmod 700 {settings.home}`: other users can look inside.")
    for name in SECRETS:
        path: Path | None = getattr(settings, f"{name}_file")
        if path is not None and _mode(path) & _OTHERS:
            yield Problem("open-secret", f"The operator must run `chmod o-rwx {path}`: other users can read a secret.")


def _addresses(settings: Settings) -> Iterator[Problem]:
    # Also on this machine: no roster of real agencies lists a plain address.
    if urlsplit(settings.public_url).scheme != "https":
        yield Problem(
            "plain-http",
            "The operator must put a TLS proxy in front and set EXCHANGE_PUBLIC_URL to an https address: "
            "over http anybody on the way reads and takes tokens.",
        )
    if settings.otlp_endpoint is not None and _is_plain(settings.otlp_endpoint):
        yield Problem(
            "plain-telemetry",
            "The operator must set EXCHANGE_OTLP_ENDPOINT to an https address or to a collector on this machine.",
        )
    if not _is_loopback(settings.host) and not settings.trusted_proxies:
        yield Problem(
            "open-listener",
            "The operator must set EXCHANGE_HOST to 127.0.0.1, or name the TLS proxy in EXCHANGE_TRUSTED_PROXIES: "
            "this node would speak plain HTTP to the network.",
        )


def _secrets(settings: Settings) -> Iterator[Problem]:
    if settings.passphrase is None:
        yield Problem(
            "no-passphrase",
            "The operator must set EXCHANGE_PASSPHRASE_FILE (or type the passphrase when asked): "
            "without it the keys of this node stay closed.",
        )
    elif len(settings.passphrase.get_secret_value()) < SHORTEST_PASSPHRASE:
        yield Problem(
            "short-passphrase",
            f"The operator must choose a passphrase of at least {SHORTEST_PASSPHRASE} characters: "
            "it is all that protects the keys in a stolen copy.",
        )


def _production_only(settings: Settings, *, roster_is_synthetic: bool) -> Iterator[Problem]:
    if roster_is_synthetic:
        yield Problem(
            "synthetic-roster",
            "The operator must install the federation's roster: the one in EXCHANGE_ROSTER_PATH is made up, for "
            "sandbox and demo, and its keys are known to others.",
        )
    if settings.log_level is LogLevel.DEBUG:
        yield Problem(
            "debug",
            "The operator must set EXCHANGE_LOG_LEVEL to info or above: debug is for developers and made-up data.",
        )


def _variables(variables: Mapping[str, str]) -> Iterator[Problem]:
    for name, why in _UNSAFE_VARIABLES.items():
        if variables.get(name):
            yield Problem("unsafe-variable", f"The operator must remove {name} from the environment: {why}.")


def _is_plain(url: str) -> bool:
    address = urlsplit(url)
    return address.scheme != "https" and not _is_loopback(address.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _database_identity(url: SecretStr) -> tuple[str, str, int, str] | None:
    """What makes two addresses the same database, whatever user or driver they name; nothing where it is of none."""
    # Imported here: commands that open no database do not load what does.
    from exchange.storage.engine import DatabaseURLError, parse_url

    try:
        address = parse_url(url.get_secret_value())
    except DatabaseURLError:
        return None
    kind, name = address.get_backend_name(), address.database or ""
    if kind == "sqlite":
        return kind, "", 0, os.path.realpath(name)
    return kind, (address.host or "").lower(), address.port or _USUAL_PORT, name


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
