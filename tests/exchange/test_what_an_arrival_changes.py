"""What an envelope changes on its referral besides the event that it is, one kind at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from exchange.envelope.kinds import Kind, class_of
from exchange.referral.lifecycle import Side, State
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.store_arrival import Arrival, _adjusted

AT = 5_000
SENT = ReferralRecord(
    id="a0" * 16,
    side=Side.REFERRING.value,
    peer="harbour-house",
    sector="shelter",
    contract="aa" * 32,
    state=State.SENT.value,
    created_at=1,
    updated_at=1,
    respond_by=10,
    seen=7,
    hold="held",
)
UNHEARD = SENT._replace(undeliverable=True)
DELIVERED = UNHEARD._replace(delivered_at=3)
RECEIVED = SENT._replace(side=Side.RECEIVING.value, delivered_at=3, hold="none")
ANSWERS = [Kind.DECISION, Kind.PROGRESS, Kind.INFORMATION_REQUEST, Kind.RECALL_ANSWER]
STOPS = [Kind.WITHDRAWAL, Kind.RECALL, Kind.ENTERED_IN_ERROR, Kind.ERASURE_RECEIPT]


def changed_by(kind: Kind, record: ReferralRecord, *, number: int = 7, released: int | None = None) -> dict[str, Any]:
    """The columns that are others after an envelope of this kind."""
    header = SimpleNamespace(kind=kind, kind_class=class_of(kind), number=None if released is not None else number)
    release = SimpleNamespace(number=released) if released is not None else None
    checked = SimpleNamespace(item=SimpleNamespace(header=header), release=release)
    after = _adjusted(Arrival(cast("Any", checked), None, b"", "", AT, record.id), record)
    return {name: value for name, value in after._asdict().items() if value != getattr(record, name)}


@pytest.mark.parametrize("kind", ANSWERS)
def test_who_answers_has_the_offer_although_its_receipt_never_came(kind: Kind) -> None:
    """Nobody has to telephone about it any more."""
    assert changed_by(kind, UNHEARD) == {"delivered_at": AT, "undeliverable": False}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_says_nothing_of_what_was_sent_after_the_offer(kind: Kind) -> None:
    assert changed_by(kind, DELIVERED) == {}


@pytest.mark.parametrize("record", [SENT, UNHEARD, RECEIVED], ids=["sent", "unheard", "received"])
@pytest.mark.parametrize("kind", STOPS)
def test_a_stop_says_nothing_of_what_has_arrived(kind: Kind, record: ReferralRecord) -> None:
    assert changed_by(kind, record) == {}


def test_what_was_refused_has_not_arrived_and_asks_for_nothing_anew_by_itself() -> None:
    assert changed_by(Kind.REFUSAL, SENT._replace(hold="released")) == {"undeliverable": True}
    assert changed_by(Kind.REFUSAL, RECEIVED) == {}


def test_the_first_disclosure_is_the_one_that_is_dated() -> None:
    assert changed_by(Kind.DISCLOSURE, RECEIVED, released=7) == {"disclosed_at": AT}
    assert changed_by(Kind.DISCLOSURE, RECEIVED._replace(disclosed_at=4), released=7) == {}


@pytest.mark.parametrize("kind", [Kind.UPDATE, Kind.INFORMATION, Kind.WITHDRAWAL])
def test_the_highest_number_is_the_one_that_was_seen(kind: Kind) -> None:
    assert changed_by(kind, RECEIVED, number=8) == {"seen": 8}
    assert changed_by(kind, RECEIVED, number=6) == {}
    assert changed_by(Kind.DISCLOSURE, RECEIVED._replace(disclosed_at=4), released=9) == {"seen": 9}
