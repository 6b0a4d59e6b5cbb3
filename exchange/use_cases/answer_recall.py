"""The receiving agency is serving her already, and the sender wants the referral back: does it stop?"""

from __future__ import annotations

from exchange.feedback import answer_recall as make_answer
from exchange.referral.answers import RecallAnswerContent
from exchange.referral.lifecycle import EventName, Side, State
from exchange.schemas.inbox import RecallAnswerRequest, ReferralAct
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import repeated, say
from exchange.use_cases.cases import again, read_case, referral_of_item
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.node import Node
from exchange.use_cases.views import referral_view

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
        if request.agreed and repeated(case, EventName.RECALLED):
            return ReferralAct(referral=referral_view(case.record), repeated=True)
        if case.state(node.clock()) is not State.RECALL_REQUESTED:
            raise ConflictError("no-recall", "Nobody asked for this referral back, or it was answered already.")
        served = [event.name for event in case.own() if event.name in _SERVICE]
        word = make_answer(RecallAnswerContent(agreed=request.agreed), state=State(served[-1]))
        return await say(node, acting, case, word, word.event)

    return await again(step)
