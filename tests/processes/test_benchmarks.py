"""The benchmarks run: a figure that nobody can print again is none. Small sizes, and no time is judged."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.postgres import Databases

from benchmarks import idle, poll, wire

pytestmark = pytest.mark.faults

FEW = (100, 200)


@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
def test_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Databases, on: str) -> None:
    monkeypatch.setattr(poll, "SIZES", FEW)
    monkeypatch.setattr(poll, "POLLS", 5)
    found = poll.measure_poll(tmp_path, (lambda _: postgres.create()) if on == "postgresql" else None)
    assert found["items"].keys() == {"100", "200"}
    assert found["items"]["200"].keys() == poll.polls(200).keys()


def test_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "MEASURED_S", 1)
    found = idle.measure_idle(tmp_path)
    assert found["passed_meanwhile_bytes"] == 0


def test_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECTION_RESTS_S", 0)
    monkeypatch.setattr(wire, "MANY", 30)
    found = wire.measure_bytes(tmp_path)
    assert found["on_the_wire"]["first_ever"] < 64 * 1024
