"""What every refusal to a peer must be, looked at from outside: one check for all of them.

* The answer's bytes follow from step and code alone, so nothing that was submitted is in them. The headers hold nothing
  of it either, nor does any line of the log: no value, and no eight characters that an id, digest or name begins with.
* Not one row of any table of either database is another than before. The only bookkeeping that a refusal may do is a
  sign of life: `peer.due_at` and `peer.last_contact`, which any contact of a proven member moves.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from opentelemetry.metrics import NoOpMeter
from sqlalchemy import MetaData, event, select
from sqlalchemy.engine import Engine
from support.federation import TestNode
from support.lying_peer import LyingPeer, batch_of

from exchange.api.codes import ENTRIES
from exchange.envelope.format import Envelope
from exchange.limits import LIMITS
from exchange.storage import prepared
from exchange.storage.database import _VERSION, Connection
from exchange.storage.tables import KEY_METADATA, METADATA
from exchange.telemetry import AccessLog
from exchange.telemetry.logs import SINK
from exchange.telemetry.measurements import Measurements
from exchange.use_cases.receive_envelopes import LATER_S, PROBLEM_BASE

CANARY = "Canary-Bunga"
OVERTAKEN_S = 1
"""A forward that may have overtaken its offer is asked for again at once."""
_BOOKKEEPING = {"peer": {"due_at", "last_contact"}}
_SHORTEST_ECHO = 8
_SECRETIVE = re.compile(r"[0-9a-f]{32,64}|[A-Za-z0-9_-]{40,}")
"""Ids, digests and what is written in base64url."""

Rows = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a lie has to be answered with."""

    step: int
    code: str
    later: bool = False
    """Not final: this node may know more when it is asked again."""

    @property
    def answer(self) -> dict[str, Any]:
        """The answer to the one envelope, whole."""
        if self.later:
            wait = OVERTAKEN_S if self.code == "unknown-referral" else LATER_S
            return {"result": "later", "retry_after": wait}
        problem = {
            "type": PROBLEM_BASE + self.code,
            "title": "The envelope was refused",
            "status": 422,
            "code": self.code,
            "who": "sender",
            "detail": f"Step {self.step} of the verification refused this envelope. It is final; make a new one.",
            "fields": [],
        }
        return {"result": "refused", "problem": problem}


@dataclass(slots=True)
class Watched:
    """A node whose databases, log lines and database statements are looked at."""

    one: TestNode
    log: io.StringIO

    async def rows(self) -> Rows:
        """Every row of every table of both databases, but for the allowed bookkeeping."""
        return await rows_of(self.one)

    def forget_log(self) -> None:
        """Look only at lines from here on."""
        self.log.seek(0)
        self.log.truncate()


@contextmanager
def watched(one: TestNode) -> Iterator[Watched]:
    """Write this node's log, requests included and down to the last detail, where a test can read it."""
    log = io.StringIO()
    served = one.network.apps[one.port]
    measurements = Measurements(NoOpMeter("watched"))
    one.network.apps[one.port] = httpx2.ASGITransport(app=AccessLog(served.app, measurements=measurements))  # type: ignore[arg-type]
    level, stream = SINK._level, SINK._stream
    SINK.configure(level="debug", stream=log)
    try:
        yield Watched(one, log)
    finally:
        SINK._level, SINK._stream = level, stream
        one.network.apps[one.port] = served


async def rows_of(one: TestNode) -> Rows:
    """Every row of every table of both databases of a node, but for the allowed bookkeeping."""

    def dump(metadata: MetaData) -> Any:
        def read(conn: Connection) -> Rows:
            found = {}
            for table in metadata.sorted_tables:
                columns = [c for c in table.c if c.name not in _BOOKKEEPING.get(table.name, set())]
                found[table.name] = sorted(repr(tuple(row)) for row in conn.execute(select(*columns)))
            return found

        return read

    main: Rows = await one.node.database.read(dump(METADATA))
    keys: Rows = await one.node.key_store.database.read(dump(KEY_METADATA))
    return main | keys


