"""Something came between reading a referral's record and handing in: then it is read, judged and sealed again.

Rules:

* The number inside a sealed envelope is taken from the record that was read. A colleague's machine, a stop, or the node
  itself may use it up meanwhile. That is nobody's mistake, and no worker can mend it.
* Her no may arrive from the other agency, which uses up no number of this side. Then less may be told than was sealed.
* What the node has refused for either reason it has not stored, and never will: what is sealed anew is the one act.
* It is tried a few times and no more, each time on what the node says now: also what may travel is judged again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from exchange.client.errors import ProblemError

ATTEMPTS: Final = 3
OVERTAKEN: Final = frozenset({"number-not-higher", "feedback-level"})

T = TypeVar("T")


async def unless_overtaken(act: Callable[[], Awaitable[T]]) -> T:
    """The answer to an act that reads the record, seals and hands in; from its beginning again where it was overtaken.

    Raises:
        ProblemError: the node refuses, in the end also for one of these two reasons.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return await act()
        except ProblemError as refused:
            if refused.problem.code not in OVERTAKEN:
                raise
    return await act()
