"""What every term of a closed list is: a string that is one of its members."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar


class Term(StrEnum):
    """A closed list of strings.

    `value` is read some eighty times for one referral, and the library's own way to it is a call of Python each time.
    """

    if not TYPE_CHECKING:  # To mypy an assignment in an enumeration is a member.
        value = property(attrgetter("_value_"))


AnyTerm = TypeVar("AnyTerm", bound=Term)


def by_word(terms: type[AnyTerm]) -> Mapping[str, AnyTerm]:
    """The terms of a closed list by what they say, for words that were checked before.

    `terms(word)` takes ten to twenty times as long as a table; made once, where it is asked for every row or envelope.
    """
    return {term.value: term for term in terms}
