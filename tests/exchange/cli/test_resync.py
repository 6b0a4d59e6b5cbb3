"""Asking everybody again, where there is nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exchange.demo.federation import SHELTER, make_nodes
from exchange.settings import Environment


def test_where_no_other_agency_is_it_says_so(tmp_path: Path) -> None:
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.SANDBOX)
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import main; main()", "resync", "2026-11-20T02:00:00"],
        env={"EXCHANGE_HOME": str(made.home), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nobody to ask" in done.stdout
