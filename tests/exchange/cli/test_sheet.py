"""What a worker reads of an item: how urgent it is while that is so, and what a stop asks for."""

from __future__ import annotations

import json

import pytest

from exchange.cli.console import OUT
from exchange.cli.sheet import is_awaited, line, show_opened, show_stop, tell_unreadable
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import InboxItem, OpenedItem

AWAITED = {State.RECEIVED, State.INFORMATION_REQUESTED}


def an_item(kind: str, state: str, event: str | None = None) -> InboxItem:
    members = {
        "id": "1" * 28 + "ab12",
        "cursor": "1",
        "referral": "2" * 32,
        "sender": "lantern-helpline",
        "kind": kind,
        "event": event,
        "sector": "accommodation",
        "priority": "urgent" if kind == "offer" else None,
        "state": state,
        "status": "new",
        "received_at": "2026-11-23T21:04:00Z",
        "respond_by": "2026-11-24T21:03:00Z" if kind == "offer" else None,
    }
    return InboxItem.model_validate_json(json.dumps({name: value for name, value in members.items() if value}))


def test_an_offer_that_waits_says_until_when() -> None:
    assert line(an_item("offer", "received")) == (
        "2026-11-23 21:04 UTC  1111ab12  lantern-helpline  offer  accommodation  URGENT"
        "  answer due 2026-11-24 21:03  (new)"
    )


@pytest.mark.parametrize("kind", ["offer", "disclosure", "information", "update", "progress", "recall"])
def test_each_item_of_a_drill_is_called_one(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    real = an_item(kind, "accepted")
    for item, marked in ((real, False), (real.model_copy(update={"exercise": True}), True)):
        assert ("(EXERCISE)" in line(item)) is marked
        show_opened(OpenedItem(item=item, digest="0b" * 32))
        assert ("EXERCISE" in capsys.readouterr().out) is marked


def test_what_cannot_be_read_is_told_in_red_where_no_program_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    tell_unreadable("1" * 28 + "ab12")
    said = capsys.readouterr()
    assert "Item 1111ab12 cannot be read" in said.err
    assert "may be urgent" in said.err
    assert said.out == ""


@pytest.mark.parametrize("state", State)
def test_only_what_waits_for_an_answer_is_urgent(state: State) -> None:
    offer = an_item("offer", state)
    said = line(offer)
    assert is_awaited(offer) is (state in AWAITED)
    assert ("URGENT" in said) is ("answer due" in said) is (state in AWAITED)
    assert (f"referral {state}" in said) is (state not in AWAITED)
    assert not is_awaited(an_item("disclosure", state))


@pytest.mark.parametrize(
    ("kind", "event", "state", "says", "never_says"),
    [
        pytest.param("withdrawal", "stop-sharing", "accepted", "may go on", "destroy", id="stop-sharing"),
        pytest.param("withdrawal", "stop-service", "withdrawn", "the service ends", "destroy", id="stop-service"),
        pytest.param(
            "withdrawal", "erase", "withdrawn", "only then: exchange inbox destroyed 1111ab12", "go on", id="erase"
        ),
        pytest.param("recall", None, "recall-requested", "recall-answer 1111ab12 goes-on", "takes", id="recall-asked"),
        pytest.param("recall", None, "recalled", "takes the referral back", "recall-answer", id="recalled"),
        pytest.param(
            "entered-in-error", None, "entered-in-error", "never have been made", "inbox destroyed", id="error"
        ),
        pytest.param("refusal", "cannot-open", "sent", "refusal/cannot-open", "destroy", id="refusal"),
    ],
)
def test_a_stop_says_what_is_to_be_done(
    capsys: pytest.CaptureFixture[str], kind: str, event: str | None, state: str, says: str, never_says: str
) -> None:
    stop = an_item(kind, state, event)
    show_opened(OpenedItem(item=stop, digest="0b" * 32))
    opened = capsys.readouterr().out
    show_stop(stop)
    listed = capsys.readouterr().out
    assert opened == listed
    assert says in opened
    assert never_says not in opened
    assert "What it says" not in opened


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_number_to_be_called_stands_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Half a number is another number."""
    number = "+00 12 000 0000 0000 ext. 4411"
    channel = {"channel": "phone-call", "address": number, "safe": True, "network": "public"}
    plan = {"who_initiates": "agency", "channels": [channel], "last_confirmed_at": "2026-11-30T06:00:00Z"}
    words = {"safe_contact": plan, "meeting_point": "Example Station, north entrance, beside the last of the benches"}
    content = ReferralContent.model_validate_json(json.dumps(words))
    monkeypatch.setattr(OUT, "_width", width)
    show_opened(OpenedItem(item=an_item("disclosure", "accepted"), content=content, digest="0b" * 32))
    said = capsys.readouterr().out
    assert number in said
    assert max(len(row) for row in said.splitlines() if "│" in row) <= width
    assert "north entrance" in said
