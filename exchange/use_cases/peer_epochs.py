"""What is known of a peer's weekly keys, as far as the agency key that the roster lists for it today has signed it.

What lies in the database was verified when it was fetched; the agency key may have changed since. A key that was
changed takes along what it had signed, revocations too: who stole it can neither seal nor revoke in the new one's name.
Nor does it lie in the new one's way: it is deleted before what the new one has signed is stored, of which so many are
kept, the highest numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from exchange.envelope.epochs import EpochRevocation, EpochStatement, current_epoch
from exchange.envelope.errors import EnvelopeError, EpochError
from exchange.envelope.statements import Statement, parse_statement
from exchange.roster import Member
from exchange.storage.database import Connection
from exchange.storage.epochs import (
    StoredEpoch,
    StoredRevocation,
    drop_peer_epochs,
    drop_revocations,
    epoch_revocations,
    peer_epochs,
)
from exchange.storage.used_roster import used_roster
from exchange.use_cases.node import Node

StatementT = TypeVar("StatementT", bound=Statement)
RowT = TypeVar("RowT", StoredEpoch, StoredRevocation)


@dataclass(frozen=True, slots=True)
class StoredPeerEpochs:
    """A peer's statements and revocations as they lie in the database, read at one moment."""

    statements: tuple[StoredEpoch, ...]
    revocations: tuple[StoredRevocation, ...]

    def standing(self, peer: Member) -> PeerEpochs:
        """Those that today's agency key has signed."""
        return PeerEpochs(
            tuple(said for _, said in signed(EpochStatement, self.statements, peer.agency_key)),
            tuple(said for _, said in signed(EpochRevocation, self.revocations, peer.agency_key)),
        )


@dataclass(frozen=True, slots=True)
class PeerEpochs:
    """Verified statements and revocations of one peer."""

    statements: tuple[EpochStatement, ...]
    revocations: tuple[EpochRevocation, ...]

    @property
    def highest_seq(self) -> int:
        """The highest number seen."""
        return max([0, *(item.seq for item in self.statements), *(item.seq for item in self.revocations)])

    def current(self, at: int) -> EpochStatement:
        """The key to seal to at this time.

        Raises:
            EpochError: `no-epoch-key`.
        """
        return current_epoch(self.statements, self.revocations, at=at)

    def latest(self, at: int) -> EpochStatement | None:
        """The latest key whose week has begun, and that still counts."""
        begun = [item for item in self.statements if item.not_before <= at and self.counts(item.key_id)]
        return max(begun, key=lambda item: (item.not_before, item.seq), default=None)

    def counts(self, key_id: str) -> bool:
        """Whether this is still the key of its week: not revoked, and no other took its place."""
        for statement in self.statements:
            if statement.key_id == key_id:
                try:
                    return self.current(statement.not_before).key_id == key_id
                except EpochError:
                    return False
        return False


def read_peer_epochs(conn: Connection, agency: str) -> StoredPeerEpochs:
    """What is stored of a peer's weekly keys."""
    return StoredPeerEpochs(tuple(peer_epochs(conn, agency)), tuple(epoch_revocations(conn, agency)))


def outlived(
    node: Node, conn: Connection, agency: str, kind: type[StatementT], rows: Iterable[RowT]
) -> tuple[RowT, ...]:
    """The rows that the agency key of today has not signed, which count for nothing and may go.

    None where another process of this node has a newer roster: what its agency key has signed would be among them.
    """
    world = node.world()
    used, member = used_roster(conn), world.roster.members.get(agency)
    if member is None or (used is not None and used.version > world.roster.version):
        return ()
    rows = tuple(rows)
    standing = {row.key_id for row, _ in signed(kind, rows, member.agency_key)}
    return tuple(row for row in rows if row.key_id not in standing)


def forget_outlived(node: Node, conn: Connection, agency: str) -> None:
    """Delete what is stored of a peer and was not signed by its agency key of today, after `lock_peer`."""
    stored = read_peer_epochs(conn, agency)
    statements = outlived(node, conn, agency, EpochStatement, stored.statements)
    drop_peer_epochs(conn, agency, [row.key_id for row in statements])
    revocations = outlived(node, conn, agency, EpochRevocation, stored.revocations)
    drop_revocations(conn, agency, [row.key_id for row in revocations])


def signed(kind: type[StatementT], rows: Iterable[RowT], agency_key: bytes) -> Iterator[tuple[RowT, StatementT]]:
    """The rows that this agency key has signed, each with what it says; a peer's, or this agency's own."""
    for row in rows:
        said = _verified(kind, row.statement, agency_key)  # type: ignore[arg-type]  # a class is hashable
        if isinstance(said, kind):
            yield row, said


@lru_cache(maxsize=1024)
def _verified(kind: type[Statement], statement: bytes, agency_key: bytes) -> Statement | None:
    """The same bytes under the same key always say the same: whoever asks for cards again and again costs nothing."""
    try:
        return parse_statement(kind, statement).verify(agency_key)
    except EnvelopeError:
        return None
