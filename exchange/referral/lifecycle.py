"""The state of a referral: a pure function of both sides' events, so that both nodes always agree.

Rules of `merge`, in order of precedence. Order of arrival and repetition never matter.

1. Withdrawn: her no, by `stop-service` or `erase`. `stop-sharing` leaves the state as it is: it is said only where her
   data had been released (`word_of_no`), and from then on sharing has stopped (`sharing_stopped`).
2. Entered in error, by either side.
3. Recalled: the sender took it back. If the receiver was in service before it had seen the recall, it is
   recall-requested until the receiver answers: `recalled`, or that it goes on or is over.
4. Expired: respond_by + 24 h have passed and no decision is dated respond_by or earlier. The 24 h are for decisions
   that are still on their way; a decision dated later than respond_by never counts.
5. Otherwise what the receiver said last: its event with the highest number.

Legality. A new event of one's own (`check_new`) has to stand in the strict table (`check_transition`) and has to be
in time (`check_in_time`). A received one has to be reachable from what its side said last (`check_received`): events
overtake each other, so an older number is recorded and changes nothing.

How many. Words that may follow each other without end (not reached, scheduled, not reached; one more question; one more
recall) end at `limits.events_own`, before the other side stops recording at `limits.events_received`: the rest of a
service can always be told. A stop is never refused; beyond that number it is recorded unless its side said it before
(`says_nothing_new`). Otherwise whoever has one referral could make each of its envelopes cost more than the one before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from contracts.vocabulary import WithdrawalForm
from exchange.limits import LIMITS
from exchange.referral.errors import TransitionError
from exchange.referral.events import (
    CHAIN,
    DECISIONS,
    PROGRESS,
    RECEIVER_MOVES,
    SENDER_MOVES,
    STOPS,
    TERMINAL,
    WITHDRAWALS,
    Event,
    EventName,
    Side,
    State,
    reachable,
)

__all__ = [
    "TERMINAL",
    "Event",
    "EventName",
    "Side",
    "State",
    "TransitionError",
    "check_in_time",
    "check_new",
    "check_received",
    "check_transition",
    "local_state",
    "may",
    "merge",
    "says_nothing_new",
    "sender_view",
    "sharing_stopped",
    "withdrawal_form",
    "word_of_no",
]

_WITHDRAWING: Final = frozenset({EventName.STOP_SERVICE, EventName.ERASE})
_SERVED: Final = frozenset({EventName.IN_SERVICE, EventName.COMPLETED})
"""Events that show that the service had begun. `completed` implies `in-service`, which may still be on its way."""
_RECALL_ANSWERS: Final = _SERVED | {EventName.FAILED}
_WITHOUT_END: Final = frozenset(
    {EventName.INFORMATION_REQUESTED, EventName.SCHEDULED, EventName.NOT_REACHED, EventName.NOT_ARRIVED}
)
"""Events that may alternate as often as the receiver likes; a recall is one of the sender's."""
_OF_SENDER: Final = frozenset({EventName.OFFERED, EventName.DISCLOSED, EventName.RECALLED})
_OF_RECEIVER: Final = CHAIN | {EventName.RECEIVED, EventName.RECALLED}


def merge(events: Iterable[Event], *, respond_by: int, at: int) -> State:
    """The state that both sides compute from the events that travelled."""
    return _state([event for event in events if event.shared], respond_by, at)


def local_state(events: Iterable[Event], *, respond_by: int, at: int) -> State:
    """The state from everything this side knows, progress that stayed at home included: for its own next step."""
    return _state(list(events), respond_by, at)


def sender_view(state: State, *, delivered: bool) -> State:
    """What the sender shows: until the receiver has signed for the offer it is sent, not received."""
    return State.SENT if state is State.RECEIVED and not delivered else state


def sharing_stopped(events: Iterable[Event]) -> bool:
    """Whether she said `stop-sharing` at any moment: no forward leaves any more."""
    return any(event.name is EventName.STOP_SHARING for event in events)


def word_of_no(form: WithdrawalForm, own: Iterable[Event]) -> EventName:
    """The event as which her no is made and sent, by a side that knows these events.

    Before a release nothing was shared that a service could go on with: then `stop-sharing` ends the service too. Its
    maker says so in the word it sends. If each side asked its own record whether there was a release, they would differ
    where one is on its way, for ever (`docs/decisions/0010-her-no-and-a-release-in-flight.md`).
    """
    if form is WithdrawalForm.STOP_SHARING and not any(event.name is EventName.DISCLOSED for event in own):
        return EventName.STOP_SERVICE
    return EventName(form.value)


def withdrawal_form(events: Iterable[Event]) -> WithdrawalForm | None:
    """The strongest form of her no, or nothing if she has said none."""
    said = {WITHDRAWALS[event.name] for event in events if event.name in WITHDRAWALS}
    return next((form for form in reversed(WithdrawalForm) if form in said), None)


def _state(events: Collection[Event], respond_by: int, at: int) -> State:
    if any(event.name in _WITHDRAWING for event in events):
        return State.WITHDRAWN
    if any(event.name is EventName.ENTERED_IN_ERROR for event in events):
        return State.ENTERED_IN_ERROR
    said = [event for event in events if event.side is Side.RECEIVING and event.name in CHAIN]
    recall = _recall(events, said)
    if recall is not None:
        return recall
    if not any(event.at <= respond_by for event in said if event.name in DECISIONS | PROGRESS):
        # Progress shows that there was a decision before it, which may still be on its way.
        if at >= respond_by + LIMITS.offer_after_respond_by_ms:
            return State.EXPIRED
        said = [event for event in said if event.name is EventName.INFORMATION_REQUESTED]
    return _last_said(said)


