"""`exchange migrate`: bring both databases to the version of the program. Works on the databases, not over HTTP."""

from __future__ import annotations

from exchange.cli.console import fail, refusals_told, say
from exchange.cli.profile import HomeOption


def migrate(home: HomeOption = None) -> None:
    """Upgrade the key store, then the main database: each whole, or not at all."""
    from exchange.settings import load_settings
    from exchange.storage.errors import StorageError
    from exchange.storage.migrate import upgrade
    from exchange.storage.versions import History

    with refusals_told():
        settings = load_settings(home=home)
    urls = {History.KEYS: settings.key_database_url, History.MAIN: settings.database_url}
    for history, url in urls.items():
        try:
            version = upgrade(url.get_secret_value(), history)
        except StorageError as refused:
            fail(f"{history.value}: {refused}")
        say(f"{history.value}: at version {version}", style="green")
