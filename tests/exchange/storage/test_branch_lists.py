"""A branch that has little among much of others': it misses nothing, and no read looks at all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from exchange.storage import inbox, referrals
from exchange.storage.batches import add_arrived, insert_referrals
from exchange.storage.database import Database
from exchange.storage.inbox import ArrivedRecord
from exchange.storage.referrals import ReferralRecord
from exchange.storage.statements import SLICE
from exchange.use_cases.looking import look_through
from exchange.use_cases.node import Node

MANY = 3 * SLICE + 500
OURS = (7, 8, SLICE, SLICE + 1, 2 * SLICE)
"""The numbers of those that the branch may see, of items and changes alike."""


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Node]:
    """Its database alone."""
    database = Database.open(database_url)
    await database.write(_fill)
    yield cast("Node", SimpleNamespace(database=database))
    await database.close()


def _fill(conn: Connection) -> None:
    names = {number: f"{number:05}" for number in range(1, MANY + 1)}
    insert_referrals(
        conn,
        [
            ReferralRecord(name, "referring", "p", "s", "c", "sent", 0, 0, 0, unit="north" if n in OURS else "south")
            for n, name in names.items()
        ],
    )
    items = [
        ArrivedRecord(
            id=name, referral=name, sender="s", kind="decision", event=None, digest=name, status="acknowledged",
            received_at=0, respond_by=None, sealed_header=None, rewrapped_key=None, wrapped_key=None, ciphertext=None,
            signature=None, release=None,
        )
        for name in names.values()
    ]  # fmt: skip
    add_arrived(conn, items)
    referrals.add_changes(conn, [(name, "sent", 0) for name in names.values()])


class Looking:
    """What the branch is shown of a list, and how much of it was looked at."""

    def __init__(self, what: str) -> None:
        self.reads: list[int] = []
        self._what = what

    def __call__(self, conn: Connection, at: int, most: int) -> tuple[Sequence[tuple[Any, ...]], int | None]:
        self.reads.append(at)
        if self._what == "changes":
            return referrals.list_changes(conn, at, most, "north"), referrals.end_of_look(conn, at)
        status = None if self._what == "inbox" else self._what
        rows = inbox.list_arrived(conn, after=at, limit=most, status=status, unit="north")
        return rows, inbox.end_of_look(conn, after=at, status=status)


@pytest.mark.parametrize("what", ["inbox", "acknowledged", "changes"])
async def test_nothing_is_missed_and_nothing_looked_through_again(node: Node, what: str) -> None:
    looking, seen, cursor = Looking(what), list[int](), 0
    while True:
        page, passed = await look_through(node, looking, cursor, 2)
        if not page:
            break
        assert passed < page[0][0]
        seen += [row[0] for row in page]
        cursor = page[-1][0]
    assert tuple(seen) == OURS
    # Behind the last one a slice was passed; the next poll begins where it ends.
    assert passed == 3 * SLICE
    looking.reads.clear()
    assert await look_through(node, looking, passed, 2) == ([], passed)
    assert looking.reads == [passed]


@pytest.mark.parametrize("what", ["inbox", "acknowledged", "destroyed", "changes"])
async def test_a_read_looks_at_a_slice(node: Node, what: str) -> None:
    looking = Looking(what)
    page, passed = await look_through(node, looking, 0, 50)
    if what == "destroyed":
        assert (page, passed, looking.reads) == ([], 0, [0])
        return
    assert [row[0] for row in page] == list(OURS)
    assert (passed, looking.reads) == (0, [0, SLICE, 2 * SLICE, 3 * SLICE])
