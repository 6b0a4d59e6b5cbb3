"""On whose behalf a use case runs."""

from __future__ import annotations

from typing import NamedTuple


class Acting(NamedTuple):
    """A system of this agency, and the worker who uses it. The actor is pseudonymous and for the record only."""

    client_id: str
    actor: str
    unit: str | None = None
