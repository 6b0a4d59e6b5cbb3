"""What the referring side asks for, and how it follows its referrals."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from exchange.api.bodies import IdempotencyKey, JsonBody, NoBody, Parsed, idempotency
from exchange.api.callers import ReferralsPreviewer, ReferralsReader, ReferralsWriter
from exchange.api.operations import Operation, operation
from exchange.api.parameters import Changes, ConsentId, ReferralId
from exchange.api.rendering import created, next_link, render
from exchange.api.shared_codes import A_STEP, A_WRITE, SEALING, TELLING, THE_GATE
from exchange.schemas.inbox import ReferralAct
from exchange.schemas.referrals import (
    DisclosureRequest,
    ForwardAnswer,
    InformationRequest,
    OpenReferrals,
    ReferralChanges,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    ReferralView,
    ReleaseAnswer,
    SafeContactRequest,
)
from exchange.use_cases.declare_error import declare_error
from exchange.use_cases.follow_referrals import list_changes, open_under, read_referral
from exchange.use_cases.preview_referral import preview_referral
from exchange.use_cases.recall_referral import recall_referral
from exchange.use_cases.release_disclosure import release_disclosure
from exchange.use_cases.replace_disclosure import drop_disclosure, replace_disclosure
from exchange.use_cases.send_information import send_information, update_safe_contact
from exchange.use_cases.send_referral import send_referral

router = APIRouter(tags=["referrals"])

# The referral room reads moments and terms itself, before Pydantic does, and does not need its strict mode.
ReferralBody = Annotated[Parsed[ReferralRequest], Depends(JsonBody(ReferralRequest, strict=False))]
DisclosureBody = Annotated[Parsed[DisclosureRequest], Depends(JsonBody(DisclosureRequest, strict=False))]
InformationBody = Annotated[Parsed[InformationRequest], Depends(JsonBody(InformationRequest, strict=False))]
SafeContactBody = Annotated[Parsed[SafeContactRequest], Depends(JsonBody(SafeContactRequest, strict=False))]


@router.post("/v1/referrals/preview")
@operation(
    Operation(
        ReferralPreview,
        "What would happen. Nothing was stored and nothing was sent.",
        problems=("keys-elsewhere", "unknown-agency", "content-invalid", "no-contract", "sender-not-active"),
    )
)
async def preview_referral_request(call: ReferralsPreviewer, body: ReferralBody) -> Response:
    """Preview a referral.

    For every field: whether it would go, at which stage, by which rule of the contract and which line of her consent,
    and why. And what she should hear about the receiver before she agrees. Nothing is stored.
    """
    return render(await preview_referral(call.node, body.value, call.unit))


@router.post("/v1/referrals")
@operation(
    Operation(
        ReferralCreated,
        "The referral is stored, sealed and queued.",
        status=201,
        repeats=True,
        problems=("answer-destroyed", *THE_GATE, *SEALING, *A_WRITE),
    )
)
async def create_referral(request: Request, call: ReferralsWriter, key: IdempotencyKey, body: ReferralBody) -> Response:
    """Send a referral.

    One agency asks another to provide one service to one person. Contract and consent decide field by field. The offer
    goes at once and names nobody; name and contact are sealed at the same moment and held until the receiver accepts.
    A field that the rule does not list is withheld and named in the answer. A field that must never go to this kind of
    agency refuses the whole referral, and nothing is stored. With `call_now` telephone the duty contact: an emergency
    does not wait for software.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await send_referral(call.node, call.acting, body.value, idem))


@router.get("/v1/consents/{consent_id}/referrals")
@operation(Operation(OpenReferrals, "What is open under it."))
async def list_open_referrals(call: ReferralsPreviewer, consent_id: ConsentId) -> Response:
    """See what is open under a consent.

    Look here before you send where nobody knows whether it was sent before: under another Idempotency-Key the same
    request is a second referral of the same woman. State and flags; never content.
    """
    return render(await open_under(call.node, consent_id, call.unit))


@router.get("/v1/referrals")
@operation(Operation(ReferralChanges, "What changed since.", headers=("Link",), problems=("bad-cursor",)))
async def list_referral_changes(request: Request, call: ReferralsReader, query: Changes) -> Response:
    """Follow this agency's referrals.

    Changes of the referrals that this agency made, after a cursor, oldest first, each with the referral as it is now;
    never content. What it was asked by others is in the inbox. With `wait` the call stays open until something changes.
    The cursor never skips a change.
    """
    changes = await list_changes(call.node, query.cursor, query.wait, call.unit)
    if query.wait:
        await call.stands()
    return render(changes, headers=next_link(request, changes.next_cursor, wait=_whole(query.wait)))


@router.get("/v1/referrals/{referral_id}")
@operation(Operation(ReferralView, "The referral."))
async def get_referral(call: ReferralsReader, referral_id: ReferralId) -> Response:
    """Read a referral's state.

    State and flags as this node knows them; never content, which the referring node cannot read.
    """
    return render(await read_referral(call.node, referral_id, call.unit))


