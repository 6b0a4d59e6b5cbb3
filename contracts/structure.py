"""From what the model says is wrong with the shape of a file to problems that a person can act on."""

from __future__ import annotations

from typing import Any, Final

import pydantic

from contracts.located_yaml import LocatedDocument, Path
from contracts.model import ContractFile
from contracts.vocabulary import Field

_WILDCARDS: Final = frozenset({"*", "any", "all"})
_FIELD_LISTS: Final = frozenset({"offer", "disclosure", "named", "fields"})
_VERSIONS: Final = {
    "language_version": ("unknown-language-version", "This program reads contracts of language version 1 only."),
    "vocabulary": ("unknown-vocabulary", "This program speaks vocabulary 1 only."),
}
_MISSING: Final = {
    "review_on": ("no-review-date", "The contract does not say when it will be reviewed (`review_on`)."),
    "valid_until": ("no-end-date", "The contract does not say when it ends (`valid_until`)."),
}
_LISTS: Final = frozenset({"frozen_set_type", "tuple_type", "set_type", "list_type"})
_MAPPINGS: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})


def check_structure(document: LocatedDocument) -> None:
    """Reports every unknown, missing or malformed key and term."""
    try:
        ContractFile.model_validate(document.data)
    except pydantic.ValidationError as error:
        for detail in error.errors(include_url=False, include_context=True):
            if detail["type"] == "too_short" and detail["input"]:
                continue  # pydantic counts valid entries only; the invalid ones have problems of their own.
            _report(document, detail["type"], tuple(detail["loc"]), detail.get("ctx", {}), detail.get("input"))


def _report(document: LocatedDocument, kind: str, path: Path, context: dict[str, Any], value: Any) -> None:
    where = tuple(step for step in path if step != "[key]")
    name = _shown(where[-1]) if where else ""
    if len(where) == 1 and where[0] in _VERSIONS:
        code, sentence = _VERSIONS[str(where[0])]
    elif kind == "missing":
        code, sentence = _MISSING.get(str(where[-1]), ("missing-key", f"The key `{name}` is missing."))
    elif kind == "extra_forbidden":
        code, sentence = "unknown-key", f"`{name}` is not a key of a contract here."
    elif len(where) > 1 and where[-2] in _FIELD_LISTS and _is_wildcard(value):
        code, sentence = _wildcard(value)
    elif kind == "enum":
        code, sentence = "unknown-term", f"`{_shown(value)}` is not known here. Known: {context['expected']}."
        if len(where) > 1 and where[-2] in _FIELD_LISTS:
            sentence = f"`{_shown(value)}` is not a field of the vocabulary."
    elif kind in _LISTS:
        code, sentence = _wildcard(value) if name in _FIELD_LISTS and _is_wildcard(value) else _needs(name, "a list")
    elif kind in _MAPPINGS:
        code, sentence = _needs(name, "keys with values")
    elif kind == "too_short":
        code, sentence = "empty", f"`{name}` lists nothing."
    elif kind == "value_error":
        code, sentence = "bad-value", f"`{name}`: {context['error']}."
    else:
        code, sentence = "bad-value", f"`{name}` is not written as the contract schema says."
    document.report(where, code, sentence)


def _is_wildcard(value: Any) -> bool:
    return isinstance(value, str) and (value in _WILDCARDS or "*" in value)


def _wildcard(value: Any) -> tuple[str, str]:
    return "wildcard-field", (
        f"`{_shown(value)}` cannot stand for fields: each of the {len(Field)} fields that is meant is listed by name."
    )


def _needs(name: str, what: str) -> tuple[str, str]:
    return "bad-value", f"`{name}` needs {what}."


def _shown(value: Any) -> str:
    """A short, printable form: a contract holds nothing personal, but it may come from anywhere."""
    text = value if isinstance(value, str | int) else type(value).__name__
    return "".join(character if character.isprintable() else "?" for character in str(text)[:60])
