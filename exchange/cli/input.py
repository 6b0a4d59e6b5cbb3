"""Reading a request from a file or from standard input, without repeating what it says when it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, TypeVar

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
            # An unknown member's name was made up by whoever wrote the file: it is not repeated.
            place = ".".join(str(part) for part in error["loc"]) if error["type"] != "extra_forbidden" else "a member"
            advise(f"  {place or 'the file'}: {_sentence(error['type'], error['msg'])}", style="red")
        fail("The request is not valid; nothing was sent.", code=SET_UP_WRONG)


def _sentence(kind: str, message: str) -> str:
    return "no such member in this request" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
