"""Step 9 by itself: what a receiver knows of a referral decides what it lets in, one fact at a time.

Over HTTP the lies of `support.lies` are refused at this step too; here each fact is the only one that refuses.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from contracts.vocabulary import Feedback, Priority, Purpose, ServiceType, Stage
from exchange.envelope.kinds import Kind, class_of
from exchange.referral.lifecycle import EventName, Side, State
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.use_cases.arrivals import BatchMemory, Known
from exchange.use_cases.facts import Facts
from exchange.verification import (
    Circumstances,
    ParsedItem,
    ReferralMemory,
    VerificationError,
    _check_referral,
)

PURPOSE = Purpose.PROVIDE_SAFE_ACCOMMODATION
RECEIVED = ReferralMemory(
    side=Side.RECEIVING,
    contract="aa" * 32,
    state=State.ACCEPTED,
    closed=False,
    destroyed=False,
    purpose=PURPOSE,
    sent=frozenset({"a-question"}),
    received=frozenset({"the-offer"}),
    acceptances=frozenset({"bb" * 32}),
    sharing_stopped=False,
    feedback=Feedback.STATUS,
    heard=frozenset(),
)
SENT = RECEIVED._replace(
    side=Side.REFERRING, sent=frozenset({"the-offer"}), received=frozenset({"a-question"}), acceptances=frozenset()
)
GONE = {"destroyed": True, "closed": True, "sent": frozenset[str](), "received": frozenset[str]()}


def judged(kind: Kind, memory: ReferralMemory | None, **changes: Any) -> VerificationError | None:
    """What step 9 says to an envelope of this kind."""
    members = {
        "kind": kind,
        "kind_class": class_of(kind),
        "purpose": PURPOSE.value,
        "stage": Stage.OFFER.value,
        "in_reply_to": "the-offer",
        "number": 3,
    }
    item = cast("ParsedItem", SimpleNamespace(header=SimpleNamespace(**(members | changes))))
    nothing = cast("Any", None)
    try:
        _check_referral(item, memory, nothing, cast("Circumstances", nothing))
    except VerificationError as error:
        return error
    return None


FORWARDS = [
    pytest.param({"destroyed": True}, "not-legal", id="destroyed"),
    pytest.param({"closed": True}, "not-legal", id="closed"),
    pytest.param({"sharing_stopped": True}, "not-legal", id="she-stopped-sharing"),
    pytest.param({"side": Side.REFERRING}, "not-legal", id="made-here"),
    pytest.param({"purpose": Purpose.PROVIDE_LEGAL_AID}, "not-legal", id="for-another-purpose"),
    pytest.param({"received": frozenset(), "sent": frozenset()}, "reply-unknown", id="in-reply-to-nothing"),
]


@pytest.mark.parametrize(("changes", "code"), FORWARDS)
@pytest.mark.parametrize("kind", [Kind.INFORMATION, Kind.UPDATE, Kind.DISCLOSURE])
def test_what_follows_an_offer_is_refused(kind: Kind, changes: dict[str, Any], code: str) -> None:
    refusal = judged(kind, RECEIVED._replace(**changes))
    assert refusal is not None
    assert (refusal.step, refusal.code, refusal.final) == (9, code, True)


@pytest.mark.parametrize("kind", [Kind.INFORMATION, Kind.UPDATE, Kind.DISCLOSURE])
def test_who_she_is_comes_after_an_acceptance(kind: Kind) -> None:
    refusal = judged(kind, RECEIVED._replace(acceptances=frozenset()), stage=Stage.DISCLOSURE.value)
    assert refusal is not None
    assert (refusal.step, refusal.code) == (9, "not-accepted")


@pytest.mark.parametrize("in_reply_to", [None, "the-offer", "a-question"])
@pytest.mark.parametrize("kind", [Kind.INFORMATION, Kind.UPDATE])
def test_what_follows_an_offer_replies_to_what_either_side_made(kind: Kind, in_reply_to: str | None) -> None:
    assert judged(kind, RECEIVED, in_reply_to=in_reply_to) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"side": Side.RECEIVING}, "not-legal", id="received-here"),
        pytest.param({"sent": frozenset(), "received": frozenset()}, "reply-unknown", id="in-reply-to-nothing"),
        *(
            pytest.param(GONE | {"state": state}, "not-legal", id=f"destroyed-after-{state.value}")
            for state in (State.EXPIRED, State.RECALLED, State.COMPLETED, State.FAILED, State.WITHDRAWN)
        ),
        *(
            pytest.param({"closed": True, "state": state}, "not-legal", id=f"closed-as-{state.value}")
            for state in (State.WITHDRAWN, State.ENTERED_IN_ERROR, State.DECLINED, State.REDIRECTED)
        ),
    ],
)
def test_an_answer_is_refused(changes: dict[str, Any], code: str) -> None:
    refusal = judged(Kind.DECISION, SENT._replace(**changes))
    assert refusal is not None
    assert (refusal.step, refusal.code, refusal.final) == (9, code, True)


@pytest.mark.parametrize(
    "state", [State.EXPIRED, State.RECALLED, State.RECALL_REQUESTED, State.COMPLETED, State.FAILED]
)
def test_an_answer_that_crossed_an_end_on_its_way_is_let_in(state: State) -> None:
    assert judged(Kind.DECISION, SENT._replace(closed=True, state=state)) is None


@pytest.mark.parametrize("state", [State.DECLINED, State.REDIRECTED])
def test_what_has_ended_it_may_be_said_once_more_and_nothing_else(state: State) -> None:
    ended = SENT._replace(closed=True, state=state, heard=frozenset({2, 3}))
    assert judged(Kind.DECISION, ended) is None
    for memory, number in ((ended, 4), (ended._replace(destroyed=True), 3)):
        refusal = judged(Kind.DECISION, memory, number=number)
        assert refusal is not None
        assert (refusal.step, refusal.code) == (9, "not-legal")


@pytest.mark.parametrize("state", [State.WITHDRAWN, State.ENTERED_IN_ERROR])
def test_after_her_no_and_an_error_nothing_is_said_once_more(state: State) -> None:
    refusal = judged(Kind.DECISION, SENT._replace(closed=True, state=state, heard=frozenset({3})))
    assert refusal is not None
    assert (refusal.step, refusal.code) == (9, "not-legal")


@pytest.mark.parametrize(
    ("kind", "memory", "code", "final"),
    [
        pytest.param(Kind.OFFER, RECEIVED, "not-legal", True, id="a-second-offer"),
        pytest.param(Kind.OFFER, RECEIVED._replace(state=State.WITHDRAWN), "withdrawn", True, id="after-her-no"),
        pytest.param(Kind.DECISION, None, "unknown-referral", True, id="an-answer-about-nothing"),
        pytest.param(Kind.INFORMATION, None, "unknown-referral", False, id="before-its-offer"),
        pytest.param(Kind.DISCLOSURE, None, "unknown-referral", False, id="a-disclosure-before-its-offer"),
        pytest.param(Kind.HOLD, RECEIVED, "kind-not-supported", True, id="a-kind-of-later"),
    ],
)
def test_what_cannot_be_at_all(kind: Kind, memory: ReferralMemory | None, code: str, final: bool) -> None:
    refusal = judged(kind, memory)
    assert refusal is not None
    assert (refusal.step, refusal.code, refusal.final) == (9, code, final)


@pytest.mark.parametrize("kind", [Kind.WITHDRAWAL, Kind.RECALL, Kind.ENTERED_IN_ERROR, Kind.ERASURE_RECEIPT])
@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(None, id="of-nothing"),
        pytest.param(RECEIVED._replace(**GONE), id="of-what-is-destroyed"),
        pytest.param(SENT._replace(sharing_stopped=True, closed=True), id="of-what-has-ended"),
    ],
)
def test_a_stop_is_never_refused(kind: Kind, memory: ReferralMemory | None) -> None:
    assert judged(kind, memory, in_reply_to=None) is None


RECORD = ReferralRecord(
    id="a0" * 16,
    side=Side.RECEIVING.value,
    peer="orchid-helpline",
    sector="shelter",
    contract="aa" * 32,
    state=State.ACCEPTED.value,
    created_at=1,
    updated_at=1,
    respond_by=10,
)
FACTS = Facts(
    service=ServiceType.SAFE_ACCOMMODATION,
    purpose=PURPOSE,
    priority=Priority.URGENT,
    feedback=Feedback.STATUS,
    offer="the-offer",
    retention_declined_s=1,
    retention_expired_s=1,
    retention_closed_s=1,
)


def said(name: EventName, side: Side = Side.RECEIVING, **changes: Any) -> EventRecord:
    return EventRecord(RECORD.id, side.value, 2, name.value, 1, 2, digest="cc" * 32)._replace(**changes)


def remembered(facts: Facts | None, *events: EventRecord, **changes: Any) -> ReferralMemory:
    known = Known(RECORD._replace(**changes), facts, list(events), sent={"a-question"}, received={"an-update"})
    memory = BatchMemory({}, {}, {RECORD.id: known}).of(RECORD.id)
    assert memory is not None
    return memory


@pytest.mark.parametrize(
    ("event", "accepts"),
    [
        pytest.param(said(EventName.ACCEPTED), True, id="accepted"),
        pytest.param(said(EventName.ACCEPTED, Side.REFERRING), False, id="the-other-side-says-so"),
        pytest.param(said(EventName.ACCEPTED, digest=None), False, id="accepted-and-not-told"),
        *(pytest.param(said(name), False, id=name.value) for name in EventName if name is not EventName.ACCEPTED),
    ],
)
def test_only_its_own_acceptance_lets_in_who_she_is(event: EventRecord, accepts: bool) -> None:
    assert remembered(FACTS, event).acceptances == (frozenset({"cc" * 32}) if accepts else frozenset())


@pytest.mark.parametrize("end", ["destroyed_at", "blocked_at"])
def test_what_is_destroyed_and_what_she_had_blocked_take_nothing_in(end: str) -> None:
    assert not remembered(FACTS).destroyed
    assert remembered(FACTS, **{end: 5}).destroyed


def test_the_offer_is_remembered_although_its_row_is_gone() -> None:
    assert remembered(FACTS).sent == {"a-question", "the-offer"}
    assert remembered(None).sent == {"a-question"}
    assert remembered(FACTS).received == {"an-update"}


def test_her_stop_is_remembered_whatever_the_state() -> None:
    assert not remembered(FACTS).sharing_stopped
    assert remembered(FACTS, sharing_stopped_at=5).sharing_stopped


def test_what_the_other_side_has_said_is_remembered_by_its_number() -> None:
    theirs, mine = said(EventName.DECLINED, Side.REFERRING, number=7), said(EventName.DECLINED, number=8)
    assert remembered(FACTS, theirs, mine).heard == {7}


def test_of_an_unknown_referral_nothing_is_remembered() -> None:
    assert BatchMemory({}, {}).of(RECORD.id) is None
