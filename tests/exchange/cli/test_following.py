"""A node that is away is said to be, on both sides, and no silence is taken for a quiet night."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.cli.following import Following
from exchange.client import ClientKey, NodeUnreachableError
from exchange.schemas.referrals import ReferralChanges


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


def test_what_is_there_is_shown_to_its_newest_end(nobody_there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page is the oldest: the answer that she waits for would not be seen."""

    async def changes(_: object, cursor: str | None = None, *, wait_s: float = 0) -> ReferralChanges:
        assert wait_s == 0
        at = int(cursor or 0)
        view: dict[str, object] = {
            "id": "2" * 32,
            "side": "referring",
            "peer": "rose-house-shelter",
            "sector": "accommodation",
        }
        view |= {"state": "sent", "flags": {}, "contract": "0b" * 32}
        view |= dict.fromkeys(("created_at", "updated_at", "respond_by"), "2026-11-23T21:04:00Z")
        change = {"cursor": str(at + 1), "what": f"what-{at + 1}", "at": "2026-11-23T21:04:00Z", "referral": view}
        page = {"items": [change] if at < 3 else [], "next_cursor": str(min(at + 1, 3))}
        return ReferralChanges.model_validate_json(json.dumps(page))

    monkeypatch.setattr("exchange.client.referrals.Referrals.changes", changes)
    ended = CliRunner().invoke(app, ["referrals", "watch", "--once", "--home", str(nobody_there)])
    assert ended.exit_code == 0, ended.output
    assert [line[-8:] for line in ended.stdout.splitlines()] == ["(what-1)", "(what-2)", "(what-3)"]
    assert "--cursor 3" in ended.stderr
