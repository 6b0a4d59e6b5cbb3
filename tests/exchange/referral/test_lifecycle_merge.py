"""The merge of two logs: named cases, and the laws that make both nodes agree."""

from collections.abc import Iterable
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.vocabulary import WithdrawalForm
from exchange.limits import DAY_MS
from exchange.referral.errors import TransitionError
from exchange.referral.events import STOPS
from exchange.referral.lifecycle import (
    Event,
    EventName,
    Side,
    State,
    check_new,
    check_received,
    local_state,
    merge,
    sender_view,
    sharing_stopped,
    withdrawal_form,
    word_of_no,
)

DUE = 10_000
END = DUE + DAY_MS
OTHER = {Side.REFERRING: Side.RECEIVING, Side.RECEIVING: Side.REFERRING}


def sender(name: str, number: int, seen: int = 0, at: int = 1) -> Event:
    return Event(Side.REFERRING, EventName(name), number, seen, at)


def receiver(name: str, number: int, seen: int = 0, at: int = 1) -> Event:
    return Event(Side.RECEIVING, EventName(name), number, seen, at)


CASES = [
    pytest.param([], 1, "received", id="nothing-said"),
    pytest.param([], END - 1, "received", id="silence-before-the-end"),
    pytest.param([], END, "expired", id="silence"),
    pytest.param([receiver("information-requested", 1)], 1, "information-requested", id="asked"),
    pytest.param([receiver("information-requested", 1)], END, "expired", id="asking-stops-no-clock"),
    pytest.param([receiver("accepted", 1, at=DUE)], END, "accepted", id="accepted-at-the-last-moment"),
    pytest.param([receiver("accepted", 1, at=DUE + 1)], DUE + 2, "received", id="a-late-yes-does-not-count"),
    pytest.param([receiver("accepted", 1, at=DUE + 1)], END, "expired", id="a-late-yes-does-not-save"),
    pytest.param([receiver("waitlisted", 1), receiver("accepted", 2, at=END)], END, "accepted",
                 id="waitlisted-in-time-accepted-later"),
    pytest.param([receiver("in-service", 3, at=DUE)], END, "in-service", id="progress-shows-the-decision-before-it"),
    pytest.param([receiver("accepted", 2), receiver("waitlisted", 1)], 1, "accepted", id="highest-number"),
    pytest.param([sender("recalled", 1)], 1, "recalled", id="recalled"),
    pytest.param([sender("recalled", 1)], END, "recalled", id="recalled-before-expired"),
    pytest.param([sender("recalled", 5), receiver("accepted", 3)], 1, "recalled", id="recalled-after-acceptance"),
    pytest.param([sender("recalled", 5), receiver("failed", 3)], 1, "recalled", id="recalled-over-failed"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6, seen=4)], 1, "recall-requested",
                 id="in-service-before-it-knew"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6, seen=5)], 1, "recalled",
                 id="in-service-although-it-knew"),
    pytest.param([sender("recalled", 5), receiver("completed", 6, seen=4)], 1, "recall-requested",
                 id="completed-before-it-knew"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6), receiver("recalled", 7, seen=5)], 1, "recalled",
                 id="receiver-agrees"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6), receiver("recalled", 7, seen=4)], 1,
                 "recall-requested", id="agreement-to-another-recall"),
    pytest.param([sender("recalled", 5), sender("recalled", 8), receiver("in-service", 6),
                  receiver("recalled", 7, seen=5)], 1, "recalled", id="agreement-to-the-first-of-two"),
    pytest.param([sender("recalled", 5), sender("recalled", 8, seen=6), receiver("in-service", 6)], 1,
                 "recall-requested", id="a-second-recall-is-no-agreement-to-the-first"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6), receiver("in-service", 7, seen=5)], 1,
                 "in-service", id="receiver-goes-on"),
    pytest.param([sender("recalled", 5), receiver("in-service", 6), receiver("completed", 7, seen=5)], 1,
                 "completed", id="receiver-was-done"),
    pytest.param([sender("recalled", 5), sender("recalled", 8), receiver("in-service", 6),
                  receiver("in-service", 7, seen=5)], 1, "recall-requested", id="recalled-once-more"),
    pytest.param([receiver("recalled", 7, seen=5), receiver("in-service", 6)], 1, "in-service",
                 id="agreement-without-a-recall"),
    pytest.param([sender("entered-in-error", 5), sender("recalled", 4)], 1, "entered-in-error",
                 id="error-over-recall"),
    pytest.param([receiver("entered-in-error", 5)], END, "entered-in-error", id="error-over-expired"),
    pytest.param([sender("stop-service", 5), sender("entered-in-error", 9)], 1, "withdrawn", id="her-no-over-error"),
    pytest.param([receiver("erase", 5), receiver("completed", 9)], END, "withdrawn", id="erase"),
    pytest.param([sender("stop-sharing", 5)], 1, "received", id="stop-sharing-leaves-the-state"),
    pytest.param([sender("disclosed", 4), sender("stop-sharing", 5), receiver("accepted", 3)], 1, "accepted",
                 id="stop-sharing-after-release"),
    pytest.param([sender("stop-sharing", 5), receiver("accepted", 3)], 1, "accepted",
                 id="stop-sharing-whose-release-never-arrived"),
    pytest.param([sender("disclosed", 4), receiver("stop-service", 5, seen=3), receiver("accepted", 3)], 1,
                 "withdrawn", id="receiver-stopped-before-the-release-arrived"),
    pytest.param([sender("disclosed", 4), sender("stop-sharing", 5), sender("stop-service", 6)], 1, "withdrawn",
                 id="stop-service-after-stop-sharing"),
    pytest.param([sender("disclosed", 4), sender("stop-sharing", 5), receiver("accepted", 3),
                  receiver("completed", 9)], 1, "completed", id="the-service-goes-on-after-stop-sharing"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "at", "state"), CASES)
