"""What lies in inbox and outbox: the class of an envelope, and its header, sealed under the storage key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic_core import from_json

from exchange.envelope.errors import SealedRowError
from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.storage.inbox import ArrivedHead, ArrivedRecord, ListedRecord
from exchange.storage.outbox import HeldBack, OutgoingRecord
from exchange.use_cases.node import Node
from exchange.use_cases.row_by_row import tell_unreadable

_CLASSES: Final[Mapping[str, KindClass]] = {kind.value: class_of(kind) for kind in Kind}


def class_here(item: ArrivedRecord | OutgoingRecord) -> KindClass:
    """The class of an envelope that lies here."""
    return _CLASSES[item.kind]


def header_bytes(node: Node, item: ArrivedRecord | ListedRecord | ArrivedHead) -> bytes | None:
    """The header as it was signed; nothing once it is destroyed."""
    if item.sealed_header is None:
        return None
    return node.open_row(item.sealed_header, "inbox", "sealed_header", item.id)


def header_members(node: Node, item: ArrivedRecord | ListedRecord | ArrivedHead) -> dict[str, Any]:
    """The members of the header, which was parsed strictly when it came; none once it is destroyed."""
    return members_of(header_bytes(node, item))


def readable_headers(node: Node, items: Iterable[ArrivedRecord]) -> dict[str, bytes | None]:
    """The headers of those items of which they open, or are destroyed; the log says where one does not."""
    headers = dict[str, bytes | None]()
    for item in items:
        try:
            headers[item.id] = header_bytes(node, item)
        except SealedRowError as error:
            tell_unreadable(node, "inbox", item.id, error)
    return headers


def members_of(header: bytes | None) -> dict[str, Any]:
    """The members of a header; none where it is destroyed."""
    return from_json(header) if header is not None else {}


def outgoing_header(node: Node, item: OutgoingRecord | HeldBack) -> bytes:
    """The header of an envelope that was made here and has not been destroyed, as it was signed.

    Raises:
        SealedRowError: it was destroyed, or changed.
    """
    return node.open_row(item.sealed_header or b"", "outbox", "sealed_header", item.id)
