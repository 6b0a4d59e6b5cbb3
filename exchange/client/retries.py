"""When a request is tried again, and after how long.

Rules:

* A request whose repetition changes nothing (reading, a PUT, a POST with an Idempotency-Key) is repeated after a lost
  connection and after 429, 502, 503 and 504.
* Any other request is repeated only where it certainly was not carried out: no connection came about, or 429.
* `Retry-After` is honoured; one that is longer than the patience of the policy ends the tries.
* Waits double and are drawn at random between half and whole, so that many clients do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

TOO_MANY: Final = 429
REPEATABLE: Final = frozenset({TOO_MANY, 502, 503, 504})

_SERVER_FAILED: Final = 500


class Repeat(Enum):
    """Whether repeating a request could do harm."""

    HARMLESS = "harmless"
    IF_NOT_CARRIED_OUT = "if-not-carried-out"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is."""

    attempts: int = 5
    """Tries in all; 1 means never again."""
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    longest_retry_after_s: float = 60.0
    """A node that asks for a longer pause is not waited for; its problem is raised."""

    def wait_s(self, attempt: int, draw: Callable[[], float]) -> float:
        """Seconds to wait after try number `attempt`, counted from 1; `draw` gives a number from 0 to 1."""
        whole = min(self.longest_wait_s, self.first_wait_s * float(1 << (attempt - 1)))
        return whole * (0.5 + draw() / 2)

    def wait_after_answer_s(
        self, repeat: Repeat, attempt: int, status: int, retry_after: str | None, draw: Callable[[], float]
    ) -> float | None:
        """Seconds to wait before the next try, or nothing when this answer stands."""
        allowed = REPEATABLE if repeat is Repeat.HARMLESS else frozenset({TOO_MANY})
        if status not in allowed or attempt >= self.attempts:
            return None
        if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
            return self.wait_s(attempt, draw)
        asked = float(retry_after)
        return asked if asked <= self.longest_retry_after_s else None


def may_be_stored(status: int) -> bool:
    """Whether an act may be stored that was answered with this status and a problem.

    A refusal for what is in it comes before anything is stored; of all else nobody knows.
    """
    return status in REPEATABLE or status >= _SERVER_FAILED
