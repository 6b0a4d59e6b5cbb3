"""An advice on the screen never leads to a call at another time than she meant."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from contracts.vocabulary import Channel
from exchange.cli.application import app
from exchange.cli.contact import show_advice
from exchange.cli.moments import moment, moment_here
from exchange.referral.contact_plan import SafeContact
from exchange.schemas.inbox import ContactAdvice

MONDAY = datetime(2026, 11, 30, 13, 59, tzinfo=UTC)
PLAN = SafeContact.model_validate_json(
    """{"who_initiates": "agency", "channels": [{"channel": "phone-call", "address": "+00 12", "safe": true}],
    "last_confirmed_at": "2026-11-30T06:00:00Z",
    "safe_times": [{"weekday": "monday", "from": "21:00", "to": "22:00", "time_zone": "Asia/Kuala_Lumpur"},
                   {"weekday": "tuesday", "from": "22:00", "to": "01:00", "time_zone": "Asia/Kuala_Lumpur"}]}"""
)


@pytest.fixture
def in_malaysia(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from _clock_of(monkeypatch, "Asia/Kuala_Lumpur")


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from _clock_of(monkeypatch, "UTC")


def _clock_of(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(capsys: pytest.CaptureFixture[str], at: datetime, *, now: bool = True) -> str:
    show_advice(ContactAdvice.of(PLAN, Channel.PHONE_CALL, at), now=now)
    return capsys.readouterr().out


@pytest.mark.usefixtures("in_malaysia")
def test_a_yes_says_until_when_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Only until 2026-11-30 14:00 UTC (here 2026-11-30 22:00)." in shown(capsys, MONDAY)


@pytest.mark.parametrize("at", [MONDAY, MONDAY.replace(hour=3)], ids=["yes", "no"])
def test_of_a_drill_it_says_so_before_all_else(capsys: pytest.CaptureFixture[str], at: datetime) -> None:
    show_advice(ContactAdvice.of(PLAN, Channel.PHONE_CALL, at, exercise=True), now=True)
    assert capsys.readouterr().out.startswith("EXERCISE")
    assert "EXERCISE" not in shown(capsys, at)


def test_through_whom_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    """The number alone would be called, where she said `sms`."""
    members = {
        "channels": [{"channel": "via-trusted-person", "safe": True}],
        "trusted_contact": {"name": "Contoh Jiran", "channel": "sms", "address": "+00 99"},
        "text_ok": True,
    }
    plan = SafeContact.model_validate_json(json.dumps(PLAN.model_dump(mode="json", exclude_none=True) | members))
    advice = ContactAdvice.of(plan, None, MONDAY)
    show_advice(advice, now=True)
    assert "Through Contoh Jiran, by sms and in no other way: +00 99." in capsys.readouterr().out
    assert "Jiran" not in repr(advice)


@pytest.mark.usefixtures("in_malaysia")
def test_a_no_says_the_next_time_with_both_dates_and_on_both_clocks(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, MONDAY.replace(hour=14, minute=0))
    assert "Next: 2026-12-01 14:00 UTC (here 2026-12-01 22:00) to 2026-12-01 17:00 UTC (here 2026-12-02 01:00)" in said


@pytest.mark.usefixtures("in_malaysia")
def test_an_advice_about_another_moment_says_so_and_never_now(capsys: pytest.CaptureFixture[str]) -> None:
    for at in (MONDAY, MONDAY.replace(hour=18)):
        said = shown(capsys, at, now=False)
        assert said.startswith(f"Not about now, but about {moment(at)}:")
        assert "contacted now" not in said


@pytest.mark.usefixtures("in_utc")
def test_a_machine_in_utc_has_one_clock() -> None:
    assert moment(MONDAY) == "2026-11-30 13:59 UTC"
    assert moment_here(MONDAY) == "2026-11-30 13:59 UTC"


@pytest.mark.usefixtures("in_malaysia")
def test_paper_has_the_clock_of_the_place_and_says_which() -> None:
    assert moment_here(MONDAY) == "2026-11-30 21:59 (UTC+08:00)"


@pytest.mark.usefixtures("in_malaysia")
def test_a_moment_at_the_end_of_the_calendar_is_shown_in_utc() -> None:
    """Of an arrival another agency writes what it likes."""
    last = datetime.max.replace(tzinfo=UTC)
    assert moment(last) == moment_here(last) == "9999-12-31 23:59 UTC"


@pytest.mark.parametrize("at", ["2026-12-01", "22:00", "tomorrow"])
def test_a_day_alone_is_no_moment(at: str) -> None:
    assert CliRunner().invoke(app, ["inbox", "advice", "1" * 32, "--at", at]).exit_code == 2
