"""Lines of progress: when, how busy the machine is, what."""

from __future__ import annotations

import os
import time
from typing import Final

STARTED: Final = time.monotonic()


def tell(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - STARTED:5.0f} s, load {os.getloadavg()[0]:.1f}] {text}", flush=True)
