"""On whose behalf a use case runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acting:
    """A system of this agency, and the worker who uses it. The actor is pseudonymous and for the record only."""

    client_id: str
    actor: str
    unit: str | None = None
