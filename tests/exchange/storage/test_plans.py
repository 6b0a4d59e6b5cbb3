"""No statement of the storage reads the whole of a table that grows, on either database: every one is found and asked.

Plans are those for any values, so that a partial index counts only where the statement has its words. PostgreSQL is
told to read a whole table only where it knows nothing else: most tables are empty here.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Connection, event

import exchange.storage
from exchange.storage.access import StoredClient
from exchange.storage.batches import insert_referrals
from exchange.storage.consents import StaleConsentError, StoredConsent
from exchange.storage.database import Database
from exchange.storage.epochs import MarkedTime
from exchange.storage.outbox import MarkedRelease
from exchange.storage.peer_leases import Longest, PeerLease
from exchange.storage.prepared import Prepared
from exchange.storage.referrals import ReferralRecord
from exchange.storage.tables import KEY_METADATA, METADATA

SMALL = {"peer", "peer_epoch", "peer_card", "own_epoch", "epoch_revocation", "used_roster", "oauth_client"} | {
    "clock_look",
    "lost_data",
}
"""They have a few rows for each agency or for the node, whatever was sent."""
GROWING = (METADATA.tables.keys() | KEY_METADATA.tables.keys()) - SMALL - {"epoch_private"}
OF_WHAT_WAITS = {
    index.name
    for table in METADATA.tables.values()
    for index in table.indexes
    if index.dialect_options["postgresql"]["where"] is not None
}
"""Indexes that hold what has not ended: they may be read from one end to the other."""
NOT_THE_NODES = {"database", "engine", "errors", "lanes", "migrate", "migrations", "transaction", "versions"}
"""Connections, transactions and migrations, and no statement of a node at work."""
MODULES = [
    import_module(f"exchange.storage.{found.name}")
    for found in pkgutil.iter_modules(exchange.storage.__path__)
    if found.name not in NOT_THE_NODES | {"wake", "wake_channels"}
]
SAMPLES: dict[str, Any] = {
    "str": "x",
    "str | None": "x",
    "int": 1,
    "bytes": b"x",
    "Iterable[str]": ["x", "y"],
    "MarkedRelease": MarkedRelease(b"x", "x"),
    "MarkedTime": MarkedTime(1, "x"),
    "PeerLease": PeerLease("a", "t", 0, None, None, None, None),
    "StoredClient": StoredClient("x", "{}", "", None, "active", 1),
    "StoredConsent": StoredConsent("x", "s", 1, "active", 1, 1, None),
    "Longest": Longest(1, 1),
    "Table": METADATA.tables["inbox"],
}
"""What a function that makes its statement at the call is called with."""


def _prepared() -> Iterator[tuple[str, Prepared]]:
    for module in MODULES:
        if module.__name__.endswith("key_store"):
            continue  # another database; its tables are asked for by their keys
        for name, value in vars(module).items():
            entries: dict[Any, Any] = {"": value}
            if isinstance(value, dict | tuple):
                entries = value if isinstance(value, dict) else dict(enumerate(value))
            for key, entry in entries.items():
                if isinstance(entry, Prepared):
                    yield f"{module.__name__.rpartition('.')[2]}.{name}{key}", entry


def _making() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            mine = function.__module__ == module.__name__ and name != "_lock"
            if mine and re.search(r"\bconn\.execute\(", inspect.getsource(function)):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", function


PREPARED, MAKING = dict(_prepared()), dict(_making())
WHERE_IT_WAS_RESTORED = "visibility.settle_restored"
"""It writes every row, once."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A main database with referrals alone: so many that each is better looked up."""
    opened = Database.open(database_url)
    many = [ReferralRecord(f"{number:032x}", "receiving", "p", "s", "c", "sent", 0, 0, 0) for number in range(2000)]
    await opened.write(lambda conn: insert_referrals(conn, many))
    yield opened
    await opened.close()


def _wholes(conn: Connection, statement: str) -> list[str]:
    """The steps of a plan that read all of something that grows."""
    driver: Any = conn.connection.driver_connection
    if conn.dialect.name == "sqlite":
        steps = driver.execute(f"EXPLAIN QUERY PLAN {statement}", [None] * statement.count("?")).fetchall()
        return [step for *_, step in steps if (whole := _SCAN.match(step)) and _is_too_much(*whole.groups())]
    names = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
    for number, name in enumerate(names, start=1):
        statement = statement.replace(f"%({name})s", f"${number}")
    given = f"({', '.join(['NULL'] * len(names))})" if names else ""
    with conn.connection.driver_connection.cursor() as cursor:  # type: ignore[union-attr]
        for setting in ("seqscan", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{setting} = off".encode())
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE asked AS {statement.replace('%%', '%')}".encode())
        [(plans,)] = cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked{given}".encode()).fetchall()
        cursor.execute("DEALLOCATE asked")
    return [
        str(node)
        for node in _nodes(plans[0]["Plan"])
        if not {"Index Cond", "TID Cond"} & node.keys() and _is_scan(node)
    ]


_SCAN = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


def _is_too_much(table: str, index: str | None) -> bool:
    return re.sub(r"_\d+$", "", table) in GROWING and index not in OF_WHAT_WAITS


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {name: value for name, value in node.items() if name != "Plans"}
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _is_scan(node: dict[str, Any]) -> bool:
    # A scan of an index for a bitmap names the index alone.
    if node["Node Type"] == "Bitmap Index Scan":
        return node["Index Name"] not in OF_WHAT_WAITS
    return node["Node Type"].endswith("Scan") and (
        node["Node Type"] != "Bitmap Heap Scan" and _is_too_much(node.get("Relation Name", ""), node.get("Index Name"))
    )


async def test_no_prepared_statement_does(database: Database) -> None:
    def ask(conn: Connection) -> dict[str, list[str]]:
        return {name: _wholes(conn, statement._text(conn)._sql) for name, statement in PREPARED.items()}

    assert len(PREPARED) > 90
    assert {name: steps for name, steps in (await database.write(ask)).items() if steps} == {}


async def test_no_statement_that_is_made_at_the_call_does(database: Database) -> None:
    said: list[str] = []
    event.listen(database._write_engine, "before_cursor_execute", lambda _c, _cur, text, *_: said.append(text))

    def call(conn: Connection, name: str) -> None:
        parameters = list(inspect.signature(MAKING[name]).parameters.values())[1:]
        MAKING[name](conn, **{one.name: SAMPLES[one.annotation] for one in parameters})

    assert "outbox.to_send_again" in MAKING
    for name in MAKING.keys() - {WHERE_IT_WAS_RESTORED}:
        said.clear()
        # Some find no row to change, and say so.
        with suppress(StaleConsentError):
            await database.write(lambda conn, name=name: call(conn, name))  # type: ignore[misc]
        assert said, name
        texts = dict.fromkeys(said)
        found = await database.write(lambda conn, texts=texts: [_wholes(conn, text) for text in texts])  # type: ignore[misc]
        assert [steps for steps in found if steps] == [], name


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM outbox WHERE kind = 'offer'",
        "SELECT id FROM referral WHERE peer = 'x'",
        "SELECT id FROM referral WHERE destroyed_at IS NOT NULL ORDER BY id",
    ],
)
async def test_a_statement_that_does_is_found(database: Database, statement: str) -> None:
    assert len(await database.write(lambda conn: _wholes(conn, statement))) == 1
