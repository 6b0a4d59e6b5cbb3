"""Asking everybody again: where there is nobody, and on a machine that is not well yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.demo.federation import SHELTER, make_nodes
from exchange.settings import Environment
from exchange.storage.errors import StorageFullError


def test_where_no_other_agency_is_it_says_so(tmp_path: Path) -> None:
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.SANDBOX)
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import main; main()", "resync", "2026-11-20T02:00:00"],
        env={"EXCHANGE_HOME": str(made.home), "COLUMNS": "400", "TZ": "Asia/Kuala_Lumpur"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A local time that was typed as UTC is seen: what came in those hours would stay lost.
    assert "since 2026-11-20 02:00 UTC (here 2026-11-20 10:00)" in done.stdout
    assert "nobody to ask" in done.stdout


@pytest.mark.parametrize(
    ("words", "work", "sentence"),
    [
        pytest.param(("resync", "2026-11-20T02:00:00"), "resync.note_loss", "Not everybody was told", id="resync"),
        pytest.param(
            ("keys", "revoke", "--since", "2026-11-20T02:00:00"),
            "own_epochs.revoke_own_epochs",
            "Nothing may be revoked",
            id="revoke",
        ),
    ],
)
def test_a_disk_that_is_full_is_a_sentence_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], work: str, sentence: str
) -> None:
    """The first commands after a lost disk, typed by somebody who has slept badly."""
    (made,), _ = make_nodes(tmp_path, (SHELTER,), Environment.SANDBOX)

    async def full(*_given: object, **_more: object) -> None:
        raise StorageFullError("The database has no space left.")

    monkeypatch.setattr(f"exchange.use_cases.{work}", full)
    refused = CliRunner().invoke(app, list(words), env={"EXCHANGE_HOME": str(made.home), "COLUMNS": "400"})
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert f"{sentence}: The database has no space left." in refused.output
    assert "it may be repeated" in refused.output
