"""Which roster was used is remembered, and never goes back."""

from __future__ import annotations

import pytest

from exchange.storage.database import Database
from exchange.storage.used_roster import UsedRoster, remember_roster, used_roster, used_roster_of

NEWER, OLDER, ANOTHER = UsedRoster(2, "b" * 64), UsedRoster(1, "a" * 64), UsedRoster(2, "c" * 64)


@pytest.mark.parametrize("later", [OLDER, NEWER, ANOTHER])
def test_the_newest_stays(database_url: str, later: UsedRoster) -> None:
    database = Database.open(database_url)
    assert used_roster_of(database_url) is None
    for roster in (OLDER, NEWER, later):
        database.write_sync(lambda conn, roster=roster: remember_roster(conn, roster))
    assert database.read_sync(used_roster) == used_roster_of(database_url) == NEWER
    database.close_sync()


def test_only_the_same_one_and_newer_ones_may_be_used() -> None:
    assert NEWER.permits(*NEWER)
    assert NEWER.permits(3, OLDER.digest)
    assert not NEWER.permits(*OLDER)
    assert not NEWER.permits(*ANOTHER)
