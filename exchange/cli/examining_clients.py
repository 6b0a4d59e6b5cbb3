"""Whether a system of this agency is called like a member that joined later (`exchange.use_cases.authenticate`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exchange.cli.examination import Finding, bad, warn
from exchange.roster import Member
from exchange.settings import Settings


def look_at_clients(settings: Settings, members: Mapping[str, Member], own: str | None) -> Iterator[Finding]:
    """Every active client that has the id of another member, and what to do about it."""
    from exchange.storage.access import list_clients
    from exchange.storage.database import Database
    from exchange.storage.errors import StorageError
    from exchange.storage.versions import ensure_current
    from exchange.use_cases.authenticate import one_key, registered

    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url)
        database = Database.open(url)
        try:
            clients = database.read_sync(list_clients)
        finally:
            database.close_sync()
    except StorageError:
        return  # `look_at_databases` says what is wrong
    for client in clients:
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
