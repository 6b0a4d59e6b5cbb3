"""Asking a node that is away for as long as it takes: for programs that follow what happens and do nothing else.

Rules:

* What waiting may mend is waited for: no answer, 429, and 502 to 504, from the node or from a proxy before it.
* Everything else ends it, a refused token above all.
* Pauses double up to half a minute and are drawn between half and whole, so that many do not come back together. A
  longer `Retry-After` is honoured.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from exchange.client.errors import NodeUnreachableError, ProblemError, UnexpectedAnswerError
from exchange.client.retries import REPEATABLE

T = TypeVar("T")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


async def patiently(ask: Callable[[], Awaitable[T]], *, away: Callable[[], None] | None = None) -> T:
    """What the node answers at last.

    Args:
        ask: a call that may be repeated without harm; it has tries of its own.
        away: told once, if the node is not there at first.

    Raises:
        ClientError: one that waiting does not mend.
    """
    pause = FIRST_PAUSE_S
    told = False
    while True:
        try:
            return await ask()
        except NodeUnreachableError:
            asked = 0
        except ProblemError as refused:
            if refused.problem.status not in REPEATABLE:
                raise
            asked = refused.problem.retry_after or 0
        except UnexpectedAnswerError as other:
            if other.status not in REPEATABLE:
                raise
            asked = other.retry_after or 0
        if away is not None and not told:
            away()
        told = True
        await asyncio.sleep(max(asked, pause * random.uniform(0.5, 1)))  # noqa: S311 - nobody guesses it
        pause = min(2 * pause, LONGEST_PAUSE_S)
