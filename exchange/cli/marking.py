"""The clients of before: `exchange migrate` marks them in the transaction that gives their rows a mark, and only once.

Rules:

* Whoever has no mark afterwards gets none. Nothing marks what stands in the database but the one upgrade; a client is
  registered with a key that somebody brings (`exchange client add`).
* That it was done stands in the node's home, not in the database: who can write there may call it old again.
* Who was marked is said by name: somebody may have stood there before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exchange.cli.console import fail
from exchange.cli.passphrase import opened_storage_key
from exchange.envelope.keys import StorageKey
from exchange.settings import MARKED_NAME, Settings

if TYPE_CHECKING:
    from exchange.storage.database import Connection

MARKED_SINCE: Final = "main_0018"


@dataclass(frozen=True, slots=True)
class Marking:
    """Marks every active client of a database from before marks."""

    storage_key: StorageKey
    names: list[str] = field(default_factory=list)
    """Who got one."""

    def __call__(self, connection: Connection, before: str | None) -> None:
        """Runs after the steps, with the version from before them."""
        from exchange.storage.access import list_clients, mark_client
        from exchange.use_cases.registered_here import marked

        if not is_from_before(before):
            return
        for client in list_clients(connection):
            if client.status == "active":
                mark_client(connection, marked(self.storage_key, client))
                self.names.append(client.client_id)


def marking_due(settings: Settings) -> Marking | None:
    """What has to run with the upgrade of the main database; needs the passphrase where that is something.

    Raises:
        StorageError: the database cannot be looked at.
    """
    from exchange.storage.versions import current

    if not is_from_before(current(settings.database_url.get_secret_value())):
        return None
    noted = settings.home / MARKED_NAME
    if noted.exists():
        fail(
            f"The main database is from before this node marked its clients, and {noted} says that it has. If you have "
            "restored an older backup, delete that file and run this again. If not, somebody else has changed the "
            "database: nothing was changed now, and whoever stands there must not be let in."
        )
    return Marking(opened_storage_key(settings))


def note_marked(home: Path) -> None:
    """Write down in a node's home that nobody is marked any more without being registered."""
    (home / MARKED_NAME).write_text("The clients of this node have their marks (docs/threat-model.md).\n", "utf-8")


def is_from_before(version: str | None) -> bool:
    """Whether a database of this version has clients without marks, as far as it has any."""
    return version is not None and version < MARKED_SINCE
