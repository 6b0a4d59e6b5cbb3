"""Every pair of event and state, legal or not, for both sides; written down here once more, independently."""

from contextlib import nullcontext
from itertools import product

import pytest

from exchange.limits import LIMITS
from exchange.referral import lifecycle
from exchange.referral.errors import TransitionError
from exchange.referral.events import CHAIN, RECEIVER_MOVES, reachable
from exchange.referral.lifecycle import (
    Event,
    EventName,
    Side,
    State,
    check_new,
    check_received,
    check_transition,
    may,
    says_nothing_new,
)

DUE = 1_000_000
ANYWHERE = "stop-sharing stop-service erase entered-in-error"
RECEIVER = {
    "draft": "",
    "sent": "received",
    "received": "information-requested accepted waitlisted declined redirected",
    "information-requested": "information-requested accepted waitlisted declined redirected",
    "waitlisted": "accepted declined",
    "accepted": "scheduled not-reached not-arrived in-service failed",
    "scheduled": "not-reached not-arrived in-service failed",
    "not-reached": "scheduled not-arrived in-service failed",
    "not-arrived": "scheduled not-reached in-service failed",
    "in-service": "completed failed",
    "recall-requested": "recalled in-service completed failed",
    "declined": "",
    "redirected": "",
    "completed": "",
    "failed": "",
    "recalled": "",
    "withdrawn": "",
    "expired": "",
    "entered-in-error": "",
}
SENDER = {
    "draft": "offered",
    "sent": "recalled",
    "received": "recalled",
    "information-requested": "recalled",
    "waitlisted": "recalled",
    "accepted": "recalled disclosed",
    "scheduled": "recalled disclosed",
    "not-reached": "recalled disclosed",
    "not-arrived": "recalled disclosed",
    "in-service": "recalled disclosed",
    "recall-requested": "",
    "declined": "",
    "redirected": "",
    "completed": "",
    "failed": "",
    "recalled": "",
    "withdrawn": "",
    "expired": "",
    "entered-in-error": "",
}
LEGAL = {
    (side, EventName(name), State(state))
    for side, table in ((Side.RECEIVING, RECEIVER), (Side.REFERRING, SENDER))
    for state, names in table.items()
    for name in [*names.split(), *("" if state == "draft" else ANYWHERE).split()]
}
RECEIVER_NAMES = sorted(CHAIN)
PAIRS = [
    pytest.param(side, name, state, id=f"{side.value}-{name.value}-while-{state.value}")
    for side, name, state in product(Side, EventName, State)
]


def test_the_tables_cover_every_state() -> None:
    assert set(RECEIVER) == set(SENDER) == {state.value for state in State}


@pytest.mark.parametrize(("side", "name", "state"), PAIRS)
def test_every_pair(side: Side, name: EventName, state: State) -> None:
    legal = (side, name, state) in LEGAL
    assert may(side, name, state) is legal
    if legal:
        check_transition(side, name, state)
        return
    with pytest.raises(TransitionError) as caught:
        check_transition(side, name, state)
    owned = {event for owner, event, _ in LEGAL if owner is side}
    assert caught.value.code == ("state-forbids" if name in owned else "not-your-move")


@pytest.mark.parametrize("state", [state for state in State if state is not State.RECALL_REQUESTED])
def test_a_refused_receiver_is_told_every_move_it_has(state: State) -> None:
    refused = next(name for name in RECEIVER_NAMES if not may(Side.RECEIVING, name, state))
    with pytest.raises(TransitionError) as caught:
        check_transition(Side.RECEIVING, refused, state)
    for name in RECEIVER_NAMES:
        told = f"`{name.value}`" in caught.value.sentence.partition("Possible now: ")[2]
        assert told is may(Side.RECEIVING, name, state)


def test_who_is_asked_for_a_referral_back_is_told_to_answer() -> None:
    with pytest.raises(TransitionError) as caught:
        check_transition(Side.RECEIVING, EventName.SCHEDULED, State.RECALL_REQUESTED)
    assert "Answer the recall first." in caught.value.sentence


