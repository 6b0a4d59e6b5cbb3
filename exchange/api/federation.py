"""What nodes say to each other. The first route is the hot one: raw body in, one use case, bytes out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from exchange.api.bodies import BatchBytes, JsonBody, Parsed
from exchange.api.callers import DeliveringPeer, Peer
from exchange.api.examples import example_of
from exchange.api.operations import Operation, operation
from exchange.api.rendering import JSON, render, revalidated
from exchange.limits import LIMITS
from exchange.schemas.federation import (
    BatchAnswer,
    ConsentStatusAnswer,
    ConsentStatusRequest,
    EnvelopeBatch,
    ResyncAnswer,
    ResyncRequest,
    RosterMirror,
)
from exchange.use_cases.consent_status import consent_status
from exchange.use_cases.describe_node import roster_mirror
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.receive_envelopes import receive_envelopes
from exchange.use_cases.resync import resync

router = APIRouter(tags=["federation"])

ConsentStatusBody = Annotated[Parsed[ConsentStatusRequest], Depends(JsonBody(ConsentStatusRequest))]
ResyncBody = Annotated[Parsed[ResyncRequest], Depends(JsonBody(ResyncRequest))]


@router.post("/federation/v1/envelopes")
@operation(
    Operation(
        BatchAnswer,
        "One answer an envelope, in the order sent.",
        problems=(
            "not-json",
            "repeated-member",
            "unsupported-media-type",
            "body-too-slow",
            "body-too-large",
            "not-a-batch",
            "not-a-member",
        ),
        request_media={
            JSON: {
                "schema": {"$ref": "#/components/schemas/EnvelopeBatch"},
                "example": example_of(EnvelopeBatch),
            }
        },
    )
)
async def receive_envelope_batch(call: DeliveringPeer, body: BatchBytes) -> Response:
    """Deliver envelopes.

    At most 50 envelopes and 4 MiB. Every envelope gets an answer of its own, and a bad one never fails the others:
    `accepted` with a signed receipt, `refused` with a problem and for good, or `later` with the seconds to wait. A
    repeat of an accepted envelope gets the first receipt again, byte for byte, so that delivery may be repeated until
    it is answered.

    A peer that has sent more than its share for a minute is told when to go on (429), before anything is looked at. A
    request that declares 32 KiB or less (`Content-Length`) is still taken then, from a small reserve for each peer: her
    no does not wait behind bulk. A request counts as large as it declares, whether it comes whole or not, and as 4 MiB
    where it declares nothing.
    """
    try:
        answer = await receive_envelopes(call.node, call.agency, body)
    except InvalidError:
        # A large one would wait in memory, and uses up the caller's bytes soon enough.
        if len(body) <= call.node.limits.small_request_bytes:
            await call.refused()
        raise
    return render(answer, least_bytes=len(answer.answers) * LIMITS.answer_bytes)


@router.post("/federation/v1/resync")
@operation(Operation(ResyncAnswer, "What was queued again."))
async def resync_after_loss(call: Peer, body: ResyncBody) -> Response:
    """Ask for everything since.

    The calling node lost what it held since a moment. Stops are queued for it again; the agency's own systems are asked
    to send the rest again.
    """
    return render(await resync(call.node, call.agency, body.value))


@router.post("/federation/v1/consent-status")
@operation(
    Operation(ConsentStatusAnswer, "One answer a receipt, under one signed statement.", problems=("not-a-member",))
)
async def ask_consent_status(call: Peer, body: ConsentStatusBody) -> Response:
    """Ask whether consents are live.

    About at most 200 receipts that were cut for the calling agency. An unknown receipt, another agency's and one whose
    consent has ended are answered alike: `not-live`. `lost` is no word: the receipt is unknown, and of a time of which
    this node lost its data, or what stands behind it cannot be read, or only what the roster of now says of the two
    agencies lets nothing go.
    """
    answer = await consent_status(call.node, call.agency, body.value)
    # By what was asked, and not by what is said: her no is heard here, on the line, before its stop has arrived.
    asked = len(body.value.receipts)
    return render(answer, least_bytes=LIMITS.consent_status_bytes + asked * LIMITS.receipt_status_bytes)


@router.get("/federation/v1/roster")
@operation(Operation(RosterMirror, "The roster.", revalidated=True))
async def get_roster_mirror(request: Request, call: Peer) -> Response:
    """Read the roster.

    The roster as this node holds it, as exact bytes: for a node whose own source is away.
    """
    mirror = await roster_mirror(call.node)
    return revalidated(request, mirror.model_dump_json(exclude_none=True).encode())
