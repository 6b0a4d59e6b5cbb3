"""Work in which each part stands for itself: a row that cannot be read holds up nothing but itself.

Rules:

* What a part raises is kept until all others had their turn, and raised then: nothing is hidden.
* A database that is away is no row's fault: it ends the work at once, and is told as an outage.
* Behind rows that fail the next ones are looked for in the same round: those that stay do not fill a page for ever.
* What is passed over on the way between two nodes, or on a page, is told once for each row by each process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from exchange.envelope.errors import EnvelopeError
from exchange.storage.database import Connection
from exchange.storage.due import due_for
from exchange.storage.referrals import ReferralRecord
from exchange.telemetry.logs import get_logger
from exchange.use_cases.node import Node
from exchange.use_cases.storage_lost import as_outage

PAGE: Final = 200
"""How many rows that are due are read at once."""
AT_ONCE: Final = 20
"""How many of them are changed in one transaction, with all that follows: on SQLite everybody waits for it."""
UNREADABLE: Final = (EnvelopeError, KeyError, ValueError)
"""What reading a row raises that is damaged, or holds a word that only a later version knows."""


def tell_unreadable(node: Node, table: str, row: str, error: Exception, *, peer: str | None = None) -> None:
    """The log says of a row that it is passed over: in which table, on the way to or from whom, and how it fails.

    Once, and not at every look: who lists, or delivers, comes by every few seconds. Its id is not written.
    """
    if (table, row) in node.told_unreadable:
        return
    node.told_unreadable.add((table, row))
    among = {} if peer is None else {"peer": peer}
    get_logger().error("row-unreadable", **among, kind=table, error_type=type(error).__name__)


@contextmanager
def left_if_unreadable(node: Node, conn: Connection, referral: str) -> Iterator[None]:
    """What is done inside is undone where a row of this referral cannot be read, and the log says so."""
    try:
        # What was written before it failed must not stay.
        with conn.begin_nested():
            yield
    except UNREADABLE as error:
        tell_unreadable(node, "referral", referral, error)


class PartlyFailedError(Exception):
    """Some of it could not be done; all the rest was.

    Attributes:
        parts: for each kind of work what went wrong first, by a code of the source.
    """

    def __init__(self, parts: Mapping[str, Exception]) -> None:
        super().__init__(", ".join(parts))
        self.parts = parts


class Failures:
    """What has failed so far, while the rest goes on."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: dict[str, Exception] = {}

    @contextmanager
    def kept(self, kind: str) -> Iterator[None]:
        """What is raised inside is kept. An outage is raised: nothing else would fare better."""
        try:
            yield
        except PartlyFailedError as error:
            self.count += 1
            self._parts = {**error.parts, **self._parts}
        except Exception as error:
            if as_outage(error) is not None:
                raise
            self.count += 1
            self._parts.setdefault(kind, error)

    def raise_kept(self) -> None:
        """At the end of all work.

        Raises:
            PartlyFailedError: something has failed.
        """
        for first in self._parts.values():
            raise PartlyFailedError(self._parts) from first


async def pages_due(node: Node, what: str, failures: Failures) -> AsyncIterator[list[ReferralRecord]]:
    """The referrals that are due for this: a page, and the next one as long as something of the last one failed.

    Those that went well are looked for again in the next round, as those are that nobody has come to.
    """
    at, seen = node.clock(), set[str]()
    while True:
        failed, most = failures.count, PAGE + len(seen)
        found = await node.database.read(lambda conn, most=most: due_for(conn, what, at, most))  # type: ignore[misc]
        # Whatever failed is due as before, and may be read before the rest or among it.
        fresh = [record for record in found if record.id not in seen]
        if fresh:
            yield fresh
        if failures.count == failed or len(found) < most:
            return
        seen.update(record.id for record in fresh)
