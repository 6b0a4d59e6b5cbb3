"""A node that is away is said to be, on both sides, and no silence is taken for a quiet night."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.following import Following
from exchange.client import ClientKey, NodeUnreachableError


@pytest.fixture
def nobody_there(tmp_path: Path) -> Path:
    """A profile whose node does not run."""
    ClientKey(b"1" * 32).save(tmp_path / "client.jwk")
    profile = 'url = "http://127.0.0.1:9"\nclient_id = "night-laptop"\nkey_file = "client.jwk"\nactor = "w-0009"\n'
    (tmp_path / "client.toml").write_text(profile)
    return tmp_path


@pytest.mark.parametrize("what", ["inbox", "referrals"])
def test_who_begins_while_the_node_is_away_is_told(nobody_there: Path, what: str) -> None:
    ended = CliRunner().invoke(app, [what, "watch", "--home", str(nobody_there)])
    assert ended.exit_code == 1
    assert "The node does not answer" in ended.output


def test_an_advice_that_does_not_come_is_no(nobody_there: Path) -> None:
    """`Try again` is no word about the call."""
    ended = CliRunner().invoke(app, ["inbox", "advice", "1" * 32, "--home", str(nobody_there)])
    assert ended.exit_code == 1
    assert ended.output.splitlines()[-1] == "There is no advice: do not contact her."


def test_an_outage_is_told_once_and_its_end_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.patience.FIRST_PAUSE_S", 0.01)
    answers: Iterator[str | None] = iter(["first", None, None, "second", "third"])

    async def ask() -> str:
        if (answer := next(answers)) is None:
            raise NodeUnreachableError
        return answer

    async def follow() -> list[str]:
        following = Following()
        return [await following.page(ask) for _ in range(3)]

    assert asyncio.run(follow()) == ["first", "second", "third"]
    said = capsys.readouterr().err
    assert (said.count("does not answer"), said.count("answers again")) == (1, 1)