def test_the_state(events: list[Event], at: int, state: str) -> None:
    for order in permutations(events):
        assert merge([*order, *order], respond_by=DUE, at=at) is State(state)


def test_progress_at_home_is_not_part_of_the_shared_state() -> None:
    events = [receiver("accepted", 1), Event(Side.RECEIVING, EventName.IN_SERVICE, 2, 0, 1, shared=False)]
    assert merge(events, respond_by=DUE, at=1) is State.ACCEPTED
    assert local_state(events, respond_by=DUE, at=1) is State.IN_SERVICE


def test_the_sender_sees_sent_until_the_receiver_signed() -> None:
    assert sender_view(State.RECEIVED, delivered=False) is State.SENT
    assert sender_view(State.RECEIVED, delivered=True) is State.RECEIVED
    assert sender_view(State.RECALLED, delivered=False) is State.RECALLED


@pytest.mark.parametrize(
    ("names", "form"),
    [
        pytest.param([], None, id="no-no"),
        pytest.param(["stop-sharing"], WithdrawalForm.STOP_SHARING, id="stop-sharing"),
        pytest.param(["stop-service", "stop-sharing"], WithdrawalForm.STOP_SERVICE, id="stop-service"),
        pytest.param(["erase", "stop-service"], WithdrawalForm.ERASE, id="erase"),
        pytest.param(["entered-in-error"], None, id="an-error-is-not-her-no"),
    ],
)
def test_the_strongest_form_counts(names: list[str], form: WithdrawalForm | None) -> None:
    assert withdrawal_form(sender(name, number) for number, name in enumerate(names, start=1)) is form


def test_sharing_stops_with_the_first_word() -> None:
    assert sharing_stopped([sender("disclosed", 4), receiver("stop-sharing", 5, seen=4)])
    assert not sharing_stopped([sender("disclosed", 4), receiver("completed", 5, seen=4)])


class TwoNodes:
    """Two replicas that make legal events and exchange them late, twice and out of order."""

    def __init__(self) -> None:
        self.log: dict[Side, list[Event]] = {side: [] for side in Side}
        self.way: dict[Side, list[Event]] = {side: [] for side in Side}
        self.now = 1

    def make(self, side: Side, which: int, *, stop: bool) -> None:
        legal = [event for name in EventName if (event := self.legal(side, name)) and (name in STOPS) is stop]
        if legal:
            event = legal[which % len(legal)]
            self.log[side].append(event)
            self.way[OTHER[side]].append(event)

    def legal(self, side: Side, name: EventName) -> Event | None:
        seen = max((event.number for event in self.log[side] if event.side is not side), default=0)
        event = Event(side, name, self.now, seen, self.now)
        try:
            check_new(event, self.log[side], respond_by=DUE)
        except TransitionError:
            return None
        return event

    def deliver(self, side: Side, which: int, *, keep: bool) -> None:
        if self.way[side]:
            place = which % len(self.way[side])
            event = self.way[side][place] if keep else self.way[side].pop(place)
            check_received(event, self.log[side])
            if event not in self.log[side]:
                self.log[side].append(event)

    def deliver_all(self) -> None:
        for side in Side:
            while self.way[side]:
                self.deliver(side, 0, keep=False)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["make", "make", "make", "stop", "deliver", "deliver", "deliver-twice", "wait"]),
        st.sampled_from(Side),
        st.integers(0, 30),
    ),
    max_size=40,
)


