"""An operator says that the clock is right, by another clock than the machine's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.application import app
from exchange.demo.federation import SHELTER, make_nodes
from exchange.limits import DAY_MS
from exchange.settings import Environment
from exchange.storage.clock_look import ClockLook, clock_look, remember_look
from exchange.storage.database import Database


@pytest.mark.parametrize("typed_off_by", [timedelta(0), timedelta(days=8), timedelta(minutes=-6)])
def test_the_time_that_is_typed_has_to_be_the_machines(tmp_path: Path, typed_off_by: timedelta) -> None:
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.SANDBOX)
    seen = time.time_ns() // 1_000_000 - 8 * DAY_MS
    database = Database.open(f"sqlite:///{made.home / 'node.db'}")
    database.write_sync(lambda conn: remember_look(conn, ClockLook(seen, seen)))
    typed = datetime.now(UTC) + typed_off_by

    def confirm() -> Result:
        return CliRunner().invoke(app, ["confirm-clock", f"{typed:%Y-%m-%dT%H:%M:%S}", "--home", str(made.home)])

    done, look = confirm(), database.read_sync(clock_look)
    assert look is not None
    if typed_off_by:
        assert (done.exit_code, "Nothing was confirmed" in done.output) == (1, True)
        assert look == ClockLook(seen, seen)
    else:
        assert (done.exit_code, "Confirmed" in done.output) == (0, True), done.output
        assert look.settled_at > seen + 7 * DAY_MS
        assert "not in doubt" in confirm().output
    database.close_sync()
