"""Reading a request from a file or from standard input, without repeating what it says when it is wrong.

A member that is not known is told by where it stands and which ones may stand there, never by its name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from exchange.cli.console import SET_UP_WRONG, advise, fail

ModelT = TypeVar("ModelT", bound=BaseModel)

STANDARD_INPUT: Final = Path("-")


def read_request(path: Path, model: type[ModelT]) -> ModelT:
    """The request in this JSON file, or in standard input for `-`. Every problem is told, no value."""
    try:
        data = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError:
        fail(f"{path} cannot be read.", code=SET_UP_WRONG)
    try:
        return model.model_validate_json(data)
    except ValidationError as invalid:
        for error in invalid.errors(include_input=False, include_context=False, include_url=False):
            advise(f"  {_told(model, error['type'], error['loc'], error['msg'])}", style="red")
        fail("The request is not valid; nothing was sent.", code=SET_UP_WRONG)


def _told(model: type[BaseModel], kind: str, loc: tuple[int | str, ...], message: str) -> str:
    if kind != "extra_forbidden":
        return f"{_joined(loc) or 'the file'}: {message.removeprefix('Value error, ')}"
    # An unknown member's name was made up by whoever wrote the file: it may say something about her.
    known = ", ".join(_members_at(model, loc[:-1]))
    return f"{_joined(loc[:-1]) or 'the file'}: a member that is not known here" + (
        f"; known are {known}" if known else ""
    )


def _joined(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _members_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The members that this place of the request may have; none where it is not one model's."""
    inner = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = next((one for name, one in inner.model_fields.items() if part in {name, one.alias}), None)
        within = _model_in(field.annotation) if field is not None else None
        if within is None:
            return []
        inner = within
    return [one.alias or name for name, one in inner.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The one model that an annotation speaks of, such as that of `tuple[Dependant, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = {inner for argument in get_args(annotation) if (inner := _model_in(argument)) is not None}
    return found.pop() if len(found) == 1 else None
