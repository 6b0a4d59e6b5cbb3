"""The exact types of the values in a referral: bounded, closed, one spelling.

Rules:

* A text is in Unicode normal form C, without surrounding space, control characters or characters that reverse the
  direction of what follows: what a caseworker sees is what was written, and she sees something.
* A text is not too long in normal form C either: some letters of Bengali and Hindi are two characters there, and the
  receiver, who reads that form, would refuse what was sealed.
* A list of codes is written in order and names nothing twice.
* A date, a country, a language and an area have one spelling.
* What lies sealed or signed already is read `AS_WRITTEN`: what earlier versions allowed was shown to somebody, or is on
  its way from a node that allows it still, and a refusal would lose it.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic import Field as Described
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from contracts.vocabulary import NEEDS_BY_SERVICE, is_area

CodeT = TypeVar("CodeT", bound=str)

AS_WRITTEN: Final = {"as": "written"}
"""The context of a validation that reads what is not handed in now."""
_HIDDEN: Final = frozenset("\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_HIDDEN_TOO: Final = "\u061c"
"""An Arabic letter mark, which earlier versions allowed."""
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_ALL_NEEDS: Final = frozenset().union(*NEEDS_BY_SERVICE.values())
_UNSEEN: Final = frozenset({"Cf", "Zs"})
"""Joiners, breaks without width, spaces: scripts of the region need them, beside something that is seen."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0").union(
    map(chr, range(0xFE00, 0xFE10)), map(chr, range(0xE0100, 0xE01F0))
)
"""Letters, marks and signs that show nothing either: fillers, and what chooses a variant of the one before."""
_WORD_LETTERS: Final = range(2, 17)


class Text:
    """A text of one line, or of several, with at most so many characters: as it came, and in its one spelling."""

    def __init__(self, longest: int, *, lines: bool = False) -> None:
        self._longest = longest
        self._lines = lines

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """The bounds of what comes in, then its one spelling."""
        bounded = core_schema.str_schema(strip_whitespace=True, min_length=1, max_length=self._longest)
        return core_schema.with_info_after_validator_function(self._visible, bounded)

    def _visible(self, text: str, info: ValidationInfo) -> str:
        if text.isascii() and text.isprintable():
            return text
        text = unicodedata.normalize("NFC", text)
        if len(text) > self._longest:
            raise PydanticKnownError("string_too_long", {"max_length": self._longest})
        is_new = info.context is not AS_WRITTEN
        kinds = {_kind(char) for char in text if not (self._lines and char == "\n")}
        if "Cc" in kinds or not _HIDDEN.isdisjoint(text) or (is_new and _HIDDEN_TOO in text):
            raise PydanticCustomError("hidden_character", "must not contain control or direction characters")
        if is_new and kinds <= _UNSEEN:
            raise PydanticKnownError("string_too_short", {"min_length": 1})
        return text


def _kind(char: str) -> str:
    return "Zs" if char in _BLANK else unicodedata.category(char)


def as_heard(text: str) -> str:
    """What is left of a text on the telephone: letters and digits, without their case, and no joiners or spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    seen = [char for char in folded if _kind(char) not in _UNSEEN]
    return "".join(char for char in seen if _kind(char)[0] in "LMN") or "".join(seen)


def _of_letters(word: str) -> bool:
    """Letters, and the marks that some scripts write with them."""
    return word.isalpha() or all(unicodedata.category(char)[0] in "LM" for char in word)


def _two_words(text: str) -> str:
    words = text.split(" ")
    fits = len(words) == 2 and all(  # noqa: PLR2004  # two is the rule
        len(word) in _WORD_LETTERS and _of_letters(word) for word in words
    )
    if not fits:
        raise PydanticCustomError("two_short_words", "must be exactly two words of 2 to 16 letters")
    return text


def _area(code: str) -> str:
    if not is_area(code):
        raise PydanticCustomError("unknown_area", "must be an ISO 3166 country or subdivision code, never an address")
    return code


def _need(code: str) -> str:
    if code not in _ALL_NEEDS:
        raise PydanticCustomError("unknown_term", "must be a need of the vocabulary")
    return code


def _plain_date(value: Any) -> date:
    if isinstance(value, date):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError("not_a_date", "must be a calendar date such as 1990-01-31")


def once_each(codes: tuple[CodeT, ...]) -> tuple[CodeT, ...]:
    """The codes in order; a list that names one twice is refused."""
    if len(set(codes)) != len(codes):
        raise PydanticCustomError("named_twice", "must not name the same code twice")
    return tuple(sorted(codes))


_UNIQUE = Described(max_length=60, json_schema_extra={"uniqueItems": True})
# As JSON Schema says it; stripping and the least length refuse the same.
_NOT_BLANK = Described(json_schema_extra={"pattern": r"\S"})
Codes = Annotated[tuple[CodeT, ...], _UNIQUE, AfterValidator(once_each)]

Name = Annotated[str, Text(80), _NOT_BLANK]
LongName = Annotated[str, Text(120), _NOT_BLANK]
ShortText = Annotated[str, Text(200), _NOT_BLANK]
Note = Annotated[str, Text(1000, lines=True), _NOT_BLANK]
LongText = Annotated[str, Text(4000, lines=True), _NOT_BLANK]
TwoWords = Annotated[str, Text(33), AfterValidator(_two_words)]
Area = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$"), AfterValidator(_area)]
Need = Annotated[str, AfterValidator(_need), WithJsonSchema({"type": "string", "enum": sorted(_ALL_NEEDS)})]
Day = Annotated[date, BeforeValidator(_plain_date), WithJsonSchema({"type": "string", "format": "date"})]
Yes = Annotated[bool, Described(strict=True)]
