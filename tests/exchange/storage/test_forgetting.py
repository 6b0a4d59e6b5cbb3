"""What nobody needs any more is forgotten in slices, however much has piled up: others write in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Connection, Table, func, insert, select

from exchange.storage.access import forget_used
from exchange.storage.database import Database
from exchange.storage.inbox import forget_answers
from exchange.storage.statements import FORGOTTEN_AT_ONCE
from exchange.storage.tables import IDEMPOTENCY, SEEN_ENVELOPE, USED_JTI

NOW = 1_000
OVER = 2 * FORGOTTEN_AT_ONCE + 1
ROWS = {
    USED_JTI: lambda number: {"subject": "s", "jti": str(number)},
    IDEMPOTENCY: lambda number: {"client_id": "c", "key": str(number), "request_digest": "d", "status_code": 201},
    SEEN_ENVELOPE: lambda number: {"sender": "s", "id": str(number), "digest": "d"},
}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Most of it is over by now, three rows of each table a moment later."""
    opened = Database.open(database_url)

    def fill(conn: Connection) -> None:
        for table, row in ROWS.items():
            ends = [NOW] * OVER + [NOW + 1] * 3
            conn.execute(insert(table), [row(number) | {"expires_at": end} for number, end in enumerate(ends)])

    await opened.write(fill)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("forget", "tables"), [(forget_used, [USED_JTI, IDEMPOTENCY]), (forget_answers, [SEEN_ENVELOPE])]
)
async def test_slice_by_slice_and_nothing_that_is_not_over(
    database: Database, forget: Callable[[Connection, int], bool], tables: list[Table]
) -> None:
    def left(conn: Connection) -> list[int]:
        return [conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    for gone, more in ((FORGOTTEN_AT_ONCE, True), (2 * FORGOTTEN_AT_ONCE, True), (OVER, False), (OVER, False)):
        assert await database.write(lambda conn: forget(conn, NOW)) is more
        assert await database.read(left) == [OVER + 3 - gone] * len(tables)
