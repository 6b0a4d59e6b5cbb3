"""What every term of a closed list is: a string that is one of its members."""

from __future__ import annotations

from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING


class Term(StrEnum):
    """A closed list of strings.

    `value` is read some eighty times for one referral, and the library's own way to it is a call of Python each time.
    """

    if not TYPE_CHECKING:  # To mypy an assignment in an enumeration is a member.
        value = property(attrgetter("_value_"))