@router.post("/v1/referrals/{referral_id}/recall")
@operation(Operation(ReferralAct, "The recall is on its way.", problems=A_STEP))
async def recall_referral_by_sender(call: ReferralsWriter, referral_id: ReferralId, body: NoBody) -> Response:
    """Recall a referral.

    Takes the question back, and deletes a disclosure that is still held. Once the receiver serves her it becomes a
    request, which the receiver answers; who goes on may be asked again. Information or a new plan that has not left is
    deleted as well, and told (`undeliverable`): the receiver may go on without it.
    """
    del body
    return render(await recall_referral(call.node, call.acting, referral_id))


@router.post("/v1/referrals/{referral_id}/release")
@operation(
    Operation(ReleaseAnswer, "Whether it went, and if not, why.", problems=(*A_STEP, "nothing-held", "not-accepted"))
)
async def release_held_disclosure(call: ReferralsWriter, referral_id: ReferralId, body: NoBody) -> Response:
    """Release the held disclosure.

    Where the rule asks a worker to confirm after acceptance. The whole gate runs again first: roster, contract,
    consent, times. When a check fails, the held disclosure is deleted and the answer says why.
    """
    del body
    return render(await release_disclosure(call.node, call.acting, referral_id))


@router.put("/v1/referrals/{referral_id}/disclosure")
@operation(
    Operation(
        ForwardAnswer,
        "What the gate decided.",
        problems=(*TELLING, "answer-destroyed", "already-disclosed", "not-accepted"),
    )
)
async def replace_held_disclosure(
    request: Request, call: ReferralsWriter, referral_id: ReferralId, key: IdempotencyKey, body: DisclosureBody
) -> Response:
    """Replace the disclosure.

    When the hold ended (`awaiting_disclosure`), or what is held is wrong by now, which it replaces: confirm the
    safe-contact plan with her again, then send the content anew, under an Idempotency-Key of its own. It goes through
    the gate like the first one. Repeated under the same key it seals nothing, and answers what the gate decided then
    and how the referral stands now: her plan may have changed meanwhile, and what this says would be the older one.
    Where the roster says something else of the receiver than when the last one was sealed, and the list of changes has
    not said so, it is refused with `not-told-first`, and what was held is deleted: tell her, then send it again under a
    new key. Under the same key it stays refused. Where her consent records what she was told, and the roster says more
    now, it stays refused under every key: ask her, and refer her anew.
    """
    idem = idempotency(request, call.acting, key, body)
    return render(await replace_disclosure(call.node, call.acting, referral_id, body.value, idem))


@router.delete("/v1/referrals/{referral_id}/disclosure")
@operation(Operation(ReferralAct, "Nothing is held any more.", problems=(*A_STEP, "already-disclosed")))
async def drop_held_disclosure(call: ReferralsWriter, referral_id: ReferralId, body: NoBody) -> Response:
    """Delete the held disclosure.

    What is inside is wrong by now, her safe-contact plan for one, and nobody can seal a fresh one yet. The referral
    goes on and asks for it (`awaiting_disclosure`). Where nothing is held, nothing changes.
    """
    del body
    return render(await drop_disclosure(call.node, call.acting, referral_id))


@router.post("/v1/referrals/{referral_id}/information")
@operation(
    Operation(
        ForwardAnswer,
        "What the gate decided.",
        status=201,
        repeats=True,
        problems=(*TELLING, "answer-destroyed", "nothing-asked"),
    )
)
async def send_requested_information(
    request: Request, call: ReferralsWriter, referral_id: ReferralId, key: IdempotencyKey, body: InformationBody
) -> Response:
    """Answer a request for information.

    The receiver asked for fields of the vocabulary; this sends those she agrees to, through the gate.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await send_information(call.node, call.acting, referral_id, body.value, idem))


@router.post("/v1/referrals/{referral_id}/safe-contact")
@operation(
    Operation(
        ForwardAnswer,
        "What the gate decided.",
        status=201,
        repeats=True,
        problems=(*TELLING, "answer-destroyed"),
    )
)
async def update_safe_contact_plan(
    request: Request, call: ReferralsWriter, referral_id: ReferralId, key: IdempotencyKey, body: SafeContactBody
) -> Response:
    """Update the safe-contact plan.

    How she may be reached has changed. After disclosure the new plan goes to the receiver. Before, nothing is sent. A
    held disclosure has an older plan inside and is deleted (`awaiting_disclosure`); hand in a new one.
    """
    idem = idempotency(request, call.acting, key, body)
    return created(await update_safe_contact(call.node, call.acting, referral_id, body.value, idem))


@router.post("/v1/referrals/{referral_id}/entered-in-error")
@operation(Operation(ReferralAct, "The referral is marked.", problems=A_STEP))
async def declare_referral_error(call: ReferralsWriter, referral_id: ReferralId, body: NoBody) -> Response:
    """Declare a referral entered in error.

    It should never have existed: the wrong person, the wrong receiver. Both sides stop and destroy what they hold.
    """
    del body
    return render(await declare_error(call.node, call.acting, referral_id))


def _whole(wait: float) -> int | None:
    return int(wait) or None