@pytest.mark.parametrize("state", [state for state in State if state is not State.DRAFT])
@pytest.mark.parametrize("side", Side)
def test_her_no_is_legal_in_every_state(side: Side, state: State) -> None:
    for name in ANYWHERE.split():
        check_transition(side, EventName(name), state)


def test_reachable_is_the_closure_of_the_moves() -> None:
    for state in State:
        if state is State.RECALL_REQUESTED:
            continue
        seen: set[EventName] = set()
        queue = list(RECEIVER_MOVES[state] & CHAIN)
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += RECEIVER_MOVES[State(name.value)]
        assert reachable(state) == seen, state


def said(name: str, number: int, seen: int = 0, at: int = 1) -> Event:
    return Event(Side.RECEIVING, EventName(name), number, seen, at)


RECEIVED_CHAIN = [
    pytest.param(said(old.value, 5), said(new.value, 9), id=f"{new.value}-after-{old.value}")
    for old, new in product(sorted(CHAIN), sorted(CHAIN))
]


@pytest.mark.parametrize(("before", "event"), RECEIVED_CHAIN)
def test_a_received_event_has_to_be_reachable(before: Event, event: Event) -> None:
    answers_recall = before.name is event.name and before.name.value in {"in-service", "completed", "failed"}
    if event.name in reachable(State(before.name.value)) or answers_recall:
        check_received(event, [before])
        return
    with pytest.raises(TransitionError) as caught:
        check_received(event, [before])
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_an_older_number_is_recorded(name: EventName) -> None:
    check_received(said(name.value, 3), [said("declined", 5)])


def test_a_repeat_is_recorded_and_a_reused_number_is_not() -> None:
    check_received(said("accepted", 5), [said("accepted", 5)])
    for other in (said("declined", 5), said("accepted", 5, at=2), said("accepted", 5)._replace(seen=3)):
        with pytest.raises(TransitionError) as caught:
            check_received(other, [said("accepted", 5, at=1)])
        assert caught.value.code == "number-reused"


def test_a_stop_makes_no_later_event_an_older_one() -> None:
    """Only what moves the state says what can follow: a stop with a higher number lets nothing in before it."""
    with pytest.raises(TransitionError) as caught:
        check_received(said("completed", 8), [said("declined", 5), said("stop-sharing", 9)])
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    ("side", "name"),
    [
        pytest.param(Side.REFERRING, EventName.ACCEPTED, id="sender-accepts"),
        pytest.param(Side.REFERRING, EventName.COMPLETED, id="sender-completes"),
        pytest.param(Side.RECEIVING, EventName.DISCLOSED, id="receiver-discloses"),
        pytest.param(Side.RECEIVING, EventName.OFFERED, id="receiver-offers"),
    ],
)
def test_nobody_speaks_for_the_other_side(side: Side, name: EventName) -> None:
    with pytest.raises(TransitionError) as caught:
        check_received(Event(side, name, 9, 0, 1), [])
    assert caught.value.code == "not-your-move"


@pytest.mark.parametrize("name", ["accepted", "declined", "waitlisted", "redirected"])
def test_a_first_decision_after_respond_by_is_refused(name: str) -> None:
    check_new(said(name, 9, at=DUE), [], respond_by=DUE)
    with pytest.raises(TransitionError) as caught:
        check_new(said(name, 9, at=DUE + 1), [], respond_by=DUE)
    assert caught.value.code == "respond-by-passed"


def test_a_place_on_the_waiting_list_can_be_given_later() -> None:
    check_new(said("accepted", 9, at=DUE + 5), [said("waitlisted", 5, at=DUE)], respond_by=DUE)


def test_a_number_rises() -> None:
    for number in (4, 5):
        with pytest.raises(TransitionError) as caught:
            check_new(said("in-service", number), [said("accepted", 5)], respond_by=DUE)
        assert caught.value.code == "number-not-higher"


