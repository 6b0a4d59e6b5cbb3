"""The newest roster that this node has used. Started again, it uses no older one, and no other one of that version.

It stands in the main database: whoever puts an older roster in place does not take this along. Where both come from one
backup they agree, and what the federation has published since is known to the operator alone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from exchange.storage.database import Database
from exchange.storage.prepared import Prepared
from exchange.storage.statements import Both
from exchange.storage.tables import USED_ROSTER


class UsedRoster(NamedTuple):
    """Which one it was."""

    version: int
    digest: str

    def permits(self, version: int, digest: str) -> bool:
        """Whether this roster may be used now."""
        return version > self.version or (version, digest) == self


def _unless_older(insert: Any) -> Any:
    new = {name: insert.excluded[name] for name in UsedRoster._fields}
    return insert.on_conflict_do_update(
        index_elements=[USED_ROSTER.c.one], set_=new, where=insert.excluded.version > USED_ROSTER.c.version
    )


_USED: Final = Prepared(select(USED_ROSTER.c.version, USED_ROSTER.c.digest))
_REMEMBER: Final = Prepared(
    Both(_unless_older(sqlite.insert(USED_ROSTER)), _unless_older(postgresql.insert(USED_ROSTER))),
    columns=["one", *UsedRoster._fields],
)


def used_roster(conn: Connection) -> UsedRoster | None:
    """The newest that was used; nothing before the first start."""
    row = _USED.row(conn, {})
    return UsedRoster(*row) if row is not None else None


def remember_roster(conn: Connection, roster: UsedRoster) -> None:
    """It is used. Never goes back: of several processes one may be behind for a moment."""
    _REMEMBER.run(conn, {"one": 1} | roster._asdict())


def used_roster_of(url: str) -> UsedRoster | None:
    """As `used_roster`, of the main database at this address, for the command line.

    Raises:
        StorageError: it cannot be read.
    """
    database = Database.open(url)
    try:
        return database.read_sync(used_roster)
    finally:
        database.close_sync()
