"""Following a list for as long as a shift lasts: a node that is away is waited for, and both is said.

Rules:

* The first question has no patience: a wrong address or a revoked client is told at once; only later it is an outage.
* Who sees nothing happen has to know whether nothing happens, or nobody answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from exchange.cli.console import advise
from exchange.client.patience import patiently
from exchange.limits import LIMITS

T = TypeVar("T")

LONG_POLL_S: Final = float(LIMITS.wait_longest_s)


class Following:
    """One list that is followed."""

    def __init__(self) -> None:
        self._begun = False
        self._missing = False

    async def page(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the node answers, at last."""
        if not self._begun:
            page = await ask()
            self._begun = True
            return page
        page = await patiently(ask, away=self._away)
        if self._missing:
            self._missing = False
            advise(f"{datetime.now(UTC):%H:%M} UTC: the node answers again.", style="green")
        return page

    def _away(self) -> None:
        self._missing = True
        advise(f"{datetime.now(UTC):%H:%M} UTC: the node does not answer. Nothing is lost; I keep trying.")
