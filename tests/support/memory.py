"""Files in memory, where a machine has that: tests make, flush and remove some ten thousand, and none need last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - nothing is made in it under a name that others may know


def memory(room: int) -> Path | None:
    """The folder whose files lie in memory, if it has room for this many bytes."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= room
    return _MEMORY if roomy else None
