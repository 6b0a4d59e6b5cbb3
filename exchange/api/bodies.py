"""Reading a request body: bytes first, then one strict reading of them.

Rules, in this order:

1. The size is capped while the body arrives (413), also by its declared length. Of one caller so much is on its way at
   once (`exchange.api.room`), and each body has its time (`exchange.api.arriving`). Of a caller whose body took longer
   than a second is asked again whether it may call: who was revoked meanwhile does nothing any more (401).
2. The content type is `application/json`, in UTF-8, and nothing is compressed (415).
3. The bytes are one JSON object without a repeated member, `null`, `NaN` or a byte order mark (400): what is absent has
   one spelling (`exchange.api.spelling`).
4. The model reads the same bytes: unknown members, wrong types and unknown terms are refused (422), each with path and
   code. Neither a submitted value nor a name that the sender made up is repeated.

The exact bytes are kept beside the model: the digest under an `Idempotency-Key` is a digest of what was sent.
"""

import re
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from exchange.api.callers import declared_size, one_header, sender
from exchange.api.invalid import problem_fields
from exchange.api.refused import RefusedRequestError, about_header
from exchange.api.spelling import SEND, check_spelling
from exchange.elapsed import elapsed_s
from exchange.limits import KIB, LIMITS
from exchange.schemas.problems import ProblemField
from exchange.use_cases.acting import Acting
from exchange.use_cases.idempotency import Idempotency

LARGEST_BODY = 256 * 1024
"""Of any request of the agency's own systems: four times the largest content, since JSON may escape it."""
_LONG_S = 1.0
"""A body may take so long without a second look at its caller: almost all do, and none of them costs a question."""
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_COMPRESSED = ProblemField(
    path="header.Content-Encoding", code="compressed", sentence="The body is compressed: nothing here reads that."
)
_JSON = re.compile(r"application/json(\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)

T = TypeVar("T", bound=BaseModel)


class Parsed(NamedTuple, Generic[T]):
    """A body, read, and the bytes it was read from."""

    value: T
    raw: bytes


class Nothing(BaseModel):
    """The body of a call that takes none: absent, or an empty object."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonBody(Generic[T]):
    """A dependency that reads one model.

    Args:
        model: what is read.
        optional: an absent body counts as `{}`.
        strict: refuse a number in quotes and the like. Off for models that hold moments of the consent and referral
            rooms: those check each value themselves, before Pydantic does.
    """

    def __init__(self, model: type[T], *, optional: bool = False, strict: bool = True) -> None:
        self.model = model
        self.optional = optional
        self._strict = strict

    async def __call__(self, request: Request) -> Parsed[T]:
        """The body of this request."""
        raw = await _senders_body(request, LARGEST_BODY)
        if not raw and self.optional:
            raw = b"{}"
        else:
            require_json(request)
        check_spelling(raw, self.model)
        try:
            return Parsed(self.model.model_validate_json(raw, strict=self._strict or None), raw)
        except ValidationError as error:
            refused = _refused(error, self.model)
        # Raised outside the handler: the first error holds the submitted values and must not hang on to this one.
        raise refused


def _refused(error: ValidationError, model: type[BaseModel]) -> RefusedRequestError:
    if any(detail["type"] == "json_invalid" for detail in error.errors(include_url=False, include_input=False)):
        # `check_spelling` has read it as JSON already; half of a surrogate pair is all that only the model refuses.
        return RefusedRequestError("not-json", detail=f"An escape in the body stands for half of a character. {SEND}")
    return RefusedRequestError("invalid-request", fields=problem_fields(error, model))


async def read_body(request: Request, largest: int) -> bytes:
    """The bytes of the body, if they are not too many.

    Raises:
        RefusedRequestError: they are.
    """
    return await _read(request, largest, declared_size(request))


async def _read(request: Request, largest: int, declared: int | None) -> bytes:
    if declared is not None and declared > largest:
        raise _too_large(largest)
    most = largest if declared is None else declared
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(largest)
        parts.append(part)
    return b"".join(parts)


def _too_large(largest: int) -> RefusedRequestError:
    detail = f"The body of this request has at most {largest // KIB} KiB. Send less in one request."
    return RefusedRequestError("body-too-large", detail=detail)


async def _senders_body(request: Request, largest: int) -> bytes:
    """The bytes of the body of a proven caller, within the room that it has."""
    declared, known, began = declared_size(request), sender(request), elapsed_s()
    with known.room.taken(known.caller, largest if declared is None else min(declared, largest)):
        raw = await _read(request, largest, declared)
    if elapsed_s() - began > _LONG_S:
        await known.stands()
    return raw


async def federation_body(request: Request) -> bytes:
    """The bytes of a batch; the use case reads them, strictly. A peer hears the code and no more."""
    if _is_compressed(request) or not _is_json(request):
        raise RefusedRequestError("unsupported-media-type")
    return await _senders_body(request, LIMITS.batch_bytes)


def require_json(request: Request) -> None:
    """Refuse another content type than JSON in UTF-8, and a body that is compressed."""
    require_plain(request)
    if not _is_json(request):
        raise about_header("unsupported-media-type", "Content-Type")


def require_plain(request: Request) -> None:
    """Refuse a body that is compressed: it would be read as it is, and be called broken."""
    if _is_compressed(request):
        detail = "The body is compressed. Send it as it is, without the header Content-Encoding."
        raise RefusedRequestError("unsupported-media-type", detail=detail, fields=(_COMPRESSED,))


def _is_json(request: Request) -> bool:
    return _JSON.fullmatch(one_header(request, "content-type") or "") is not None


def _is_compressed(request: Request) -> bool:
    return (one_header(request, "content-encoding") or "identity").lower() != "identity"


class IdempotencyHeader:
    """A dependency: the key under which a repeat of this request gets the same answer."""

    async def __call__(self, request: Request) -> str:
        """The key, required."""
        key = one_header(request, "idempotency-key")
        if key is None:
            raise about_header("header-missing", "Idempotency-Key")
        if IDEMPOTENCY_KEY.fullmatch(key) is None:
            raise about_header("header-invalid", "Idempotency-Key")
        return key


IdempotencyKey = Annotated[str, Depends(IdempotencyHeader())]
BatchBytes = Annotated[bytes, Depends(federation_body)]
NoBody = Annotated[Parsed[Nothing], Depends(JsonBody(Nothing, optional=True))]


def idempotency(request: Request, acting: Acting, key: str, body: Parsed[Any]) -> Idempotency:
    """The key with what it stands for: the same body sent elsewhere, or for another branch, is another request."""
    target = f"{request.method} {request.scope['path']} {acting.unit or ''}\n".encode()
    return Idempotency(acting.client_id, key, target + body.raw)
