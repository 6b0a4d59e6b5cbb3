"""From an answer of a use case to bytes. Absent members are left out; nothing is ever null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from exchange.schemas.shapes import written
from exchange.use_cases.idempotency import Stored

JSON: Final = "application/json"
ENVELOPE: Final = "application/vnd.referral-envelope+json"
_CREATED: Final = 201

T = TypeVar("T", bound=BaseModel)


def render(
    answer: BaseModel,
    *,
    status: int = 200,
    media_type: str = JSON,
    headers: Mapping[str, str] | None = None,
    least_bytes: int = 0,
) -> Response:
    """An answer for this caller, now; what is shorter than `least_bytes` is filled with spaces."""
    body = written(answer).ljust(least_bytes)
    return Response(body, status_code=status, headers=dict(headers or {}), media_type=media_type)


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document that is no model, as JSON."""
    return json.dumps(dict(document), ensure_ascii=False, separators=(",", ":")).encode()


def created(stored: Stored[T]) -> Response:
    """201 for something new, 200 for the same answer again."""
    return Response(stored.body, status_code=200 if stored.repeated else _CREATED, media_type=JSON)


def revalidated(request: Request, body: bytes, *, media_type: str = JSON, max_age: int = 0) -> Response:
    """Something that says nothing about a person: a cache may keep it and ask whether it is still the same."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"max-age={max_age}" if max_age else "no-cache"}
    asked = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    if tag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def next_link(request: Request, cursor: str | None, **parameters: str | int | None) -> dict[str, str]:
    """The `Link` header to the next page (RFC 8288), if there is one."""
    if cursor is None:
        return {}
    query = {"cursor": cursor, **{name: value for name, value in parameters.items() if value is not None}}
    return {"Link": f'<{request.url.path}?{urlencode(query)}>; rel="next"'}


def wants_envelope(request: Request) -> bool:
    """Whether the caller asks for the sealed envelope by its own media type."""
    for part in ",".join(request.headers.getlist("accept")).split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_range == ENVELOPE and not any(_refuses(parameter) for parameter in parameters):
            return True
    return False


def _refuses(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0.") == ""
