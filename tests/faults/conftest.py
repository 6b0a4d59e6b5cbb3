"""A helpline and a shelter in one process, for faults of the world around them; in `make faults` on PostgreSQL too."""

from __future__ import annotations

from support.federation_fixtures import on_both
from support.federation_fixtures import pair as two

__all__ = ["on_both", "two"]
