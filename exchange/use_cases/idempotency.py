"""Same key and body: the same answer. Same key and another body: a conflict. The body itself is never kept.

The answer is stored in the transaction that stores the work, so that there is no moment in which one exists without
the other. Of two requests with one key at the same time the first commit wins and the other reads its answer.

An answer about a referral is destroyed with it. Its key stays to the end of its day: a repeat is told so, and nothing
is done a second time.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from exchange.schemas.shapes import written
from exchange.storage.access import StoredAnswer, load_answer, store_answer
from exchange.storage.database import Connection
from exchange.storage.errors import IntegrityError
from exchange.use_cases.errors import ConflictError, GoneError
from exchange.use_cases.node import Node

T = TypeVar("T", bound=BaseModel)
_CREATED = 201


class Idempotency(NamedTuple):
    """The key of one write, with the body it came with."""

    client_id: str
    key: str
    body: bytes


class Stored(NamedTuple, Generic[T]):
    """An answer that is durable."""

    answer: T
    body: bytes
    """As it is sent: the same bytes each time."""
    repeated: bool


Keep = Callable[[Connection, BaseModel, str | None], None]
"""Stores the answer; called inside the transaction that stores the work.

The last argument is the referral that the answer is destroyed with. None where it is about no referral, or says nothing
that its tombstone does not say: such an answer is repeated to the end of its key.
"""


async def once(
    node: Node,
    idem: Idempotency,
    model: type[T],
    work: Callable[[Keep], Awaitable[T]],
    *,
    beside: Callable[[Connection], None] | None = None,
) -> Stored[T]:
    """Do the work once per key.

    Args:
        node: whose database keeps the answer.
        idem: the key, and what it came with.
        model: what the answer is.
        work: what is done where there is no answer yet.
        beside: reads what the work will need from the snapshot in which no answer stands.

    Raises:
        ConflictError: `idempotency-key-reused`: the key came with another body before.
        GoneError: `answer-destroyed`: the work was done, and its referral has been destroyed since.
    """
    digest = node.storage_key.keyed_digest("idempotency", idem.body)
    row = f"{idem.client_id}/{idem.key}"

    async def earlier() -> Stored[T] | None:
        def read(conn: Connection) -> StoredAnswer | None:
            found = load_answer(conn, idem.client_id, idem.key)
            if found is None and beside is not None:
                beside(conn)
            return found

        found = await node.database.read(read)
        if found is None:
            return None
        if not hmac.compare_digest(found.request_digest, digest):
            raise ConflictError(
                "idempotency-key-reused",
                "This Idempotency-Key came with another request: another body, or the same at another address or for "
                "another branch. Use a new key for a new request.",
            )
        if found.sealed_answer is None:
            raise GoneError(
                "answer-destroyed",
                "This request was carried out before. Its referral has been destroyed since, and the answer with it. "
                "Nothing was done this time.",
            )
        answer = model.model_validate_json(node.open_row(found.sealed_answer, "idempotency", "sealed_answer", row))
        return Stored(answer, written(answer), repeated=True)

    kept: tuple[BaseModel, bytes] | None = None

    def keep(conn: Connection, answer: BaseModel, referral: str | None) -> None:
        nonlocal kept
        body = written(answer)
        kept = (answer, body)
        sealed = node.seal_row(body, "idempotency", "sealed_answer", row)
        expires = node.clock() + node.limits.idempotency_ms
        store_answer(conn, idem.client_id, idem.key, StoredAnswer(digest, _CREATED, referral, sealed), expires)

    if (known := await earlier()) is not None:
        return known
    try:
        answer = await work(keep)
    except IntegrityError:
        # Another request with this key committed first; anything else that clashed is no repeat.
        if (known := await earlier()) is None:
            raise
        return known
    # Work that finds itself done before answers without keeping anything.
    body = kept[1] if kept is not None and kept[0] is answer else written(answer)
    return Stored(answer, body, repeated=False)
