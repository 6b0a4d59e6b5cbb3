"""The receiving agency decides on an offer. The same decision again is no conflict; another one is.

A question for other fields is another question, and is asked. The same decision for another reason is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ValidationError

from exchange.feedback import answer
from exchange.referral.answers import Decision, DecisionContent, InformationRequestContent
from exchange.referral.events import PROMISES
from exchange.referral.lifecycle import EventName, Side
from exchange.schemas.inbox import DecisionRequest, ReferralAct
from exchange.schemas.problems import ProblemField
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import misplaced, refuse_promise_if_left, repeated, say, say_again
from exchange.use_cases.cases import again, new_event, read_case, referral_of_item
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.node import Node
from exchange.use_cases.readable import refuse_unreadable

_BELONGS: Final[Mapping[str, str]] = {
    "reason": "declined",
    "suggested_service": "redirected",
    "fields": "information-requested",
}
"""The members of a request that belong to one decision, which needs them."""


async def decide_referral(node: Node, acting: Acting, item: str, request: DecisionRequest) -> ReferralAct:
    """Accept, decline, put on the waiting list, redirect, or ask for coded information.

    Raises:
        NotFoundError, GoneError: there is no such offer here.
        InvalidError: a reason, service or field is missing or misplaced.
        ForbiddenError: it would be a promise, and this agency has left the federation.
        ConflictError: another decision stands, the state forbids it, the time to answer has passed, or it would be a
            promise about an offer that nobody here can open (`key-lost`).
    """
    content = _content(request)
    name = EventName(request.decision)
    detail = request.reason or request.suggested_service or " ".join(sorted(request.fields)) or None
    referral = await referral_of_item(node, item, acting.unit)

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.RECEIVING, acting.unit)
        word = answer(content, level=case.facts.feedback, sharing_stopped=case.record.sharing_stopped_at is not None)
        if repeated(case, name, detail):
            return await say_again(node, acting, case, word)
        refuse_promise_if_left(node, name)
        if name in PROMISES:
            # Of what is over the key is gone as it should be: nobody has to send it anew.
            new_event(node, case, name)
            await refuse_unreadable(node, case.facts.offer)
        # The reason as it was given stays in this agency's own record; what travels may say `other`.
        return await say(node, acting, case, word, name, detail=detail)

    return await again(step)


def _content(request: DecisionRequest) -> DecisionContent | InformationRequestContent:
    wrong = tuple(_wrong(request))
    if wrong:
        raise _invalid(*wrong)
    if request.decision != "information-requested":
        return DecisionContent(
            decision=Decision(request.decision), reason=request.reason, suggested_service=request.suggested_service
        )
    try:
        return InformationRequestContent(fields=request.fields)
    except ValidationError as error:
        sentence = "Name one to twenty fields, each once, and only such as an agency can be asked for."
        raise _invalid(ProblemField(path="fields", code="cannot-be-asked", sentence=sentence)) from error


def _wrong(request: DecisionRequest) -> Iterator[ProblemField]:
    """Every member that its decision lacks, or that belongs to another one."""
    for member, decision in _BELONGS.items():
        is_there, is_due = bool(getattr(request, member)), request.decision == decision
        if is_due and not is_there:
            yield ProblemField(path=member, code="needed-here", sentence=f"`{decision}` needs `{member}`.")
        if is_there and not is_due:
            yield misplaced(member, decision)


def _invalid(*fields: ProblemField) -> InvalidError:
    return InvalidError("decision-invalid", "This decision is incomplete or contradicts itself.", fields=fields)