def written(before: Rows, after: Rows) -> dict[str, list[tuple[tuple[str, int], ...]]]:
    """What was written between the two: of each new or changed row, for every column, what it is and how long."""

    def shape(row: str) -> tuple[tuple[str, int], ...]:
        values = ast.literal_eval(row)
        return tuple((type(one).__name__, len(one) if isinstance(one, str | bytes) else 0) for one in values)

    return {table: sorted(shape(row) for row in set(rows) - set(before[table])) for table, rows in after.items()}


@contextmanager
def statements_of(one: TestNode) -> Iterator[list[str]]:
    """Every statement that this node's databases execute meanwhile, in order.

    But for the look at their version: it is due by time, whatever is asked.
    """
    seen: list[str] = []
    stores = (one.node.database, one.node.key_store.database)
    engines = {engine for store in stores for engine in (store._read_engine, store._write_engine)}

    def heard(conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if conn.engine in engines and statement != _VERSION.text:
            seen.append(statement)

    def heard_prepared(text: Any, conn: Any, parameters: Any) -> Any:
        heard(conn, None, text._sql)
        return execute(text, conn, parameters)

    execute = prepared._Text.execute
    event.listen(Engine, "before_cursor_execute", heard)
    prepared._Text.execute = heard_prepared  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", heard)
        prepared._Text.execute = execute  # type: ignore[method-assign]


async def refused(receiver: Watched, liar: LyingPeer, lie: Envelope | dict[str, Any], expected: Refusal) -> None:
    """Send one lie, and look at everything that must hold of a refusal."""
    await liar.token()
    before = await receiver.rows()
    receiver.forget_log()
    answer = await liar.post(batch_of(lie))
    _check_refusal(receiver, answer, expected, _values_in(lie))
    assert await receiver.rows() == before


def _check_refusal(node: Watched, answer: httpx2.Response, expected: Refusal, sent: list[str]) -> None:
    """The answer to a batch of one envelope, against the rules above but for the rows."""
    assert answer.status_code == 200
    said = json.dumps({"answers": [expected.answer]}, separators=(",", ":")).encode()
    assert answer.content == said.ljust(LIMITS.answer_bytes)
    assert answer.headers["content-type"] == "application/json"
    echoes_nothing(node, answer, sent)


def check_problem(node: Watched, answer: httpx2.Response, code: str, sent: list[str]) -> None:
    """The answer to what is no batch at all: a problem document, and of it only what stands in the catalogue."""
    document = answer.json()
    entry = ENTRIES[code]
    assert (answer.status_code, document["code"], document["who"]) == (entry.status, code, entry.who)
    assert answer.headers["content-type"] == "application/problem+json"
    assert document.keys() <= {"type", "title", "status", "code", "who", "detail", "fields"}
    assert document.get("fields", []) == []
    echoes_nothing(node, answer, sent)


def echoes_nothing(node: Watched, answer: httpx2.Response, sent: list[str]) -> None:
    """No value that was sent, and no beginning of one, is in the answer or in the log."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
    said = {"body": answer.content.decode(), "headers": headers, "log": node.log.getvalue()}
    assert node.log.getvalue().count('"event":"api.request"') == 1
    for value in sent:
        for place, text in said.items():
            assert value[:_SHORTEST_ECHO] not in text, place


def _values_in(envelope: Envelope | dict[str, Any]) -> list[str]:
    """Every id, digest, name and secret-looking text in an envelope, and its own digest."""
    found = [CANARY]
    if isinstance(envelope, Envelope):
        found += [envelope.digest(), *_texts(envelope.to_json())]
        for part in (envelope.header, envelope.release or b""):
            with suppress(ValueError, RecursionError):
                found += _texts(json.loads(part))
    else:
        found += _texts(envelope)
    return [value for value in found if len(value) >= _SHORTEST_ECHO]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        inside = [text for member in value.values() for text in _texts(member)]
        return inside + [value[name] for name in ("from", "to", "issuer", "recipient") if name in value]
    return [value] if isinstance(value, str) and _SECRETIVE.fullmatch(value) else []
