"""Her yes, and her no."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from exchange.api.bodies import IdempotencyKey, JsonBody, Parsed, idempotency
from exchange.api.callers import ConsentsReader, ConsentsWriter
from exchange.api.operations import Operation, operation
from exchange.api.parameters import ConsentId
from exchange.api.rendering import created, render
from exchange.api.shared_codes import A_CONSENT, A_WRITE
from exchange.schemas.consents import ConsentRequest, ConsentView, ProvisionsRequest, ReceiptView, RenewalRequest
from exchange.schemas.referrals import WithdrawalAnswer, WithdrawalRequest
from exchange.use_cases.record_consent import (
    consent_receipt,
    narrow_consent,
    read_consent,
    record_consent,
    renew_consent,
)
from exchange.use_cases.withdraw import withdraw

router = APIRouter(tags=["consents"])

# The consent room reads moments and terms itself, before Pydantic does, and does not need its strict mode.
ConsentBody = Annotated[Parsed[ConsentRequest], Depends(JsonBody(ConsentRequest, strict=False))]
ProvisionsBody = Annotated[Parsed[ProvisionsRequest], Depends(JsonBody(ProvisionsRequest))]
RenewalBody = Annotated[Parsed[RenewalRequest], Depends(JsonBody(RenewalRequest, strict=False))]
WithdrawalBody = Annotated[Parsed[WithdrawalRequest], Depends(JsonBody(WithdrawalRequest))]


@router.post("/v1/consents")
@operation(
    Operation(
        ConsentView,
        "The consent is recorded.",
        status=201,
        repeats=True,
        problems=("consent-invalid", "unknown-subject"),
    )
)
async def record_consent_of_survivor(
    request: Request, call: ConsentsWriter, key: IdempotencyKey, body: ConsentBody
) -> Response:
    """Record a consent.

    What she allowed: which fields, to whom, why and until when; how she was asked and in which words. The first consent
    of a survivor gives her a random `subject` id; send it with her later consents. Case numbers and names have no place
    here. What is not listed is not allowed.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await record_consent(call.node, call.acting, body.value, idem))


@router.get("/v1/consents/{consent_id}")
@operation(Operation(ConsentView, "The consent as it is now."))
async def get_consent(call: ConsentsReader, consent_id: ConsentId) -> Response:
    """Read a consent.

    The record as kept by this agency, in its present version. `warn` is true from 14 days before its end.
    """
    return render(await read_consent(call.node, consent_id, call.unit))


@router.get("/v1/consents/{consent_id}/receipt")
@operation(Operation(ReceiptView, "The receipt.", problems=("sender-not-active",)))
async def get_consent_receipt(call: ConsentsReader, consent_id: ConsentId) -> Response:
    """Make a receipt for her.

    A receipt with the fields of ISO/IEC TS 27560, in neutral words. It is optional: her phone may be searched. Ask her
    first whether she wants to carry it.
    """
    return render(await consent_receipt(call.node, consent_id, call.unit))


@router.post("/v1/consents/{consent_id}/renewal")
@operation(Operation(ConsentView, "The consent lasts longer.", problems=(*A_CONSENT, "renewal-date")))
async def renew_consent_of_survivor(call: ConsentsWriter, consent_id: ConsentId, body: RenewalBody) -> Response:
    """Renew a consent.

    She says yes again, to the same, for longer. What she allowed stays as it is; for anything more record a new
    consent.
    """
    return render(await renew_consent(call.node, call.acting, consent_id, body.value))


@router.patch("/v1/consents/{consent_id}/provisions")
@operation(Operation(ConsentView, "She allows less now.", problems=(*A_CONSENT, "adds-something")))
async def narrow_consent_of_survivor(call: ConsentsWriter, consent_id: ConsentId, body: ProvisionsBody) -> Response:
    """Narrow a consent.

    Replaces the list of what she allows by a narrower one. It can take away and never add. What waits to leave and may
    hold more is destroyed, and told in the list of changes; what is held is judged when it is released.
    """
    return render(await narrow_consent(call.node, call.acting, consent_id, body.value))


@router.post("/v1/withdrawals")
@operation(
    Operation(
        WithdrawalAnswer,
        "Her no is stored and on its way.",
        status=201,
        repeats=True,
        problems=("not-found", "withdrawal-invalid", "not-live", "step-not-possible", *A_WRITE),
    )
)
async def withdraw_for_survivor(
    request: Request, call: ConsentsWriter, key: IdempotencyKey, body: WithdrawalBody
) -> Response:
    """Pass on her no.

    For one referral, or for everything under a consent. She chooses the form: `stop-sharing` (nothing further flows),
    `stop-service` (and the receiver ends its work) or `erase` (and what it holds is destroyed). It always passes,
    whatever contract and consent say by now, and is delivered however long the other node is away.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await withdraw(call.node, call.acting, body.value, idem))
