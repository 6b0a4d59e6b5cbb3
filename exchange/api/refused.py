"""What the HTTP layer itself refuses, before a use case is called. Status and words stand in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.schemas.problems import ProblemField

_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "header-missing": ("missing", "The header {name} is missing."),
    "header-invalid": ("wrong-form", "The header {name} is not written in the form expected."),
    "header-repeated": ("repeated", "The header {name} stands here more than once."),
    "unsupported-media-type": ("another-type", "The header {name} is missing, or names another type than expected."),
    "unit-not-yours": ("another-branch", "The header {name} names another branch than the one of this client."),
}


class RefusedRequestError(Exception):
    """The request is refused for its form. `code` stands in `exchange.api.catalogue`."""

    def __init__(
        self,
        code: str,
        *,
        detail: str | None = None,
        fields: tuple[ProblemField, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.fields = fields
        self.headers = headers or {}


def about_header(code: str, name: str) -> RefusedRequestError:
    """A header is missing or wrong: it is named, and its value is not repeated."""
    wrong, sentence = _HEADERS[code]
    field = ProblemField(path=f"header.{name}", code=wrong, sentence=sentence.format(name=name))
    return RefusedRequestError(code, fields=(field,))
