"""What is said about a problem code, once: its status, who has to act, what it means and what to do.

`docs/problems.md` and the problem responses of the OpenAPI documents are written from this table, and a test holds the
code of the use cases against it. The sentence in a problem document is the use case's own where it has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exchange.schemas.problems import Who

DOCS_BASE: Final = "https://referral-exchange.example/problems"


@dataclass(frozen=True, slots=True)
class Entry:
    """One code."""

    code: str
    status: int
    who: Who
    title: str
    advice: str
    """What to do, in plain English."""
    retry_after: int | None = None

    @property
    def type(self) -> str:
        """The stable URI."""
        return f"{DOCS_BASE}#{self.code}"
