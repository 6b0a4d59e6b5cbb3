"""What proves that a release was decided by this node: a mark beside it, written in the transaction of the release.

Rules:

* The mark is a keyed digest over the release and the id of its envelope. Who can write to the main database, and has no
  key, can make none: what such a one queues does not leave, and what such a one writes is not signed.
* A row of before marks were written has none. It leaves as long as the node key of today has signed a release of
  exactly these bytes, and no longer.
* That a mark is right says that this release was given once, and not that it still stands: who has an older copy of a
  row can bring both back.
"""

from __future__ import annotations

from typing import Final

from exchange.envelope.errors import StatementError
from exchange.envelope.format import Envelope
from exchange.envelope.statements import ReleaseStatement, Signed, parse_statement
from exchange.storage.outbox import MarkedRelease, OutgoingRecord
from exchange.use_cases.headers import outgoing_header
from exchange.use_cases.node import Node

_USE: Final = "outbox.release"


def marked(node: Node, envelope_id: str, release: Signed[ReleaseStatement]) -> MarkedRelease:
    """A release that was decided here, with its mark."""
    statement = release.to_bytes()
    return MarkedRelease(statement, node.storage_key.keyed_digest(_USE, _beside(envelope_id, statement)))


def is_marked(node: Node, item: OutgoingRecord) -> bool:
    """Whether the release beside this envelope was written by this node, with whatever key it signed then."""
    if item.release is None:
        return False
    return node.storage_key.has_marked(_USE, _beside(item.id, item.release), item.release_mark)


def was_released(node: Node, item: OutgoingRecord) -> bool:
    """Whether this node has released this disclosure."""
    return is_marked(node, item) or _is_signed(node, item)


def _beside(envelope_id: str, release: bytes) -> bytes:
    # An id has one length.
    return envelope_id.encode() + release


def _is_signed(node: Node, item: OutgoingRecord) -> bool:
    try:
        said = parse_statement(ReleaseStatement, item.release or b"").verify(node.node_key.public)
    except StatementError:
        return False
    # Worked out from what would leave: the digest in the row can be made that of another, of which a release is known.
    sealed = outgoing_header(node, item), item.wrapped_key or b"", item.ciphertext or b"", item.signature or b""
    return said.disclosure == Envelope(*sealed).digest()
