"""The base of everything that is sealed: strict to read, one spelling to write, silent when printed.

Rules:

* Writing is canonical JSON; absent members are left out and nothing is null.
* Reading accepts exactly the bytes that writing produces. A repeated member, another order, another spelling of a
  time or a text: refused, because two readers could understand them differently.
* A problem names a path and a code. Values, and names that the sender made up, are never repeated.
* Printing shows which members are there, never what they say.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.canonical_json import canonical
from exchange.referral.errors import ContentInvalidError, ContentProblem
from exchange.referral.values import AS_WRITTEN

_RENAMED = {
    "extra_forbidden": "unknown-member",
    "json_invalid": "not-json",
    "enum": "unknown-term",
    "literal_error": "unknown-term",
}


class SealedModel(BaseModel):
    """A frozen model of personal content: it forbids unknown members and never shows a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """What any printing of the model shows: the names of the members that are set."""
        return [(None, name) for name in type(self).model_fields if getattr(self, name) is not None]

    def __str__(self) -> str:
        """The same as `repr`: a value must not slip out because somebody used an f-string."""
        return repr(self)


class SealedContent(SealedModel):
    """A whole content: what goes into one envelope."""

    def to_bytes(self) -> bytes:
        """The canonical JSON of this content. Equal contents give equal bytes."""
        members = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return canonical(members)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The content in these bytes, if they are its only spelling.

        Raises:
            ContentInvalidError: for anything else.
        """
        content: Self | None = None
        problems: tuple[ContentProblem, ...] = ()
        try:
            content = cls.model_validate_json(data, context=AS_WRITTEN)
        except ValidationError as error:
            problems = problems_of(error)
        # Raised outside the handler: the first error holds the submitted values and must not hang on to this one.
        if content is None:
            raise ContentInvalidError(problems)
        if content.to_bytes() != data:
            raise ContentInvalidError([ContentProblem("$", "not-canonical")])
        return content


def problems_of(error: ValidationError) -> tuple[ContentProblem, ...]:
    """Path and code of everything that is wrong, without one submitted value or name."""
    found: list[ContentProblem] = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        unknown = detail["type"] == "extra_forbidden"
        # The last step of an unknown member's place is the name that the sender made up.
        path = _path(detail["loc"][:-1] if unknown else detail["loc"])
        found.append(ContentProblem(path, _RENAMED.get(detail["type"], detail["type"].replace("_", "-"))))
    return tuple(found)


def _path(loc: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
