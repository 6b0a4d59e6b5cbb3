"""A helpline and a shelter in one process, for faults of the world around them."""

from __future__ import annotations

from support.federation_fixtures import on_both, two

__all__ = ["on_both", "two"]
