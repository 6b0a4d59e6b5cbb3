"""Same key and body: the same answer. Same key and another body: a conflict.

Neither body nor key is kept, but digests under the storage key: a caller's key may be the number of a case, or worse of
her telephone, which whoever has the database would find by trying all of them.

The answer is stored in the transaction that stores the work, so that there is no moment in which one exists without
the other. Of two requests with one key at the same time the first commit wins and the other reads its answer, also
where it was refused because of what the first one did, or of what came after it.

A repeat is sent as it was kept, and not read: by a version that knows less of it her no is answered all the same.

An answer about a referral is destroyed with it. Its key stays to the end of its day: a repeat is told so, and nothing
is done a second time.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from exchange.envelope.errors import SealedRowError
from exchange.schemas.shapes import written
from exchange.storage.access import KeptAnswer, StoredAnswer, load_answer, store_answers
from exchange.storage.database import Connection
from exchange.storage.errors import IntegrityError
from exchange.use_cases.errors import ConflictError, GoneError, UseCaseError
from exchange.use_cases.node import Node

T = TypeVar("T", bound=BaseModel)
_CREATED: Final = 201


class Idempotency(NamedTuple):
    """The key of one write, with the body it came with."""

    client_id: str
    key: str
    body: bytes


class Stored(NamedTuple, Generic[T]):
    """An answer that is durable."""

    read: Callable[[], T]
    body: bytes
    """As it is sent: the same bytes each time, also those of a later version."""
    repeated: bool

    @property
    def answer(self) -> T:
        """What the body says.

        Raises:
            SealedRowError: it is kept from a later version, and says what this one does not know.
        """
        return self.read()


class Keep:
    """Stores the answer; called inside the transaction that stores the work."""

    def __init__(self, node: Node, idem: Idempotency) -> None:
        """Take the key under which the answer is kept, with the node whose clock and storage key it needs."""
        self._node = node
        self._idem = idem
        self._made: tuple[BaseModel, bytes] | None = None
        self.digest: Final = node.storage_key.keyed_digest("idempotency", idem.body)
        self.key: Final = node.storage_key.keyed_digest("idempotency-key", idem.key.encode())

    def __call__(self, conn: Connection, answer: BaseModel, referral: str | None) -> None:
        """Store the answer with the work; see `sealed` for the referral."""
        store_answers(conn, [self.sealed(answer, referral)])

    def sealed(self, answer: BaseModel, referral: str | None) -> KeptAnswer:
        """The answer as it is stored, for work that stores it itself.

        Args:
            answer: to this request.
            referral: what the answer is destroyed with. None where it is about no referral, or says nothing that its
                tombstone does not say: such an answer is repeated to the end of its key.
        """
        node, body = self._node, written(answer)
        self._made = (answer, body)
        sealed = node.seal_row(body, "idempotency", "sealed_answer", self.row(self.key))
        expires = node.clock() + node.limits.idempotency_ms
        return KeptAnswer(self._idem.client_id, self.key, self.digest, _CREATED, referral, sealed, expires)

    def row(self, key: str) -> str:
        """To which row an answer is sealed."""
        return f"{self._idem.client_id}/{key}"

    def body(self, answer: BaseModel) -> bytes:
        """As the answer is sent. Work that finds itself done before answers without keeping anything."""
        return self._made[1] if self._made is not None and self._made[0] is answer else written(answer)


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
    keep = Keep(node, idem)

    async def earlier() -> Stored[T] | None:
        def read(conn: Connection) -> StoredAnswer | None:
            found = load_answer(conn, idem.client_id, keep.key, idem.key)
            if found is None and beside is not None:
                beside(conn)
            return found

        found = await node.database.read(read)
        if found is None:
            return None
        if not hmac.compare_digest(found.request_digest, keep.digest):
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
        place = keep.row(found.key)
        body = node.open_row(found.sealed_answer, "idempotency", "sealed_answer", place)
        return Stored(lambda: _parsed(model, body), body, repeated=True)

    if (known := await earlier()) is not None:
        return known
    try:
        answer = await work(keep)
    except (IntegrityError, UseCaseError):
        # Another request with this key committed first, and what it changed may be what this one was refused for;
        # anything else that clashed or was refused is no repeat.
        if (known := await earlier()) is None:
            raise
        return known
    return Stored(lambda: answer, keep.body(answer), repeated=False)


def _parsed(model: type[T], body: bytes) -> T:
    try:
        return model.model_validate_json(body)
    except ValidationError:
        # Not as its cause either: it holds what was read.
        raise SealedRowError from None
