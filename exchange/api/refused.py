"""What the HTTP layer itself refuses, before a use case is called. Status and words stand in the catalogue."""

from __future__ import annotations

from exchange.schemas.problems import ProblemField


class RefusedRequestError(Exception):
    """The request is refused for its form. `code` stands in `exchange.api.catalogue`."""

    def __init__(
        self, code: str, *, fields: tuple[ProblemField, ...] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields
        self.headers = headers or {}
