"""A node's home, made once and copied for each test: deriving keys and making tables takes its time."""

from __future__ import annotations

import shutil
from pathlib import Path


def copied_home(home: Path, to: Path) -> Path:
    """The same home in another place, which its configuration names."""
    shutil.copytree(home, to)
    config = to / "exchange.toml"
    config.write_text(config.read_text().replace(str(home), str(to)))
    return to
