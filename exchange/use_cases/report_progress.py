"""The receiving agency says how the service goes. How much of it travels is the rule's and her consent's to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.feedback import Kept, answer
from exchange.referral.answers import Progress, ProgressContent
from exchange.referral.lifecycle import EventName, Side
from exchange.schemas.inbox import ProgressRequest, ReferralAct
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import misplaced, repeated, say, say_again
from exchange.use_cases.cases import again, read_case, referral_of_item
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.node import Node

_BELONGS: Final[Mapping[str, str]] = {"outcome": "completed", "fail_reason": "failed"}
"""The members of a request that belong to one state."""


async def report_progress(node: Node, acting: Acting, item: str, request: ProgressRequest) -> ReferralAct:
    """Report one step.

    Raises:
        NotFoundError, GoneError: there is no such referral here.
        InvalidError: an outcome or a reason in the wrong place.
        ConflictError: the state forbids it.
    """
    wrong = tuple(
        misplaced(member, state)
        for member, state in _BELONGS.items()
        if getattr(request, member) is not None and request.state != state
    )
    if wrong:
        raise InvalidError("progress-invalid", "This progress contradicts itself.", fields=wrong)
    content = ProgressContent(state=Progress(request.state), outcome=request.outcome, fail_reason=request.fail_reason)
    name, detail = EventName(request.state), request.outcome or request.fail_reason
    referral = await referral_of_item(node, item, acting.unit)

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.RECEIVING, acting.unit)
        word = answer(content, level=case.facts.feedback, sharing_stopped=case.record.sharing_stopped_at is not None)
        stays_here = word.code if isinstance(word, Kept) else None
        if repeated(case, name, detail):
            # Said before she stopped sharing, it has been told.
            told = case.words()[-1].shared
            act = await say_again(node, acting, case, word)
            return act.model_copy(update={"stays_here": None if told else stays_here})
        act = await say(node, acting, case, word, name, detail=detail)
        return act.model_copy(update={"stays_here": stays_here})

    return await again(step)
