"""Feedback is disclosure too: the only maker of an Answer.

Rules, in this order:

1. A decision, an information-request and the answer to a recall always travel: the referral cannot go on without them.
   Once she stopped sharing no more information is asked for, and nothing is left to decide.
2. Progress travels as far as the lesser of the rule's and her consent's feedback level allows:
   `decision`: only that it is over, completed or failed, and not how · `status`: every step, and not how it ended ·
   `outcome`: every step, with outcome or reason.
3. Once she stopped sharing, only completed or failed travel, and not how, whatever the level.
4. Reasons that would tell whether a person is known have become `other` before they get here (`referral.answers`).

What may not travel is not an error: `Kept` says so, and the progress stays in the receiver's own record.
The referring side reads by the same rules (`read_answer`, `says_event`, `may_travel`): it takes nothing that it should
not have been told.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Final, Literal

from contracts.vocabulary import Feedback
from exchange.envelope.kinds import Kind
from exchange.referral.answers import (
    AnswerContent,
    Decision,
    DecisionContent,
    InformationRequestContent,
    Progress,
    ProgressContent,
    RecallAnswerContent,
)
from exchange.referral.lifecycle import EventName, State

_MAKER: Final = object()
_OVER: Final = frozenset({Progress.COMPLETED, Progress.FAILED})
KeptCode = Literal["feedback-level", "sharing-stopped"]
_KEPT: Final[dict[KeptCode, str]] = {
    "feedback-level": "Her consent and the rule let the referring agency hear the decision only. This stays here.",
    "sharing-stopped": "She stopped sharing. Only that the service is over is still told.",
}
_READ_AS: Final[dict[Kind, type[AnswerContent]]] = {
    Kind.DECISION: DecisionContent,
    Kind.PROGRESS: ProgressContent,
    Kind.INFORMATION_REQUEST: InformationRequestContent,
    Kind.RECALL_ANSWER: RecallAnswerContent,
}
"""The kinds of answer that this version serves."""
_SERVICE_STATES: Final = frozenset({State.IN_SERVICE, State.COMPLETED, State.FAILED})


@dataclass(frozen=True, slots=True)
class Answer:
    """What may go back to the referring agency. Only `answer` and `answer_recall` make one."""

    kind: Kind
    event: EventName
    content: AnswerContent
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        """Raises TypeError unless the feedback rule made it."""
        if made_by is not _MAKER:
            raise TypeError("an Answer is made only by exchange.feedback")


@dataclass(frozen=True, slots=True)
class Kept:
    """It does not travel; the receiver keeps it to itself."""

    code: KeptCode
    sentence: str


def answer(
    content: DecisionContent | ProgressContent | InformationRequestContent, *, level: Feedback, sharing_stopped: bool
) -> Answer | Kept:
    """What travels of this content. `level` is the lesser of rule and consent (`exchange.disclosure.lesser`)."""
    if isinstance(content, ProgressContent):
        return _progress(content, level, sharing_stopped=sharing_stopped)
    if sharing_stopped:
        return _kept("sharing-stopped")
    if isinstance(content, DecisionContent):
        return Answer(Kind.DECISION, EventName(content.decision.value), content, _MAKER)
    return Answer(Kind.INFORMATION_REQUEST, EventName.INFORMATION_REQUESTED, content, _MAKER)


def answer_recall(content: RecallAnswerContent, *, state: State) -> Answer:
    """The answer to a recall; `state` is what the receiver said last, and stands if it does not agree.

    Raises:
        ValueError: if the service had not begun: then there is nothing to answer.
    """
    if state not in _SERVICE_STATES:
        raise ValueError("a recall is answered only where the service had begun")
    event = EventName.RECALLED if content.agreed else EventName(state.value)
    return Answer(Kind.RECALL_ANSWER, event, content, _MAKER)


def counted_by(*, level: Feedback, sharing_stopped: bool) -> tuple[Answer, ...]:
    """Words without which a later one may count for nothing at the other agency, as far as they may be told.

    A late decision counts by the waiting list alone, and no name is released without the acceptance. An answer to a
    recall has seen it: that the service had begun before is said by `in-service`, or, where that stays at home, by
    `completed`. In the order in which they are said.
    """
    decided = [
        answer(DecisionContent(decision=promise), level=level, sharing_stopped=sharing_stopped)
        for promise in (Decision.WAITLISTED, Decision.ACCEPTED)
    ]
    begun = answer(ProgressContent(state=Progress.IN_SERVICE), level=level, sharing_stopped=sharing_stopped)
    if isinstance(begun, Kept):
        begun = answer(ProgressContent(state=Progress.COMPLETED), level=level, sharing_stopped=sharing_stopped)
    return tuple(word for word in (*decided, begun) if isinstance(word, Answer))


def read_answer(kind: Kind, data: bytes) -> AnswerContent:
    """The content of an answer of this kind, strictly read.

    Raises:
        ContentInvalidError: it is not one.
    """
    return _READ_AS[kind].from_bytes(data)


def says_event(content: AnswerContent, event: str) -> bool:
    """Whether a content says what the header of its envelope says."""
    if isinstance(content, DecisionContent):
        return content.decision == event
    if isinstance(content, ProgressContent):
        return content.state == event
    if isinstance(content, RecallAnswerContent):
        return content.agreed is (event == EventName.RECALLED)
    return event == EventName.INFORMATION_REQUESTED


def may_travel(content: AnswerContent, level: Feedback) -> bool:
    """Whether all of this may be told at this level."""
    if not isinstance(content, ProgressContent):
        return True
    travels = _progress(content, level, sharing_stopped=False)
    return isinstance(travels, Answer) and travels.content == content


def over(state: Progress) -> bool:
    """Whether this says that the service has ended: told even where she stopped sharing."""
    return state in _OVER


def tells_how(level: Feedback) -> bool:
    """Whether at this level, while she shares, it is told how a service ended."""
    return level is Feedback.OUTCOME


def event_may_travel(kind: Kind, event: EventName, level: Feedback, *, sharing_stopped: bool) -> bool:
    """The same rules where only the header is known: whether an answer that says this may leave at all."""
    if kind is Kind.RECALL_ANSWER:
        return True
    if kind is Kind.PROGRESS:
        return Progress(event.value) in _OVER or not (sharing_stopped or level is Feedback.DECISION)
    return not sharing_stopped


def _progress(content: ProgressContent, level: Feedback, *, sharing_stopped: bool) -> Answer | Kept:
    over = content.state in _OVER
    if sharing_stopped and not over:
        return _kept("sharing-stopped")
    if level is Feedback.DECISION and not over:
        return _kept("feedback-level")
    says_all = tells_how(level) and not sharing_stopped
    travelling = content if says_all else ProgressContent(state=content.state)
    return Answer(Kind.PROGRESS, EventName(content.state.value), travelling, _MAKER)


def _kept(code: KeptCode) -> Kept:
    return Kept(code, _KEPT[code])
