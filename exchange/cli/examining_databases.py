"""What `exchange doctor` says about the two databases: one advice for each cause.

Rules:

* No address is repeated: it may hold a password. The setting that holds it is named.
* A cause that is not known gets the advice to look at the address and at the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from exchange.cli.examination import Finding, bad, ok
from exchange.envelope.key_file import KeySet
from exchange.limits import HOUR_MS
from exchange.roster import RosterSnapshot
from exchange.settings import Settings
from exchange.storage.database import Database
from exchange.storage.due import due_for
from exchange.storage.engine import DatabaseURLError, check_whole
from exchange.storage.epochs import own_epochs
from exchange.storage.errors import (
    DatabaseEmptyError,
    DatabaseEncodingError,
    DatabaseNewerError,
    DatabaseOlderError,
    MigrationError,
    StorageBusyError,
    StorageDamagedError,
    StorageError,
    StorageForbiddenError,
    StorageFullError,
    StorageReadOnlyError,
)
from exchange.storage.key_store import epoch_keys_of
from exchange.storage.used_roster import UsedRoster, used_roster_of
from exchange.storage.versions import History, ensure_current

_SETTING: Final[Mapping[History, str]] = {
    History.MAIN: "EXCHANGE_DATABASE_URL",
    History.KEYS: "EXCHANGE_KEY_DATABASE_URL",
}
_ADVICE: Final[Mapping[type[StorageError], str]] = {
    DatabaseURLError: "Mend the address in {setting}, or in the file that {setting}_FILE names.",
    DatabaseEmptyError: "Stop the node and go by docs/running-a-node.md, After a lost disk. For a new node: "
    "`exchange migrate`.",
    DatabaseOlderError: "Stop the node, then run `exchange migrate`.",
    DatabaseEncodingError: "Give the node one with ENCODING 'UTF8' in {setting}; restore into it what is in this one.",
    DatabaseNewerError: "Update the program; or the addresses of the two databases were exchanged ({setting}).",
    MigrationError: "Give the node a database of its own in {setting}: this one is of something else.",
    StorageFullError: "Make room on its disk.",
    StorageReadOnlyError: "Let the node write there: it may be a standby, or a file of another user.",
    StorageDamagedError: "Look at the disk first, and do not go on with what a tool saves from the file.",
    StorageForbiddenError: "As the server's administrator: make the role in {setting} the owner of that database.",
    StorageBusyError: "Look for what holds it; then ask again.",
}
_NO_FILE: Final = (
    "Make its folder and let the node's user write there, or mend the address in {setting} (or {setting}_FILE)."
)
_NO_SERVER: Final = (
    "Start the database server; look at host, port, role and password in {setting} (or {setting}_FILE), whether the "
    "server has a database of that name, and whether others have taken all its connections (`max_connections`). It "
    "must be the server itself: no pooler in transaction mode."
)


def look_at_databases(settings: Settings) -> Iterator[Finding]:
    """Whether both databases answer and have the tables of this program."""
    urls = {History.MAIN: settings.database_url, History.KEYS: settings.key_database_url}
    for history, secret in urls.items():
        url = secret.get_secret_value()
        try:
            ensure_current(url, history)
            _look_through(url)
        except StorageError as refused:
            otherwise = _NO_FILE if url.startswith("sqlite") else _NO_SERVER
            advice = _ADVICE.get(type(refused), otherwise)
            yield bad("databases", f"{history}: {refused}", advice.format(setting=_SETTING[history]))
        else:
            yield ok("databases", f"{history}: reachable, tables current")


def _look_through(url: str) -> None:
    """Whether a file is whole: what nobody reads for weeks may be damaged for weeks, and older backups are let go."""
    database = Database.open(url)
    try:
        database.read_sync(check_whole)
    finally:
        database.close_sync()


def look_at_destruction(settings: Settings, at: int) -> Iterator[Finding]:
    """Whether what was to be destroyed is: the courier tries every few seconds, and may be waiting for somebody."""
    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url, History.MAIN)
        database = Database.open(url)
        try:
            late = database.read_sync(lambda conn: due_for(conn, "destroy", at - HOUR_MS))
        finally:
            database.close_sync()
    except StorageError:
        return  # `look_at_databases` says what is wrong
    if late:
        yield bad(
            "destruction",
            f"{len(late)} referral(s) or more were to be destroyed an hour ago and are not.",
            "Let the courier run. On PostgreSQL look for what keeps a transaction open in any database of that server; "
            "the log says why as well (`courier-storage-unavailable`, `courier-beside-failed`).",
        )


def look_at_lost_weeks(settings: Settings, keys: KeySet | Finding, at: int) -> Iterator[Finding]:
    """Whether the key store has what others seal to, and has not marked it as revoked.

    With a new one, beside a main database that is not, nothing opens; beside a main database from a backup, what was
    revoked since is published. The node starts with either, and then it is too late for what has to be said before.
    """
    if isinstance(keys, Finding) or keys.agency is None:
        return  # `look_at_keys` says why; or the agency's own software holds them
    url, key_url = settings.database_url.get_secret_value(), settings.key_database_url.get_secret_value()
    try:
        ensure_current(url, History.MAIN)
        ensure_current(key_url, History.KEYS)
        held = epoch_keys_of(key_url)
        database = Database.open(url)
        try:
            published = database.read_sync(own_epochs)
        finally:
            database.close_sync()
    except StorageError:
        return  # `look_at_databases` says what is wrong
    living = [row for row in published if row.not_after > at]
    lost = [row for row in living if row.key_id not in held]
    if lost:
        yield bad(
            "weekly keys",
            f"{len(lost)} that are published are not in the key store: it is a new one, or an older one.",
            "Go by docs/running-a-node.md, After a lost disk, before the node starts: `exchange keys revoke --since` "
            "(since when they may be lost) and, where the main database is from a backup, `exchange resync`.",
        )
    latest = {row.not_before: row.key_id for row in living}  # in the order of their numbers: the last is sealed to
    if revoked := [key_id for key_id in latest.values() if not held.get(key_id, True)]:
        yield bad(
            "weekly keys",
            f"{len(revoked)} that are published were revoked: the main database is from a backup of before.",
            "Before the node starts, revoke them again: `exchange keys revoke --since` (the time that was said then).",
        )


def look_at_used_roster(settings: Settings, roster: RosterSnapshot) -> Iterator[Finding]:
    """Whether this node has used a newer roster than the one that lies here."""
    used = used_here(settings)
    if used is not None and not used.permits(roster.version, roster.digest):
        yield bad(
            "roster",
            f"This node has used version {used.version} before; this is an older one, or another one of that version.",
            "Install the federation's newest roster: the office that keeps it has it. The node does not start without. "
            "If you are that office: have a member that has it hand it to you.",
        )


def used_here(settings: Settings) -> UsedRoster | None:
    """The newest roster that this node has used; None, too, where its database cannot say."""
    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url, History.MAIN)
        return used_roster_of(url)
    except StorageError:
        return None  # `look_at_databases` says what is wrong
