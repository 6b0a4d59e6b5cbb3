"""`exchange migrate`: bring both databases to the version of the program. Works on the databases, not over HTTP."""

from __future__ import annotations

from typing import Final

from exchange.cli.console import advise, fail, refusals_told, say
from exchange.cli.profile import HomeOption

_KEYS_ARE_LOST: Final = (
    "The key store is a new one, and the main database is not: what was received before cannot be opened. Before you "
    "start the node go by docs/running-a-node.md, After a lost disk: exchange keys revoke --since (since when the keys "
    "may be lost) and, where the main database is from a backup, exchange resync."
)


def migrate(home: HomeOption = None) -> None:
    """Upgrade the key store, then the main database: each whole, or not at all."""
    from exchange.cli.marking import marking_due, note_marked
    from exchange.settings import load_settings
    from exchange.storage.errors import StorageError
    from exchange.storage.migrate import upgrade
    from exchange.storage.versions import History, current

    with refusals_told():
        settings = load_settings(home=home)
    try:
        marking = marking_due(settings)
    except StorageError as refused:
        fail(f"{History.MAIN.value}: {refused}")
    urls = {History.KEYS: settings.key_database_url, History.MAIN: settings.database_url}
    try:
        new_keys_beside_old = [current(url.get_secret_value()) is not None for url in urls.values()] == [False, True]
    except StorageError:
        new_keys_beside_old = False  # who upgrades it is told why
    for history, url in urls.items():
        try:
            version = upgrade(url.get_secret_value(), history, after=marking if history is History.MAIN else None)
        except StorageError as refused:
            fail(f"{history.value}: {refused}")
        say(f"{history.value}: at version {version}", style="green")
    if marking is not None and marking.names:
        advise(f"Let in as before: {', '.join(marking.names)}. If you do not know one: `exchange client revoke NAME`.")
    if new_keys_beside_old:
        advise(_KEYS_ARE_LOST)
    try:
        note_marked(settings.home)
    except OSError as refused:
        fail(f"{settings.home} cannot be written: {refused.strerror}. Let this user write there and run this again.")
