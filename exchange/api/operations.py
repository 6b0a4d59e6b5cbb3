"""What a route says about itself beside its parameters: its answer, its own refusals. The OpenAPI writer reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel

_ATTRIBUTE: Final = "__operation__"
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """What one route answers."""

    answer: type[BaseModel] | None = None
    """The model of its answer."""
    described: str = "Done."
    """When it answers so."""
    status: int = 200
    repeats: bool = False
    """A repeat under the same key is 200 with the first answer."""
    revalidated: bool = False
    """Who sends the `ETag` of an earlier answer in `If-None-Match` is answered 304 while it is still the same."""
    headers: tuple[str, ...] = ()
    """Headers of its answer by which a caller acts."""
    unavailable: dict[str, Any] | None = None
    """An example of its answer with 503, where that is the same model."""
    problems: tuple[str, ...] = ()
    """Codes of the catalogue that this route alone may answer, beside those that follow from its parameters."""
    media: dict[str, Any] = field(default_factory=dict)
    """Where the answer is no model: media type to an OpenAPI media type object; or further ones beside it."""
    request_media: dict[str, Any] = field(default_factory=dict)
    """The same for a request that is not read by a model."""


def operation(spec: Operation) -> Callable[[Endpoint], Endpoint]:
    """Attach what a route says about itself to its endpoint."""

    def attach(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _ATTRIBUTE, spec)
        return endpoint

    return attach


def operation_of(endpoint: Callable[..., Any]) -> Operation:
    """What a route says about itself.

    Raises:
        AttributeError: it says nothing, which no route may.
    """
    spec: Operation = getattr(endpoint, _ATTRIBUTE)
    return spec
