"""Two requests that must not be told apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

Send = Callable[[], Awaitable[tuple[int, str]]]
WARM_UP: Final = 20
"""Samples of each request that are sent before anything is measured."""


@dataclass(frozen=True)
class Pair:
    """One about something that exists, one about something that does not; each answers with what was said."""

    name: str
    exists: Send
    does_not: Send