def _recall(events: Collection[Event], said: Collection[Event]) -> State | None:
    """Rule 3; nothing where no recall counts (any more)."""
    recalls = [event.number for event in events if event.side is Side.REFERRING and event.name is EventName.RECALLED]
    if not recalls:
        return None
    first, last = min(recalls), max(recalls)
    served_unaware = any(event.name in _SERVED and event.seen < first for event in said)
    agreed = any(
        event.side is Side.RECEIVING and event.name is EventName.RECALLED and event.seen >= first for event in events
    )
    if agreed or not served_unaware:
        return State.RECALLED
    answered = any(event.name in _RECALL_ANSWERS and event.seen >= last for event in said)
    return None if answered else State.RECALL_REQUESTED


def _last_said(said: Collection[Event]) -> State:
    last = max(said, key=lambda event: event.number, default=None)
    return State.RECEIVED if last is None else State(last.name.value)


def may(side: Side, name: EventName, state: State) -> bool:
    """Whether this side may make this event in this state."""
    if name in STOPS:
        return state is not State.DRAFT
    moves = SENDER_MOVES if side is Side.REFERRING else RECEIVER_MOVES
    return name in moves[state]


def check_transition(side: Side, name: EventName, state: State) -> None:
    """Refuses a new event of one's own that the strict table does not list.

    Raises:
        TransitionError: `not-your-move` where the event belongs to the other side, `state-forbids` otherwise.
    """
    _check_owner(side, name)
    if not may(side, name, state):
        sentence = f"`{name.value}` is not possible while the referral is `{state.value}`."
        raise TransitionError("state-forbids", f"{sentence} {_instead(state)}" if side is Side.RECEIVING else sentence)


def check_in_time(name: EventName, state: State, *, respond_by: int, at: int) -> None:
    """Refuses a first decision after respond_by: it would not count, and the sender already looks elsewhere.

    A referral on the waiting list was decided in time; accepting or declining it later is possible.

    Raises:
        TransitionError: `respond-by-passed`.
    """
    if name in DECISIONS and state is not State.WAITLISTED and at > respond_by:
        raise TransitionError(
            "respond-by-passed", "The time to answer has passed. Call the referring agency; it can send a new referral."
        )


def check_received(event: Event, known: Iterable[Event]) -> None:
    """Refuses a received event that its side cannot have made, whatever is still on its way.

    Raises:
        TransitionError: `not-your-move`, `number-reused`, `too-many-events` or `unreachable`.
    """
    _check_owner(event.side, event.name)
    own = [other for other in known if other.side is event.side]
    if len(own) >= LIMITS.events_received and event.name not in STOPS and not _is_recall(event):
        raise _too_many()
    if any(other.number == event.number and other != event for other in own):
        raise TransitionError("number-reused", "This number was already used for another event.")
    if event.side is Side.REFERRING or event.name not in CHAIN:
        return
    said = [other for other in own if other.name in CHAIN]
    if any(other.number >= event.number for other in said):
        return
    now = _last_said(said)
    # A service that is running or over says so once more when it answers a recall.
    repeated = event.name.value == now.value and event.name in _RECALL_ANSWERS
    if not repeated and event.name not in reachable(now):
        raise TransitionError(
            "unreachable", f"`{event.name.value}` cannot follow `{now.value}`; the event is not recorded."
        )


def says_nothing_new(event: Event, known: Iterable[Event]) -> bool:
    """Whether a received stop or recall repeats what its side said before, after more events than are recorded."""
    own = [other for other in known if other.side is event.side]
    return len(own) >= LIMITS.events_received and any(other.name is event.name for other in own)


def check_new(event: Event, known: Collection[Event], *, respond_by: int) -> None:
    """Every check of an event that this side is about to make; `known` is all that this side knows.

    Raises:
        TransitionError: as `check_transition`, `check_in_time` and `check_received`, or `number-not-higher`.
    """
    own = [other for other in known if other.side is event.side]
    if any(other.number >= event.number for other in own):
        raise TransitionError("number-not-higher", "The number of an event must be higher than any before it.")
    if (event.name in _WITHOUT_END or _is_recall(event)) and len(own) >= LIMITS.events_own:
        raise _too_many()
    state = local_state(known, respond_by=respond_by, at=event.at)
    if event.name is not EventName.OFFERED:
        check_transition(event.side, event.name, state)
    check_in_time(event.name, state, respond_by=respond_by, at=event.at)
    check_received(event, known)


def _is_recall(event: Event) -> bool:
    """By the receiver it is its consent to one."""
    return event.name is EventName.RECALLED and event.side is Side.REFERRING


def _too_many() -> TransitionError:
    return TransitionError(
        "too-many-events", "Too much was said of this referral. Say how the service ended, or telephone."
    )


def _instead(state: State) -> str:
    """What the receiving side can say now; the answer to a recall is no word of its own."""
    if state is State.RECALL_REQUESTED:
        return "Answer the recall first."
    said = [f"`{name.value}`" for name in EventName if name in RECEIVER_MOVES[state]]
    return f"Possible now: {', '.join(said)}." if said else "It has ended: nothing more can be said of it."


def _check_owner(side: Side, name: EventName) -> None:
    owned = _OF_SENDER if side is Side.REFERRING else _OF_RECEIVER
    if name not in owned | STOPS:
        raise TransitionError("not-your-move", f"`{name.value}` is not an event of the {side.value} side.")