def play(steps: Iterable[tuple[str, Side, int]]) -> TwoNodes:
    nodes = TwoNodes()
    for what, side, which in steps:
        nodes.now += which * 40 if what == "wait" else 1
        if what in {"make", "stop"}:
            nodes.make(side, which, stop=what == "stop")
        elif what != "wait":
            nodes.deliver(side, which, keep=what == "deliver-twice")
    return nodes


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_both_nodes_agree_once_everything_arrived(steps: list[tuple[str, Side, int]]) -> None:
    nodes = play(steps)
    nodes.deliver_all()
    one, other = (nodes.log[side] for side in Side)
    assert set(one) == set(other)
    for at in (nodes.now, END - 1, END):
        assert merge(one, respond_by=DUE, at=at) is merge(other, respond_by=DUE, at=at)


EVENTS = st.lists(
    st.builds(
        Event,
        side=st.sampled_from(Side),
        name=st.sampled_from(EventName),
        number=st.integers(1, 12),
        seen=st.integers(0, 12),
        at=st.integers(1, 2 * DUE),
        shared=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda event: (event.side, event.number),
)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.integers(1, 2 * END), st.randoms(use_true_random=False))
def test_order_and_repetition_never_matter(events: list[Event], at: int, random: Random) -> None:
    shuffled = [*events, *events[:3]]
    random.shuffle(shuffled)
    assert merge(shuffled, respond_by=DUE, at=at) is merge(events, respond_by=DUE, at=at)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.sampled_from(["stop-service", "erase"]), st.sampled_from(Side), st.integers(1, 2 * END))
def test_nothing_undoes_her_no(events: list[Event], name: str, side: Side, at: int) -> None:
    no = Event(side, EventName(name), 13, 0, 1)
    assert merge([*events, no], respond_by=DUE, at=at) is State.WITHDRAWN


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.sampled_from(Side), st.integers(1, 2 * END))
def test_stop_sharing_never_moves_the_state(events: list[Event], side: Side, at: int) -> None:
    no = Event(side, EventName.STOP_SHARING, 13, 12, 1)
    assert merge([*events, no], respond_by=DUE, at=at) is merge(events, respond_by=DUE, at=at)


@settings(max_examples=200, deadline=None)
@given(EVENTS, EVENTS, st.sampled_from(WithdrawalForm), st.integers(1, 2 * END))
def test_a_release_that_only_one_side_knows_of_changes_nothing(
    events: list[Event], known: list[Event], form: WithdrawalForm, at: int
) -> None:
    no = Event(Side.REFERRING, word_of_no(form, known), 13, 12, 1)
    released = Event(Side.REFERRING, EventName.DISCLOSED, 12, 0, 1)
    here, there = [*events, released, no], [*events, no]
    assert merge(here, respond_by=DUE, at=at) is merge(there, respond_by=DUE, at=at)


@pytest.mark.parametrize(
    ("form", "released", "word"),
    [
        pytest.param("stop-sharing", False, "stop-service", id="nothing-was-released-yet"),
        pytest.param("stop-sharing", True, "stop-sharing", id="released"),
        pytest.param("stop-service", False, "stop-service", id="stop-service"),
        pytest.param("stop-service", True, "stop-service", id="stop-service-after-a-release"),
        pytest.param("erase", False, "erase", id="erase-although-nothing-was-released-yet"),
        pytest.param("erase", True, "erase", id="erase"),
    ],
)
def test_the_word_of_her_no(form: str, released: bool, word: str) -> None:
    known = [sender("offered", 1), receiver("accepted", 2), *([sender("disclosed", 3)] if released else [])]
    assert word_of_no(WithdrawalForm(form), known) is EventName(word)
