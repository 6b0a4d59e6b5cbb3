"""How much comes back: never more than rule and consent allow, and almost nothing once she stopped sharing."""

import dataclasses
from itertools import product

import pytest

from contracts.vocabulary import DeclineReason, FailReason, Feedback, Field, Outcome
from exchange.envelope.kinds import SHAPES, Kind
from exchange.feedback import Answer, Kept, answer, answer_recall
from exchange.referral.answers import (
    Decision,
    DecisionContent,
    InformationRequestContent,
    Progress,
    ProgressContent,
    RecallAnswerContent,
)
from exchange.referral.lifecycle import EventName, State

DECLINED = DecisionContent(decision=Decision.DECLINED, reason=DeclineReason.NO_CAPACITY)
COMPLETED = ProgressContent(state=Progress.COMPLETED, outcome=Outcome.SERVICE_PROVIDED)
FAILED = ProgressContent(state=Progress.FAILED, fail_reason=FailReason.NOT_ARRIVED)
ASKED = InformationRequestContent(fields=(Field.PARTY,))
STEPS = [Progress.SCHEDULED, Progress.NOT_REACHED, Progress.NOT_ARRIVED, Progress.IN_SERVICE]


@pytest.mark.parametrize("level", Feedback)
@pytest.mark.parametrize("content", [DECLINED, ASKED], ids=["decision", "information-request"])
def test_what_the_referral_needs_always_travels(
    content: DecisionContent | InformationRequestContent, level: Feedback
) -> None:
    made = answer(content, level=level, sharing_stopped=False)
    assert isinstance(made, Answer)
    assert made.content == content


@pytest.mark.parametrize(("step", "level"), list(product(STEPS, Feedback)))
def test_a_step_travels_from_level_status_on(step: Progress, level: Feedback) -> None:
    made = answer(ProgressContent(state=step), level=level, sharing_stopped=False)
    if level is Feedback.DECISION:
        assert isinstance(made, Kept)
        assert made.code == "feedback-level"
    else:
        assert isinstance(made, Answer)
        assert made.event == step.value


@pytest.mark.parametrize(("content", "level"), list(product([COMPLETED, FAILED], Feedback)))
def test_how_it_ended_travels_at_level_outcome_only(content: ProgressContent, level: Feedback) -> None:
    made = answer(content, level=level, sharing_stopped=False)
    assert isinstance(made, Answer)
    assert isinstance(made.content, ProgressContent)
    assert made.content.state is content.state
    how = (made.content.outcome, made.content.fail_reason)
    assert how == ((content.outcome, content.fail_reason) if level is Feedback.OUTCOME else (None, None))


@pytest.mark.parametrize("level", Feedback)
@pytest.mark.parametrize(
    "content",
    [DECLINED, ASKED, *(ProgressContent(state=step) for step in STEPS)],
    ids=lambda one: one.to_bytes().decode(),
)
def test_after_she_stopped_sharing_nothing_travels(
    content: DecisionContent | InformationRequestContent | ProgressContent, level: Feedback
) -> None:
    made = answer(content, level=level, sharing_stopped=True)
    assert isinstance(made, Kept)
    assert made.code == "sharing-stopped"


@pytest.mark.parametrize(("content", "level"), list(product([COMPLETED, FAILED], Feedback)))
def test_but_that_it_is_over_and_not_how(content: ProgressContent, level: Feedback) -> None:
    made = answer(content, level=level, sharing_stopped=True)
    assert isinstance(made, Answer)
    assert made.content == ProgressContent(state=content.state)


@pytest.mark.parametrize("state", [State.IN_SERVICE, State.COMPLETED, State.FAILED])
def test_the_answer_to_a_recall(state: State) -> None:
    assert answer_recall(RecallAnswerContent(agreed=True), state=state).event is EventName.RECALLED
    made = answer_recall(RecallAnswerContent(agreed=False), state=state)
    assert made.event == state.value
    assert made.event.value in (SHAPES[Kind.RECALL_ANSWER].events or ())


@pytest.mark.parametrize("state", [State.RECEIVED, State.ACCEPTED, State.RECALLED, State.WITHDRAWN])
def test_no_answer_to_a_recall_of_what_had_not_begun(state: State) -> None:
    with pytest.raises(ValueError, match="had begun"):
        answer_recall(RecallAnswerContent(agreed=True), state=state)


def test_nobody_else_makes_an_answer() -> None:
    made = answer(COMPLETED, level=Feedback.DECISION, sharing_stopped=False)
    assert isinstance(made, Answer)
    with pytest.raises(TypeError):
        Answer(Kind.PROGRESS, EventName.COMPLETED, COMPLETED)
    with pytest.raises(TypeError):
        Answer(Kind.PROGRESS, EventName.COMPLETED, COMPLETED, object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(made, content=COMPLETED)


@pytest.mark.parametrize("content", [DECLINED, ASKED, COMPLETED, FAILED], ids=lambda one: one.to_bytes().decode())
def test_the_event_is_one_of_the_wire(content: DecisionContent | InformationRequestContent | ProgressContent) -> None:
    made = answer(content, level=Feedback.OUTCOME, sharing_stopped=False)
    assert isinstance(made, Answer)
    assert made.event.value in (SHAPES[made.kind].events or ())
