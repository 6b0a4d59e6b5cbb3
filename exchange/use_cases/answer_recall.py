"""The receiving agency is serving her already, and the sender wants the referral back: does it stop?"""

from __future__ import annotations

from exchange.feedback import answer_recall as make_answer
from exchange.referral.answers import RecallAnswerContent
from exchange.referral.lifecycle import EventName, Side, State
from exchange.schemas.inbox import RecallAnswerRequest, ReferralAct
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import answers_a_recall, repeated, say, say_again
from exchange.use_cases.cases import Case, again, read_case, referral_of_item
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.node import Node

_SERVICE = (State.IN_SERVICE, State.COMPLETED, State.FAILED)


async def answer_recall(node: Node, acting: Acting, item: str, request: RecallAnswerRequest) -> ReferralAct:
    """Answer the recall.

    Raises:
        NotFoundError, GoneError: there is no such referral here.
        ConflictError: `no-recall`: nobody asked, or it was answered.
    """
    referral = await referral_of_item(node, item, acting.unit)

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.RECEIVING, acting.unit)
        asked = case.state(node.clock()) is State.RECALL_REQUESTED
        again_said = not asked and await _is_said_again(node, case, agreed=request.agreed)
        if not again_said and not asked:
            raise ConflictError("no-recall", "Nobody asked for this referral back, or it was answered already.")
        # Said again, what was said of the service may have been taken back with its envelope: who agrees says as much.
        served = [State.IN_SERVICE, *(State(event.name) for event in case.own() if event.name in _SERVICE)]
        word = make_answer(RecallAnswerContent(agreed=request.agreed), state=served[-1])
        if again_said:
            return await say_again(node, acting, case, word)
        return await say(node, acting, case, word, word.event)

    return await again(step)


async def _is_said_again(node: Node, case: Case, *, agreed: bool) -> bool:
    """Whether this side's latest word is this answer."""
    if agreed:
        return repeated(case, EventName.RECALLED)
    last = case.words()[-1:]
    return bool(last) and last[0].name in _SERVICE and await answers_a_recall(node, case, last[0])
