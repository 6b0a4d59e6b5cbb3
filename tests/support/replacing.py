"""The same with another value: of a dataclass, and of a named tuple."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def replace(value: T, **changes: Any) -> T:
    """A copy with these members changed."""
    if isinstance(value, tuple):
        return value._replace(**changes)  # type: ignore[attr-defined]
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
