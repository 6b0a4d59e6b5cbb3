"""What `exchange doctor` looks at on this machine. Each finding says whether it is well and, if not, what to do.

Rules:

* Looking changes nothing.
* One check that cannot be made does not hide the others.
* `bad`: the node does not work, or not safely. `warn`: it will not for long, or something could not be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from consent.errors import StatementInvalidError
from consent.statements import StatementLibrary
from contracts.loader import ContractInvalidError, load_contract
from contracts.model import Contract, ContractStatus
from exchange.cli.new_keys import NEW_PASSPHRASE
from exchange.cli.passphrase import AGENCY_PASSPHRASE
from exchange.cli.profile import ACTOR_VARIABLE
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import KeySet, open_keys, read_key_file
from exchange.insecurities import insecurities
from exchange.roster import Member, RosterInvalidError, RosterSnapshot, Status, parse_member_card, parse_roster
from exchange.settings import (
    CARD_NAME,
    CONFIG_NAME,
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    KEYS_NAME,
    STATEMENTS_NAME,
    Environment,
    Settings,
    closest_setting,
)

#: Variables of the command line that are not the node's.
_NO_SETTINGS: Final = frozenset({CONFIG_VARIABLE, AGENCY_PASSPHRASE, NEW_PASSPHRASE, ACTOR_VARIABLE})
_READ, _WRITE, _SEARCH = 4, 2, 1
#: Databases, what SQLite puts beside them, the folder in which processes wake each other, and the lock of who serves.
_WRITTEN: Final = frozenset({".db", ".db-wal", ".db-shm", ".db-wake", ".db-served"})
_OTHER_KEY: Final = (
    "If you have renewed it (`exchange keys renew`), put the new key file in its place. Otherwise tell the office that "
    "keeps the roster at once."
)
SOON: Final = timedelta(days=60)


class Level(StrEnum):
    """How a finding is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    level: Level
    subject: str
    sentence: str
    what_to_do: str = ""


@dataclass(frozen=True, slots=True)
class Federation:
    """The roster as this node reads it, and this agency's place in it."""

    roster: RosterSnapshot
    own: Member


def ok(subject: str, sentence: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, sentence)


def warn(subject: str, sentence: str, what_to_do: str) -> Finding:
    """Not for long, or not known."""
    return Finding(Level.WARN, subject, sentence, what_to_do)


def bad(subject: str, sentence: str, what_to_do: str) -> Finding:
    """The node does not work, or not safely."""
    return Finding(Level.BAD, subject, sentence, what_to_do)


def read_federation(settings: Settings) -> Federation | Finding:
    """The roster and this agency's place in it, or why neither is known."""
    try:
        card = parse_member_card((settings.home / CARD_NAME).read_bytes().strip())
    except (OSError, RosterInvalidError):
        return bad(
            "roster",
            "This agency's card is missing or damaged.",
            "Restore card.json (a new node: `exchange init`).",
        )
    try:
        roster = parse_roster(settings.roster_path.read_bytes())
    except OSError:
        return bad("roster", f"{settings.roster_path} cannot be read.", "Install the federation's roster there.")
    except RosterInvalidError as invalid:
        return bad("roster", str(invalid), "Ask the office that keeps the roster for the file again.")
    if card.agency not in roster.members:
        return bad(
            "roster", f"{card.agency} is not in the roster.", "Hand in your card: `exchange roster card` prints it."
        )
    return Federation(roster, roster.members[card.agency])


def look_at_settings(settings: Settings, federation: Federation | Finding) -> Iterator[Finding]:
    """Whether the node would start."""
    synthetic = isinstance(federation, Federation) and federation.roster.synthetic
    problems = insecurities(settings, roster_is_synthetic=synthetic)
    for problem in problems:
        yield bad("configuration", f"[{problem.code}]", problem.sentence)
    if not problems:
        yield ok("configuration", f"{settings.environment} node, {settings.public_url}")


