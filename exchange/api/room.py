"""How much of one caller's bodies may be on its way at once. In memory, and bounded for each caller.

Rules:

* A body takes its room before it is read, by the size it declares, or as the largest it may be, and gives it back when
  it has come, was broken off, or was too slow.
* The smallest takes as much as the server reads ahead for a connection, so that the number of them is bounded as well.
* What does not fit is told to come again (429): it waits without a body, and holds up nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exchange.api.refused import RefusedRequestError
from exchange.limits import KIB

LEAST = 64 * KIB
_RETRY_AFTER_S = 5


class Room:
    """The room of each caller of one kind."""

    def __init__(self, most: int) -> None:
        """Take how many bytes each caller has."""
        self._most = most
        self._taken: dict[str, int] = {}

    @contextmanager
    def taken(self, caller: str, size: int) -> Iterator[None]:
        """Hold the room for a body of this size.

        Args:
            caller: the proven id.
            size: of the body at most.

        Raises:
            RefusedRequestError: there is not as much left.
        """
        size = max(size, LEAST)
        if self._taken.get(caller, 0) + size > self._most:
            raise RefusedRequestError("too-many-requests", headers={"Retry-After": str(_RETRY_AFTER_S)})
        self._taken[caller] = self._taken.get(caller, 0) + size
        try:
            yield
        finally:
            self._taken[caller] -= size
            if self._taken[caller] == 0:
                del self._taken[caller]
