"""What a worker reads of a referral that she sent: to whom it goes, and what she has to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import typer

from contracts.vocabulary import ServiceType
from exchange.cli.referral_sheet import show_created, show_preview, show_view
from exchange.cli.sent_before import refuse_what_is_open
from exchange.referral.lifecycle import State
from exchange.schemas.referrals import OpenReferrals, ReferralCreated, ReferralFlags, ReferralPreview, ReferralView


def a_view(state: State, *, overdue: bool = False, **flags: bool) -> ReferralView:
    return ReferralView.model_validate(
        {
            "id": "2" * 32,
            "side": "referring",
            "peer": "rose-house-shelter",
            "sector": "accommodation",
            "state": state,
            "flags": ReferralFlags(overdue=overdue, **flags),
            "created_at": "2026-11-23T21:04:00Z",
            "updated_at": "2026-11-23T21:04:00Z",
            "respond_by": "2026-11-24T21:04:00Z",
            "contract": "0b" * 32,
        }
    )


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param("overdue", "has not answered in time: telephone", id="overdue"),
        pytest.param("undeliverable", "has not reached rose-house-shelter, and may never: telephone", id="undelivered"),
        pytest.param("receiver_unserved", "telephone it before you confirm", id="unserved"),
        pytest.param("resend", "send this referral again", id="lost-there"),
    ],
)
def test_a_flag_that_asks_for_something_says_what(capsys: pytest.CaptureFixture[str], flag: str, says: str) -> None:
    show_view(a_view(State.RECEIVED, **{flag: True}))
    assert says in capsys.readouterr().err
    show_view(a_view(State.RECEIVED))
    assert says not in capsys.readouterr().err


@pytest.mark.parametrize("state", [State.ACCEPTED, State.DECLINED, State.IN_SERVICE])
def test_an_answer_that_came_late_is_not_waited_for(capsys: pytest.CaptureFixture[str], state: State) -> None:
    show_view(a_view(state, overdue=True))
    assert "telephone" not in capsys.readouterr().err


def test_a_drill_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    show_view(a_view(State.RECEIVED))
    assert "EXERCISE" not in capsys.readouterr().out
    show_view(a_view(State.RECEIVED).model_copy(update={"exercise": True}))
    assert "received (EXERCISE)" in capsys.readouterr().out


async def test_a_drill_that_is_open_is_not_taken_for_hers(capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads that she was sent already, and does not read that it was a drill, sends nobody."""
    opened = a_view(State.ACCEPTED).model_copy(update={"exercise": True})

    async def open_under(_consent: str) -> OpenReferrals:
        return OpenReferrals(items=(opened,))

    client: Any = SimpleNamespace(referrals=SimpleNamespace(open_under=open_under))
    request: Any = SimpleNamespace(
        consent="1" * 32, to="rose-house-shelter", service_type=ServiceType.SAFE_ACCOMMODATION
    )
    with pytest.raises(typer.Exit):
        await refuse_what_is_open(client, request)
    assert "accepted (EXERCISE)" in capsys.readouterr().err


def test_the_agency_is_named_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    preview = {"allowed": True, "code": "allowed", "sentence": "It would go.", "fields": (), "priority": "urgent"}
    show_preview(ReferralPreview.model_validate(preview), "rose-house-shelter")
    assert "To rose-house-shelter:" in capsys.readouterr().out
    created = {
        "id": "2" * 32,
        "client_code": "K7QF-3M2P",
        "state": "sent",
        "to": "rose-house-shelter",
        "priority": "urgent",
        "respond_by": "2026-11-24T21:04:00Z",
        "expires_at": "2026-11-30T21:04:00Z",
        "disclosure_held": True,
        "release": "automatic",
        "withheld": (),
        "call_now": False,
        "duty_contact": "+00 000",
        "told_first": {},
    }
    show_created(ReferralCreated.model_validate(created))
    assert "to rose-house-shelter" in capsys.readouterr().out
