"""A request in a file: what is wrong is told with its place and what may stand there, never with what stands there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange.cli.application import app


@pytest.mark.parametrize(
    ("words", "request_", "place", "known"),
    [
        pytest.param(("send",), {"CANARY": 1}, "the file", "service_type", id="a referral"),
        pytest.param(("send",), {"content": {"CANARY": 1}}, "content", "preferred_name", id="its content"),
        pytest.param(
            ("send",),
            {"content": {"party": {"dependants": [{"CANARY": 1}]}}},
            "content.party.dependants.0",
            "known are age_band, sex",
            id="deep inside",
        ),
        pytest.param(
            ("send",),
            {"content": {"safe_contact": {"safe_times": [{"CANARY": 1}]}}},
            "content.safe_contact.safe_times.0",
            "known are weekday, from, to, time_zone",
            id="a member with another name in the program",
        ),
        pytest.param(
            ("consent", "record"), {"provisions": [{"CANARY": 1}]}, "provisions.0", "purposes", id="a consent"
        ),
        pytest.param(("referrals", "disclosure", "0" * 32), {"CANARY": 1}, "the file", "known are content", id="fresh"),
    ],
)
def test_an_unknown_member_is_told_by_its_place_and_what_may_stand_there(
    tmp_path: Path, words: tuple[str, ...], request_: dict[str, Any], place: str, known: str
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request_))
    refused = CliRunner().invoke(app, [*words, str(file), "--home", str(tmp_path)], env={"COLUMNS": "4000"})
    assert refused.exit_code == 2
    (line,) = [line for line in refused.output.splitlines() if "not known here" in line]
    assert line.startswith(f"  {place}: ")
    assert known in line
    assert "CANARY" not in refused.output