def look_at_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a setting is misspelt in the environment, where an unknown name changes nothing and nobody notices."""
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields} | _NO_SETTINGS
    for name in sorted(variables):
        if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known:
            meant = closest_setting(name.removeprefix(ENVIRONMENT_PREFIX).lower())
            ask = f"Did you mean {ENVIRONMENT_PREFIX}{meant.upper()}? " if meant else ""
            yield warn(
                "configuration", f"{name} is set in the environment and is no setting.", f"{ask}Otherwise unset it."
            )


def look_at_files(settings: Settings) -> Iterator[Finding]:
    """Whether the node's user may use what lies in its home: root looks, and writes, where that user cannot."""
    for path in _needed(settings):
        try:
            found, home = path.stat(), settings.home.stat()
        except OSError:
            continue  # what is missing is told by what needs it
        # Of which groups that user is nobody can tell from here: another's file that a group may use counts as open.
        mode = found.st_mode >> 6 if found.st_uid == home.st_uid else found.st_mode >> 3 | found.st_mode
        need = _READ | _SEARCH if path.is_dir() else _READ
        if path.suffix in _WRITTEN:
            need |= _WRITE
        if mode & need != need:
            yield bad(
                "files",
                f"{path} is not open to the user to whom {settings.home} belongs.",
                f"Run `chown --reference={settings.home} {path}`, and `chmod u+rwX` of it.",
            )


def _needed(settings: Settings) -> Iterator[Path]:
    yield from settings.home.glob("*.db*")
    yield from (settings.home / CONFIG_NAME, settings.home / KEYS_NAME, settings.roster_path)
    for folder, names in ((settings.contracts_dir, "*.yaml"), (settings.home / STATEMENTS_NAME, "*.toml")):
        yield folder
        yield from folder.glob(names)


def read_keys(settings: Settings, passphrase: str) -> KeySet | Finding:
    """The keys of this node, or why they do not open."""
    path = settings.home / KEYS_NAME
    try:
        return open_keys(read_key_file(path), passphrase.encode())
    except FileNotFoundError:
        return bad("keys", f"{path} is missing.", "Restore it from where you keep it; without it nothing opens.")
    except OSError:
        return bad("keys", f"{path} cannot be read.", "Let the node's user read it; without it nothing opens.")
    except KeyFileError as refused:
        return bad("keys", str(refused), "Look at the passphrase and at the file's permissions (chmod 600).")


def look_at_keys(settings: Settings, keys: KeySet | Finding, federation: Federation | Finding) -> Iterator[Finding]:
    """Whether the key file opens and holds the keys that the federation knows."""
    if isinstance(keys, Finding):
        yield keys
        return
    yield from _key_store(settings, keys)
    if isinstance(federation, Finding):
        yield ok("keys", "The key file opens.")
        return
    yield from _same_keys(keys, federation.own)


def _key_store(settings: Settings, keys: KeySet) -> Iterator[Finding]:
    from exchange.storage.errors import StorageError
    from exchange.storage.key_store import is_anothers_key_store
    from exchange.storage.versions import History, ensure_current

    url = settings.key_database_url.get_secret_value()
    if keys.storage is None:
        return
    try:
        ensure_current(url, History.KEYS)
        anothers = is_anothers_key_store(url, keys.storage.row_key())
    except StorageError:
        return  # `look_at_databases` says what is wrong
    if anothers:
        yield bad(
            "keys",
            "This node's storage key opens nothing in the key store.",
            "Look at EXCHANGE_KEY_DATABASE_URL and at node.keys: one of them is another node's. Do not start the node.",
        )


def _same_keys(keys: KeySet, own: Member) -> Iterator[Finding]:
    listed = {"node key": (keys.node, own.node_key), "agency key": (keys.agency, own.agency_key)}
    for name, (mine, theirs) in listed.items():
        if mine is None:
            yield warn("keys", f"The {name} is not on this node.", "The agency's own software has to hold it.")
        elif mine.public != theirs:
            yield bad("keys", f"The roster lists another {name}.", _OTHER_KEY)
        else:
            yield ok("keys", f"The {name} is the one in the roster.")


def look_at_roster(settings: Settings, federation: Federation) -> Iterator[Finding]:
    """Whether this agency is an active member of the right kind of federation."""
    own, roster = federation.own, federation.roster
    if own.status is not Status.ACTIVE:
        yield bad(
            "roster", f"This agency is listed as {own.status}.", "New offers are refused; ask the federation's office."
        )
    if own.node_url != settings.public_url:
        yield bad("roster", "The roster lists another address of this node.", "Set EXCHANGE_PUBLIC_URL to that one.")
    if roster.synthetic and settings.environment is Environment.PRODUCTION:
        yield bad("roster", "The roster is made up.", "A production node needs the federation's own roster.")
    yield ok("roster", f"version {roster.version}, {len(roster.members)} members")


