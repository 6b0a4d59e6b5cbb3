"""What is wrong with a request, by place and code, without one submitted value.

Rules:

* A path is made of names that the model defines and of positions in lists. Any other name came from the sender and is
  written `*`; an unknown member is reported at the object that holds it.
* A sentence is ours: of Pydantic's own texts none is used, since some repeat what came in. What an enumeration expects,
  and the limits of numbers and lengths, are taken from the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from exchange.schemas.problems import ProblemField
from exchange.schemas.shapes import AGENCY_PATTERN, DIGEST_PATTERN, ID_PATTERN

MOST_FIELDS = 20
_SENTENCES = {
    "missing": "This member is required.",
    "unknown-member": "There is a member here that this call does not know. Look for a misspelt name.",
    "unknown-term": "This is not one of the terms of the vocabulary.",
    "wrong-type": "This value has another type than the one expected.",
    "wrong-form": "This value is not written in the form expected.",
    "out-of-range": "This value is too small, too large, too short or too long.",
    "invalid": "This value is not acceptable here.",
}
_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown-member",
    "enum": "unknown-term",
    "literal_error": "unknown-term",
    "string_pattern_mismatch": "wrong-form",
    "timezone_aware": "wrong-form",
    "value_error": "invalid",
    "assertion_error": "invalid",
}
_TIME = "Expected: RFC 3339 with an offset, such as 2026-11-23T02:10:00Z."
_FORMS = {
    ID_PATTERN: "32 lower-case hexadecimal characters",
    DIGEST_PATTERN: "64 lower-case hexadecimal characters",
    AGENCY_PATTERN: "2 to 63 lower-case letters, digits and dashes, such as rose-house-shelter",
}
#: What a limit is called in the context of an error, and in a sentence.
_LIMITS = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} {}",
    "max_length": "at most {} {}",
}
_AS_IN_JSON = {"True": "true", "False": "false"}
_PYDANTICS_OWN = frozenset(get_args(ErrorType))
_ENDINGS = {
    "_type": "wrong-type",
    "_parsing": "wrong-form",
    "_from_date_parsing": "wrong-form",
    "too_short": "out-of-range",
    "too_long": "out-of-range",
    "than": "out-of-range",
    "_equal": "out-of-range",
}


def problem_fields(error: ValidationError, model: type[BaseModel]) -> tuple[ProblemField, ...]:
    """Everything that a model refused."""
    return described(error.errors(include_url=False, include_input=False), names_of(model))


def described(details: Sequence[Mapping[str, Any]] | Iterable[Any], names: frozenset[str]) -> tuple[ProblemField, ...]:
    """Problem fields for validation details, with paths made of known names."""
    return tuple(_field(detail, names) for detail in list(details)[:MOST_FIELDS])


def _field(detail: Mapping[str, Any], names: frozenset[str]) -> ProblemField:
    code, sentence = _meaning(detail)
    place = tuple(detail["loc"])
    if code == "unknown-member":
        place = place[:-1]
    return ProblemField(path=path_of(place, names), code=code, sentence=sentence)


def _meaning(detail: Mapping[str, Any]) -> tuple[str, str]:
    kind = str(detail["type"])
    code = _CODES.get(kind) or next((ours for end, ours in _ENDINGS.items() if kind.endswith(end)), None)
    if code == "unknown-term" and isinstance(expected := detail.get("ctx", {}).get("expected"), str):
        return code, f"Expected: {_AS_IN_JSON.get(expected, expected)}."
    if code is not None:
        return code, _expected(kind, detail.get("ctx", {})) or _SENTENCES[code]
    # A custom error of our own rooms: its text is a constant of the source unless it was given something to fill in.
    if kind not in _PYDANTICS_OWN and "ctx" not in detail:
        text = str(detail["msg"])
        return kind.replace("_", "-"), f"{text[:1].upper()}{text[1:]}."
    return "invalid", _SENTENCES["invalid"]


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    """What the model says of this member: a limit, or the form of an id or a time."""
    if kind == "timezone_aware" or (kind.startswith("datetime") and not kind.endswith("_type")):
        return _TIME
    if (form := _FORMS.get(str(context.get("pattern")))) is not None:
        return f"Expected: {form}."
    counted = "characters" if kind.startswith("string") else "entries"
    for name, words in _LIMITS.items():
        limit = context.get(name)
        if isinstance(limit, int | float):
            return f"Expected: {words.format(limit if isinstance(limit, int) else f'{limit:g}', counted)}."
    return None


def path_of(place: tuple[int | str, ...], names: frozenset[str]) -> str:
    """A place as a path of known names; what the sender made up is written `*`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step if step in names else '*'}"
    return path.removeprefix(".") or "$"


@cache
def names_of(model: type[BaseModel]) -> frozenset[str]:
    """Every member name that this model defines, at any depth."""
    return frozenset(_names(model.model_json_schema()))


def _names(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in schema.values():
            yield from _names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _names(value)
