"""What runs at every wake-up, and for each referral that is destroyed, reads an index, however many there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from exchange.storage import access, due, inbox, outbox
from exchange.storage.database import Database
from exchange.storage.migrate import History, upgrade
from exchange.storage.prepared import Prepared

GIVEN = {"the_time": 1, "most": 200, "the_referral": "f" * 32, "after": 0, "the_unit": "north"}
READ_OFTEN = {
    "releases that are due": due._DUE_FOR["release"],
    "destruction that is due": due._DUE_FOR["destroy"],
    "answers that are overdue": due._DUE_FOR["overdue"],
    "offers without an answer": due._DUE_FOR["expired"],
    "offers without a receipt": due._DUE_FOR["undelivered"],
    "envelopes that are too late": outbox._EXPIRED,
    "answers that end with a referral": access._WIPE_ANSWERS,
    "what came for one referral": inbox._PAGES[None, False, True],
    "what is new of it to a branch": inbox._PAGES["new", True, True],
}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    upgrade(url, History.MAIN)
    opened = Database.open(url)
    yield opened
    await opened.close()


async def _plan(database: Database, statement: Prepared) -> list[str]:
    def plan(conn: Connection) -> list[str]:
        text = statement._text(conn)
        query = f"EXPLAIN QUERY PLAN {text._sql}"
        driver = conn.connection.driver_connection
        assert driver is not None
        return [row[3] for row in driver.execute(query, text._bound(GIVEN)).fetchall()]

    return await database.read(plan)


@pytest.mark.parametrize("name", READ_OFTEN)
async def test_no_clock_reads_a_whole_table(database: Database, name: str) -> None:
    assert all("USING" in step and "INDEX" in step for step in await _plan(database, READ_OFTEN[name]))


@pytest.mark.parametrize(
    ("what", "indexes"),
    [
        pytest.param(
            "consent-ends-soon",
            ["INDEX ix_referral_open", "INDEX sqlite_autoindex_consent_1", "INDEX ix_change_referral"],
            id="consents-that-end",
        ),
        pytest.param("forget", ["INDEX ix_referral_forget", "INDEX ix_outbox_referral"], id="tombstones-that-end"),
    ],
)
async def test_what_asks_another_table_too_reads_these_indexes(
    database: Database, what: str, indexes: list[str]
) -> None:
    steps = [
        step for step in await _plan(database, due._DUE_FOR[what]) if not step.startswith("CORRELATED SCALAR SUBQUERY")
    ]
    assert len(steps) == len(indexes)
    assert all(index in step for index, step in zip(indexes, steps, strict=True))