def look_at_contracts(settings: Settings, federation: Federation, at: datetime) -> Iterator[Finding]:
    """Whether there is a contract in force with every member, and for how long."""
    found = dict(_contracts_on_file(settings, at.date()))
    for digest, contract in found.items():
        if isinstance(contract, Finding):
            yield contract
        else:
            yield from _validity(digest, contract, settings, at.date())
    own, roster = federation.own, federation.roster
    for agency, member in roster.members.items():
        if agency == own.agency or member.status is not Status.ACTIVE:
            continue
        digests = roster.contract_in_force(own.agency, agency, at)
        usable = [digest for digest in digests if isinstance(found.get(digest), Contract)]
        if usable:
            yield ok("contract", f"with {agency}: {usable[0][:16]}…")
        elif digests:
            yield bad(
                "contract", f"with {agency}: in force, but not on file.", f"Put it into {settings.contracts_dir}."
            )
        else:
            yield warn(
                "contract", f"with {agency}: none in force.", "Both agencies adopt one: `exchange contract adopt`."
            )


def look_at_statements(settings: Settings) -> Iterator[Finding]:
    """Whether there are words with which this node may record a consent."""
    folder = settings.home / STATEMENTS_NAME
    try:
        library = StatementLibrary.load(folder if folder.is_dir() else None)
    except StatementInvalidError as invalid:
        yield bad(
            "consent statements", str(invalid), f"Mend or remove that file in {folder}; docs/consent.md says how."
        )
        return
    except OSError:
        yield bad("consent statements", f"A file in {folder} cannot be read.", "Let the node's user read it.")
        return
    reviewed = len(library.without_drafts().all())
    if reviewed or settings.environment is not Environment.PRODUCTION:
        yield ok("consent statements", f"{reviewed} reviewed, {len(library.all()) - reviewed} drafts")
        return
    yield warn(
        "consent statements",
        "None is reviewed: this node records no consent, and so refers nobody.",
        f"Put reviewed words into {folder} and start the node again; docs/consent.md says how.",
    )


def look_at_receivers(settings: Settings, at: int) -> Iterator[Finding]:
    """Whom this agency has given names, and whether they serve."""
    from exchange.storage.database import Database
    from exchange.storage.errors import StorageError
    from exchange.storage.unserved import unserved_by_peer
    from exchange.storage.versions import History, ensure_current

    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url, History.MAIN)
        database = Database.open(url)
        try:
            found = database.read_sync(lambda conn: unserved_by_peer(conn, at))
        finally:
            database.close_sync()
    except StorageError:
        return  # `look_at_databases` says what is wrong
    for agency, (given, waiting) in found.items():
        name = f"receiver {agency}"
        if waiting:
            yield warn(
                name,
                f"accepts and does not serve: {given} names without service, {waiting} more wait.",
                "Telephone it. Then confirm what may go: `POST /v1/referrals/{id}/release`.",
            )
        else:
            yield ok(name, f"{given} accepted, disclosed and not yet served")


def _contracts_on_file(settings: Settings, today: date) -> Iterator[tuple[str, Contract | Finding]]:
    for path in sorted(settings.contracts_dir.glob("*.yaml")):
        try:
            data = path.read_bytes()
        except OSError:
            yield path.name, bad("contract", f"{path.name} cannot be read.", f"Let the node's user read {path}.")
            continue
        try:
            yield hashlib.sha256(data).hexdigest(), load_contract(data, on=today)
        except ContractInvalidError as invalid:
            sentence = f"{path.name}: {len(invalid.problems)} problem(s)."
            yield (
                hashlib.sha256(data).hexdigest(),
                bad("contract", sentence, f"`exchange contract check {path}` names them; adopt a valid one."),
            )


def _validity(digest: str, contract: Contract, settings: Settings, today: date) -> Iterator[Finding]:
    name = f"{contract.name} {contract.version} ({digest[:16]}…)"
    if contract.status is ContractStatus.DRAFT:
        level: Callable[[str, str, str], Finding] = warn
        if settings.environment is Environment.PRODUCTION:
            level = bad
        yield level("contract", f"{name} is a draft.", "It needs local legal review before anybody real is referred.")
    if contract.valid_until - today <= SOON:
        yield warn(
            "contract", f"{name} ends on {contract.valid_until}.", "Agree on the next version with your partners."
        )
    elif contract.review_on - today <= SOON:
        yield warn("contract", f"{name} is to be reviewed by {contract.review_on}.", "Tell the agencies' focal points.")
    else:
        yield ok("contract", f"{name}, valid until {contract.valid_until}")
