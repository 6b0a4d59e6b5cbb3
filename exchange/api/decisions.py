"""What the receiving side says: decide, report, answer a recall, refuse, attest."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from exchange.api.bodies import JsonBody, NoBody, Parsed
from exchange.api.callers import InboxDecider
from exchange.api.operations import Operation, operation
from exchange.api.parameters import ItemId
from exchange.api.rendering import render
from exchange.api.shared_codes import A_STEP, A_WORD, A_WRITE
from exchange.schemas.inbox import (
    DecisionRequest,
    ErasureAttestationRequest,
    ProgressRequest,
    RecallAnswerRequest,
    ReferralAct,
    RefusalRequest,
)
from exchange.use_cases.answer_recall import answer_recall
from exchange.use_cases.attest_erasure import attest_erasure
from exchange.use_cases.decide_referral import decide_referral
from exchange.use_cases.declare_error import declare_error_of_item
from exchange.use_cases.refuse_item import refuse_item
from exchange.use_cases.report_progress import report_progress

router = APIRouter(tags=["decisions"])

DecisionBody = Annotated[Parsed[DecisionRequest], Depends(JsonBody(DecisionRequest))]
ProgressBody = Annotated[Parsed[ProgressRequest], Depends(JsonBody(ProgressRequest))]
RecallAnswerBody = Annotated[Parsed[RecallAnswerRequest], Depends(JsonBody(RecallAnswerRequest))]
RefusalBody = Annotated[Parsed[RefusalRequest], Depends(JsonBody(RefusalRequest))]
AttestationBody = Annotated[Parsed[ErasureAttestationRequest], Depends(JsonBody(ErasureAttestationRequest))]


@router.post("/v1/inbox/{item_id}/decision")
@operation(
    Operation(
        ReferralAct,
        "The decision is on its way.",
        problems=(*A_WORD, "decision-invalid", "respond-by-passed", "key-lost", "sender-not-active"),
    )
)
async def decide_on_offer(call: InboxDecider, item_id: ItemId, body: DecisionBody) -> Response:
    """Decide on an offer.

    Accept, decline, waitlist, redirect or ask for fields. Accepting releases name and contact, where the rule does not
    ask the sender's worker first. The same decision again is 200; another one is 409.
    """
    return render(await decide_referral(call.node, call.acting, item_id, body.value))


@router.post("/v1/inbox/{item_id}/progress")
@operation(Operation(ReferralAct, "The report is on its way.", problems=(*A_WORD, "progress-invalid", "unreachable")))
async def report_service_progress(call: InboxDecider, item_id: ItemId, body: ProgressBody) -> Response:
    """Report progress.

    How the service goes. How much of it travels to the referring agency is for the rule and her consent to say.
    """
    return render(await report_progress(call.node, call.acting, item_id, body.value))


@router.post("/v1/inbox/{item_id}/recall-answer")
@operation(Operation(ReferralAct, "The answer is on its way.", problems=(*A_WORD, "no-recall")))
async def answer_recall_request(call: InboxDecider, item_id: ItemId, body: RecallAnswerBody) -> Response:
    """Answer a recall.

    The referring agency asked to stop while she is being served already. Say whether the service ends.
    """
    return render(await answer_recall(call.node, call.acting, item_id, body.value))


@router.post("/v1/inbox/{item_id}/refusal")
@operation(Operation(ReferralAct, "The refusal is on its way.", problems=A_STEP))
async def refuse_inbox_item(call: InboxDecider, item_id: ItemId, body: RefusalBody) -> Response:
    """Refuse an item.

    Your own software could not open or verify it, or found in it what should not have been sent. The same again changes
    nothing: the sender is told once.
    """
    return render(await refuse_item(call.node, call.acting, item_id, body.value))


@router.post("/v1/inbox/{item_id}/erasure-attestation")
@operation(
    Operation(
        ReferralAct,
        "The attestation is on its way.",
        problems=("nothing-owed", "keys-elsewhere", "peer-keys-unknown", *A_WRITE),
    )
)
async def attest_erasure_of_copies(call: InboxDecider, item_id: ItemId, body: AttestationBody) -> Response:
    """Attest erasure.

    Your own systems have destroyed their copies. The node attests for itself; this is the second of the two.
    """
    return render(await attest_erasure(call.node, call.acting, item_id, body.value))


@router.post("/v1/inbox/{item_id}/entered-in-error")
@operation(Operation(ReferralAct, "The referral is marked.", problems=A_STEP))
async def declare_item_error(call: InboxDecider, item_id: ItemId, body: NoBody) -> Response:
    """Declare an item entered in error.

    It should never have come here. Both sides stop and destroy what they hold.
    """
    del body
    return render(await declare_error_of_item(call.node, call.acting, item_id))
