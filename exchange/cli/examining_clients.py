"""What `exchange doctor` says about the systems of this agency (`exchange.use_cases.authenticate`).

Whether one is called like a member that joined later, and whether one stands there that this node has not registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from exchange.cli.examination import Finding, bad, warn
from exchange.envelope.key_file import KeySet
from exchange.roster import Member
from exchange.settings import Settings

if TYPE_CHECKING:
    from exchange.storage.access import StoredClient


def look_at_clients(settings: Settings, members: Mapping[str, Member], own: str | None) -> Iterator[Finding]:
    """Every active client that has the id of another member, and what to do about it."""
    from exchange.use_cases.authenticate import one_key, registered

    for client in _clients(settings):
        name, member = client.client_id, members.get(client.client_id)
        if client.status != "active" or member is None or name == own:
            continue
        again = f"Run `exchange client revoke {name}` and register that system under another name"
        if one_key(registered(client), member):
            sentence = (
                f"{name} has the key of the member {name}: neither is let in, and this member's stops do not come."
            )
            yield bad("clients", sentence, f"{again}, with a key of its own. Until then nobody can tell them apart.")
        else:
            sentence = f"{name} is called like the member {name}: each is let in by its own key."
            yield warn("clients", sentence, f"{again}: whoever reads the record would take the two for each other.")


def look_at_marks(settings: Settings, keys: KeySet | Finding) -> Iterator[Finding]:
    """Every active client whose row this node has not written: it is not let in."""
    from exchange.use_cases.registered_here import is_foreign

    if isinstance(keys, Finding) or keys.storage is None:
        return  # `look_at_keys` says why nothing can be said
    for client in _clients(settings):
        if is_foreign(keys.storage, client):
            yield bad(
                "clients",
                f"{client.client_id} is not let in: this node has not registered it, or its row was changed since.",
                "If you know it, look for who can write to the main database, revoke it and register that system under "
                f"another name. If not: `exchange client revoke {client.client_id}`.",
            )


def _clients(settings: Settings) -> Sequence[StoredClient]:
    from exchange.storage.access import list_clients
    from exchange.storage.database import Database
    from exchange.storage.errors import StorageError
    from exchange.storage.versions import ensure_current

    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url)
        database = Database.open(url)
        try:
            return database.read_sync(list_clients)
        finally:
            database.close_sync()
    except StorageError:
        return ()  # `look_at_databases` says what is wrong
