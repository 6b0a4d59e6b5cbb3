"""Headers as they lie in inbox and outbox: sealed under the storage key."""

from __future__ import annotations

from typing import Any

from exchange.envelope.wire import read_again
from exchange.storage.inbox import ArrivedRecord
from exchange.storage.outbox import HeldBack, OutgoingRecord
from exchange.use_cases.node import Node


def header_bytes(node: Node, item: ArrivedRecord) -> bytes | None:
    """The header as it was signed; nothing once it is destroyed."""
    if item.sealed_header is None:
        return None
    return node.open_row(item.sealed_header, "inbox", "sealed_header", item.id)


def header_members(node: Node, item: ArrivedRecord) -> dict[str, Any]:
    """The members of the header, which was parsed strictly when it came; none once it is destroyed."""
    return members_of(header_bytes(node, item))


def members_of(header: bytes | None) -> dict[str, Any]:
    """The members of a header; none where it is destroyed."""
    return read_again(header) if header is not None else {}


def outgoing_header(node: Node, item: OutgoingRecord | HeldBack) -> bytes:
    """The header of an envelope that was made here and has not been destroyed, as it was signed.

    Raises:
        SealedRowError: it was destroyed, or changed.
    """
    return node.open_row(item.sealed_header or b"", "outbox", "sealed_header", item.id)
