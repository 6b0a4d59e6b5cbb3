"""Files in memory, where a machine has that: tests make, flush and remove some ten thousand, and none need last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - nothing is made in it under a name that others may know

_ROOM: Final = 2 << 30
"""Bytes. Two test processes take half a gigabyte: homes, SQLite, and some dozens of databases on each PostgreSQL."""


def memory() -> Path | None:
    """The folder whose files lie in memory, if it has room for the tests."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
    return _MEMORY if roomy else None
