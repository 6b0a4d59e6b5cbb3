"""`exchange migrate`: bring both databases to the version of the program. Works on the databases, not over HTTP."""

from __future__ import annotations

from exchange.cli.console import advise, fail, refusals_told, say
from exchange.cli.profile import HomeOption


def migrate(home: HomeOption = None) -> None:
    """Upgrade the key store, then the main database: each whole, or not at all."""
    from exchange.cli.marking import marking_due, note_marked
    from exchange.settings import load_settings
    from exchange.storage.errors import StorageError
    from exchange.storage.migrate import upgrade
    from exchange.storage.versions import History

    with refusals_told():
        settings = load_settings(home=home)
    try:
        marking = marking_due(settings)
    except StorageError as refused:
        fail(f"{History.MAIN.value}: {refused}")
    urls = {History.KEYS: settings.key_database_url, History.MAIN: settings.database_url}
    for history, url in urls.items():
        try:
            version = upgrade(url.get_secret_value(), history, after=marking if history is History.MAIN else None)
        except StorageError as refused:
            fail(f"{history.value}: {refused}")
        say(f"{history.value}: at version {version}", style="green")
    if marking is not None and marking.names:
        advise(f"Let in as before: {', '.join(marking.names)}. If you do not know one: `exchange client revoke NAME`.")
    try:
        note_marked(settings.home)
    except OSError as refused:
        fail(f"{settings.home} cannot be written: {refused.strerror}. Let this user write there and run this again.")