def test_a_completed_service_does_not_go_back_into_service_by_answering_a_recall() -> None:
    known = [
        said("accepted", 1),
        said("in-service", 2),
        said("completed", 3),
        Event(Side.REFERRING, EventName.RECALLED, 4, 1, 1),
    ]
    check_new(said("completed", 5, seen=4), known, respond_by=DUE)
    check_new(said("recalled", 5, seen=4), known, respond_by=DUE)
    with pytest.raises(TransitionError) as caught:
        check_new(said("in-service", 5, seen=4), known, respond_by=DUE)
    assert caught.value.code == "unreachable"


def test_progress_that_stayed_at_home_counts_for_the_next_step() -> None:
    at_home = Event(Side.RECEIVING, EventName.IN_SERVICE, 2, 0, 1, shared=False)
    check_new(said("completed", 3), [said("accepted", 1), at_home], respond_by=DUE)
    with pytest.raises(TransitionError):
        check_new(said("completed", 3), [said("accepted", 1)], respond_by=DUE)


def _said(side: Side, count: int) -> list[Event]:
    name = EventName.NOT_REACHED if side is Side.RECEIVING else EventName.DISCLOSED
    return [Event(side, name, number, 0, 0) for number in range(count)]


@pytest.mark.parametrize("name", ["information-requested", "scheduled", "not-reached", "not-arrived", "recalled"])
def test_words_without_end_end_and_others_do_not(name: str) -> None:
    side = Side.REFERRING if name == "recalled" else Side.RECEIVING
    for count, refused in ((LIMITS.events_own - 1, False), (LIMITS.events_own, True)):
        event = Event(side, EventName(name), count, 0, 0)
        with pytest.raises(TransitionError) if refused else nullcontext() as error:
            _every_check_but_the_table(event, _said(side, count))
        assert not refused or error.value.code == "too-many-events"


def test_a_receiver_can_agree_to_a_recall_after_many_words() -> None:
    event = Event(Side.RECEIVING, EventName.RECALLED, 10_000, 1, 0)
    _every_check_but_the_table(event, _said(Side.RECEIVING, LIMITS.events_own + 20))


def _every_check_but_the_table(event: Event, known: list[Event]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lifecycle, "check_transition", lambda *_: None)
        patched.setattr(lifecycle, "check_received", lambda *_: None)
        check_new(event, known, respond_by=DUE)


@pytest.mark.parametrize("name", ["in-service", "failed"])
def test_how_it_goes_on_can_be_said_after_many_words(name: str) -> None:
    known = [Event(Side.RECEIVING, EventName.ACCEPTED, 1, 0, 0), *_said(Side.RECEIVING, LIMITS.events_own + 20)[2:]]
    check_new(Event(Side.RECEIVING, EventName(name), 10_000, 0, 0), known, respond_by=DUE)


def test_more_than_anybody_says_is_not_recorded_but_for_a_stop_that_is_new() -> None:
    for side in Side:
        known = _said(side, LIMITS.events_received)
        name = EventName.SCHEDULED if side is Side.RECEIVING else EventName.DISCLOSED
        with pytest.raises(TransitionError) as error:
            check_received(Event(side, name, 10_000, 0, 0), known)
        assert error.value.code == "too-many-events"
        check_received(Event(side, name, 10_000, 0, 0), known[1:])
        recalled = Event(side, EventName.RECALLED, 10_000, 0, 0)
        if side is Side.REFERRING:
            check_received(recalled, known)
        else:
            # Its agreement to a recall is an answer like any other.
            with pytest.raises(TransitionError) as error:
                check_received(recalled, known)
            assert error.value.code == "too-many-events"
        for stop in map(EventName, ANYWHERE.split()):
            first, again = Event(side, stop, 10_000, 0, 0), Event(side, stop, 10_001, 0, 0)
            check_received(first, known)
            assert not says_nothing_new(first, known)
            assert says_nothing_new(again, [*known, first])
            others = Event(Side.RECEIVING if side is Side.REFERRING else Side.REFERRING, stop, 9_999, 0, 0)
            assert not says_nothing_new(first, [*known, others])
            assert not says_nothing_new(others, [*known, first])
            assert not says_nothing_new(again, [*known[2:], first])
