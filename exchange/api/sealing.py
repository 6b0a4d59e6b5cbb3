"""For an agency whose keys live with its own software: sealed envelopes in, weekly keys out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from exchange.api.bodies import IdempotencyKey, JsonBody, Parsed, idempotency
from exchange.api.callers import InboxOpener, InboxReader, ReferralsWriter
from exchange.api.operations import Operation, operation
from exchange.api.rendering import created, render
from exchange.api.shared_codes import AN_ENVELOPE, TELLING
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest, EpochsRequest, OwnEpochs
from exchange.use_cases.hand_in_sealed import hand_in_sealed
from exchange.use_cases.publish_epochs import list_own_epochs, take_epochs

router = APIRouter(tags=["sealing"])

EnvelopesBody = Annotated[Parsed[EnvelopesRequest], Depends(JsonBody(EnvelopesRequest))]
EpochsBody = Annotated[Parsed[EpochsRequest], Depends(JsonBody(EpochsRequest))]

#: What is asked of an envelope that this node did not seal itself.
_ONLY_SEALED = (
    "already-disclosed",
    "consent-missing",
    "contract-differs",
    "epoch-key-differs",
    "expires-too-late",
    "feedback-level",
    "from-the-future",
    "group-not-allowed",
    "id-conflict",
    "kind-not-supported",
    "no-recall",
    "not-accepted",
    "not-together",
    "nothing-asked",
    "nothing-owed",
    "number-not-higher",
    "receipt-differs",
    "release-misplaced",
    "reply-unknown",
    "respond-by-differs",
    "respond-by-passed",
    "roster-differs",
    "seen-too-high",
    "sender-differs",
    "signing-key-differs",
    "sender-not-active",
    "too-old",
    "unreachable",
)


@router.post("/v1/envelopes")
@operation(
    Operation(
        EnvelopesAnswer,
        "The envelopes are stored: queued or held.",
        status=201,
        repeats=True,
        problems=(
            *AN_ENVELOPE,
            *TELLING,
            *_ONLY_SEALED,
            "not-found",
            "answer-destroyed",
        ),
    )
)
async def hand_in_envelopes(
    request: Request, call: ReferralsWriter, key: IdempotencyKey, body: EnvelopesBody
) -> Response:
    """Hand in sealed envelopes.

    For an agency whose own software seals and signs: any forward, any answer, and the attestation that its copies are
    destroyed. The node reads the header and nothing else. It holds it against roster, contract, consent and the state
    of the referral; an offer makes the referral and is queued, a disclosure is held until the receiver accepts.

    The example shows the form only: real ones are made by `exchange.client.vault`, or as in `tests/javascript`.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await hand_in_sealed(call.node, call.acting, body.value, idem))


@router.put("/v1/epochs")
@operation(
    Operation(
        OwnEpochs,
        "The keys are published.",
        problems=(
            "keys-here",
            "malformed",
            "too-large",
            "statement-malformed",
            "statement-signature",
            "epoch-not-a-week",
            "key-unusable",
            "epoch-of-another",
            "epoch-over",
            "from-the-future",
            "too-old",
            "epoch-went-back",
            "epochs-differ",
            "epochs-too-many",
            "not-a-member",
        ),
    )
)
async def publish_epoch_statements(call: InboxOpener, body: EpochsBody) -> Response:
    """Publish weekly keys.

    Statements that your own software has signed with the agency key; it keeps the private halves. Publish this week and
    the five that follow, so that others can write to you while your machine sleeps. The same again changes nothing.
    A node that holds its agency's keys refuses it (`keys-here`).
    Where somebody else may have the private halves: revocations of all keys that are listed, those of ended weeks too,
    together with new statements, which have the higher numbers. It happens in one step or not at all.
    """
    return render(await take_epochs(call.node, call.acting, body.value))


@router.get("/v1/epochs")
@operation(Operation(OwnEpochs, "The keys.", problems=("not-a-member",)))
async def list_published_epochs(call: InboxReader) -> Response:
    """List the weekly keys.

    The keys of this agency that are published now, and for how many weeks ahead.
    """
    return render(await list_own_epochs(call.node))
