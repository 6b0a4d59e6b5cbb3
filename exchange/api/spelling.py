"""One JSON object, with every member once and none of them null: what a body must be before a model reads it.

A refusal says where: the byte at which reading ended, or the path of the member, made of names that the model defines.
Nothing of the body itself is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NoReturn

from pydantic import BaseModel

from exchange.api.invalid import MOST_FIELDS, names_of, path_of
from exchange.api.refused import RefusedRequestError
from exchange.schemas.problems import ProblemField

SEND: Final = "Send one JSON object, in UTF-8."
_DEEPEST: Final = 32
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MEMBERS: Final = {
    "repeated-member": "This member stands in its object twice.",
    "null-member": "This member is null. Leave it out.",
}


class _NotANumberError(ValueError):
    """`NaN` or `Infinity`, which some writers of JSON make."""


class _Pairs(list[tuple[str, Any]]):
    """The members of an object as they stand, repetitions included."""


def check_spelling(raw: bytes, model: type[BaseModel]) -> None:
    """Refuse bytes that are not one JSON object with every member once.

    Args:
        raw: the body.
        model: which will read it.

    Raises:
        RefusedRequestError: `not-json`, `repeated-member` or `null-member`.
    """
    if raw.count(b"{") + raw.count(b"[") > _DEEPEST:
        _check_depth(raw)
    members, code, why = None, "not-json", "The body is JSON, but not an object."
    try:
        members = _STRICT.decode(raw.decode("utf-8"))
    except RefusedRequestError as error:
        code = error.code
    except (ValueError, RecursionError) as error:
        why = _why(error, raw)
    if isinstance(members, dict):
        return
    # Raised outside the handler: the first error holds the body and must not hang on to this one.
    if code == "not-json":
        raise RefusedRequestError(code, detail=f"{why} {SEND}")
    raise RefusedRequestError(code, fields=_places(raw, code, model))


def _why(error: ValueError | RecursionError, raw: bytes) -> str:
    match error:
        case UnicodeDecodeError():
            return f"The body is not UTF-8 at byte {error.start}, counted from 0."
        case json.JSONDecodeError() if raw.startswith(_BYTE_ORDER_MARK):
            return "The body begins with a byte order mark. Leave it out."
        case json.JSONDecodeError():
            return f"The body is not JSON at byte {len(error.doc[: error.pos].encode())}, counted from 0."
        case _NotANumberError():
            return "NaN and Infinity are no numbers of JSON."
        case _:
            return "The body holds a number that is too long, or is nested too deeply."


def _check_depth(raw: bytes) -> None:
    """A cheap upper bound: brackets in strings count too, and no honest string holds this many in a row."""
    depth = deepest = 0
    for byte in raw:
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    if deepest > _DEEPEST:
        raise RefusedRequestError("not-json", detail=f"The body is nested more than {_DEEPEST} deep. Send it flatter.")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RefusedRequestError("repeated-member")
    if None in members.values():
        raise RefusedRequestError("null-member")
    return members


def _no_constant(_text: str) -> NoReturn:
    raise _NotANumberError


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_constant)


def _places(raw: bytes, code: str, model: type[BaseModel]) -> tuple[ProblemField, ...]:
    """Where it is so; nothing where the rest of the body cannot be read."""
    try:
        body = json.loads(raw, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return ()
    names = names_of(model)
    places = islice(_found(body, code, ()), MOST_FIELDS)
    return tuple(ProblemField(path=path_of(place, names), code=code, sentence=_MEMBERS[code]) for place in places)


def _found(value: Any, code: str, place: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    steps: Iterator[tuple[int | str, Any]] = iter(value) if isinstance(value, _Pairs) else enumerate(value)
    seen: set[int | str] = set()
    for step, inner in steps:
        if isinstance(step, str) and (inner is None if code == "null-member" else step in seen):
            yield (*place, step)
        seen.add(step)
        if isinstance(inner, list):
            yield from _found(inner, code, (*place, step))
