"""The events and states of a referral, who may make which event, and in which state.

Rules:

* Every event has one owner: the referring side, the receiving side, or either for her no and for an entry in error.
* A side numbers its events; numbers rise and are not dense. `seen` is the other side's highest number it had processed.
* `SENDER_MOVES` and `RECEIVER_MOVES` are the whole strict table: what is not listed is illegal.
* A stop (her no, entered in error) is legal in every state: it must never fail on a rule made for her yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from contracts.vocabulary import WithdrawalForm
from contracts.vocabulary.term import Term


class Side(Term):
    """The two parties of a referral."""

    REFERRING = "referring"
    RECEIVING = "receiving"


class State(Term):
    """Where a referral stands. `draft` and `sent` exist only at the sender, before the receiver has signed for it."""

    DRAFT = "draft"
    SENT = "sent"
    RECEIVED = "received"
    INFORMATION_REQUESTED = "information-requested"
    ACCEPTED = "accepted"
    WAITLISTED = "waitlisted"
    DECLINED = "declined"
    REDIRECTED = "redirected"
    SCHEDULED = "scheduled"
    NOT_REACHED = "not-reached"
    NOT_ARRIVED = "not-arrived"
    IN_SERVICE = "in-service"
    COMPLETED = "completed"
    FAILED = "failed"
    RECALLED = "recalled"
    RECALL_REQUESTED = "recall-requested"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    ENTERED_IN_ERROR = "entered-in-error"


class EventName(Term):
    """What can happen. The receiver's events are named after the state they bring about."""

    OFFERED = "offered"
    DISCLOSED = "disclosed"
    RECEIVED = "received"
    INFORMATION_REQUESTED = "information-requested"
    ACCEPTED = "accepted"
    WAITLISTED = "waitlisted"
    DECLINED = "declined"
    REDIRECTED = "redirected"
    SCHEDULED = "scheduled"
    NOT_REACHED = "not-reached"
    NOT_ARRIVED = "not-arrived"
    IN_SERVICE = "in-service"
    COMPLETED = "completed"
    FAILED = "failed"
    RECALLED = "recalled"
    """By the sender: the recall. By the receiver: its consent to one."""
    STOP_SHARING = "stop-sharing"
    STOP_SERVICE = "stop-service"
    ERASE = "erase"
    ENTERED_IN_ERROR = "entered-in-error"


class Event(NamedTuple):
    """One event of one side."""

    side: Side
    name: EventName
    number: int
    seen: int
    at: int
    """Unix milliseconds, as its maker dated it."""
    shared: bool = True
    """Whether it travelled. Progress that the feedback level keeps at home is not part of the shared state."""


WITHDRAWALS: Final[Mapping[EventName, WithdrawalForm]] = MappingProxyType(
    {
        EventName.STOP_SHARING: WithdrawalForm.STOP_SHARING,
        EventName.STOP_SERVICE: WithdrawalForm.STOP_SERVICE,
        EventName.ERASE: WithdrawalForm.ERASE,
    }
)
STOPS: Final = frozenset(WITHDRAWALS) | {EventName.ENTERED_IN_ERROR}
DECISIONS: Final = frozenset({EventName.ACCEPTED, EventName.WAITLISTED, EventName.DECLINED, EventName.REDIRECTED})
PROMISES: Final = frozenset({EventName.ACCEPTED, EventName.WAITLISTED})
"""Decisions after which somebody counts on the receiver."""
_UNATTENDED: Final = frozenset({EventName.SCHEDULED, EventName.NOT_REACHED, EventName.NOT_ARRIVED})
PROGRESS: Final = _UNATTENDED | {EventName.IN_SERVICE, EventName.COMPLETED, EventName.FAILED}
CHAIN: Final = DECISIONS | PROGRESS | {EventName.INFORMATION_REQUESTED}
"""The receiver's own events that move the state."""
TERMINAL: Final = frozenset(
    {
        State.DECLINED,
        State.REDIRECTED,
        State.COMPLETED,
        State.FAILED,
        State.RECALLED,
        State.WITHDRAWN,
        State.EXPIRED,
        State.ENTERED_IN_ERROR,
    }
)

_ANSWERABLE: Final = DECISIONS | {EventName.INFORMATION_REQUESTED}
_SERVING: Final = frozenset({EventName.IN_SERVICE, EventName.FAILED})
_NOTHING: Final[frozenset[EventName]] = frozenset()
_AFTER_ACCEPTANCE: Final = frozenset(
    {State.ACCEPTED, State.SCHEDULED, State.NOT_REACHED, State.NOT_ARRIVED, State.IN_SERVICE}
)
_RECALLABLE: Final = _AFTER_ACCEPTANCE | {State.SENT, State.RECEIVED, State.INFORMATION_REQUESTED, State.WAITLISTED}

RECEIVER_MOVES: Final[Mapping[State, frozenset[EventName]]] = MappingProxyType(
    dict.fromkeys(State, _NOTHING)
    | {
        State.SENT: frozenset({EventName.RECEIVED}),
        State.RECEIVED: _ANSWERABLE,
        State.INFORMATION_REQUESTED: _ANSWERABLE,
        State.WAITLISTED: frozenset({EventName.ACCEPTED, EventName.DECLINED}),
        State.ACCEPTED: _UNATTENDED | _SERVING,
        State.SCHEDULED: (_UNATTENDED - {EventName.SCHEDULED}) | _SERVING,
        State.NOT_REACHED: (_UNATTENDED - {EventName.NOT_REACHED}) | _SERVING,
        State.NOT_ARRIVED: (_UNATTENDED - {EventName.NOT_ARRIVED}) | _SERVING,
        State.IN_SERVICE: frozenset({EventName.COMPLETED, EventName.FAILED}),
        # The answer to a recall names what the service is now: stopped, still running, or over already.
        State.RECALL_REQUESTED: frozenset(
            {EventName.RECALLED, EventName.IN_SERVICE, EventName.COMPLETED, EventName.FAILED}
        ),
    }
)
SENDER_MOVES: Final[Mapping[State, frozenset[EventName]]] = MappingProxyType(
    {
        state: frozenset(
            {EventName.OFFERED}
            if state is State.DRAFT
            else ({EventName.DISCLOSED} if state in _AFTER_ACCEPTANCE else set())
            | ({EventName.RECALLED} if state in _RECALLABLE else set())
        )
        for state in State
    }
)


def reachable(state: State) -> frozenset[EventName]:
    """What the receiver's own events can still come to, in any number of steps: the closure of its moves."""
    return _REACHABLE[state]


def _closure() -> dict[State, frozenset[EventName]]:
    found: dict[State, frozenset[EventName]] = {
        state: RECEIVER_MOVES[state] & CHAIN for state in State if state is not State.RECALL_REQUESTED
    }
    while True:
        wider = {
            state: names.union(*(found[State(name.value)] for name in names)) if names else names
            for state, names in found.items()
        }
        if wider == found:
            return found
        found = wider


_REACHABLE: Final[Mapping[State, frozenset[EventName]]] = MappingProxyType(
    _closure() | {State.RECALL_REQUESTED: _NOTHING}
)
