"""The receiving agency decides on an offer. The same decision again is no conflict; another one is."""

from __future__ import annotations

from pydantic import ValidationError

from exchange.feedback import answer
from exchange.referral.answers import Decision, DecisionContent, InformationRequestContent
from exchange.referral.lifecycle import EventName, Side
from exchange.schemas.inbox import DecisionRequest, ReferralAct
from exchange.schemas.problems import ProblemField
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import repeated, say
from exchange.use_cases.cases import again, read_case, referral_of_item
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.node import Node
from exchange.use_cases.views import referral_view


async def decide_referral(node: Node, acting: Acting, item: str, request: DecisionRequest) -> ReferralAct:
    """Accept, decline, put on the waiting list, redirect, or ask for coded information.

    Raises:
        NotFoundError, GoneError: there is no such offer here.
        InvalidError: a reason, service or field is missing or misplaced.
        ConflictError: another decision stands, the state forbids it, or the time to answer has passed.
    """
    content = _content(request)
    name = EventName(request.decision)
    referral = await referral_of_item(node, item, acting.unit)

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.RECEIVING, acting.unit)
        if repeated(case, name):
            return ReferralAct(referral=referral_view(case.record), repeated=True)
        word = answer(content, level=case.facts.feedback, sharing_stopped=case.record.sharing_stopped_at is not None)
        # The reason as it was given stays in this agency's own record; what travels may say `other`.
        return await say(node, acting, case, word, name, detail=request.reason)

    return await again(step)


def _content(request: DecisionRequest) -> DecisionContent | InformationRequestContent:
    try:
        if request.decision == "information-requested":
            _refuse_unless_empty(request)
            return InformationRequestContent(fields=request.fields)
        if request.fields:
            raise _misplaced("fields", "Fields belong to `information-requested`, and only there.")
        return DecisionContent(
            decision=Decision(request.decision), reason=request.reason, suggested_service=request.suggested_service
        )
    except ValidationError as error:
        raise _misplaced("decision", str(error.errors()[0]["msg"]).capitalize() + ".") from error


def _refuse_unless_empty(request: DecisionRequest) -> None:
    if request.reason is not None or request.suggested_service is not None:
        raise _misplaced("reason", "A reason belongs to `declined`, a suggested service to `redirected`.")


def _misplaced(path: str, sentence: str) -> InvalidError:
    field = ProblemField(path=path, code="misplaced", sentence=sentence)
    return InvalidError("decision-invalid", "This decision is incomplete or contradicts itself.", fields=(field,))
