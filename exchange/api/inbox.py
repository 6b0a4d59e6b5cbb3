"""What the receiving side reads: list, lease, open, take over."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from exchange.api.bodies import JsonBody, Parsed
from exchange.api.callers import InboxOpener, InboxReader, InboxTaker
from exchange.api.examples import example_of
from exchange.api.operations import Operation, operation
from exchange.api.parameters import Advice, Inbox, ItemId
from exchange.api.rendering import ENVELOPE, next_link, render, wants_envelope
from exchange.api.shared_codes import A_WRITE, OPENING
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import (
    AcknowledgementRequest,
    ContactAdvice,
    InboxItem,
    InboxPage,
    Lease,
    LeaseRequest,
    OpenedItem,
    OpenedItems,
    OpeningRequest,
    OpenRequest,
)
from exchange.use_cases.open_items import contact_advice, open_item, open_items, sealed_envelope
from exchange.use_cases.poll_inbox import acknowledge_item, lease_item, list_inbox
from exchange.use_cases.record_opening import record_opening

router = APIRouter(tags=["inbox"])

LeaseBody = Annotated[Parsed[LeaseRequest], Depends(JsonBody(LeaseRequest, optional=True))]
AcknowledgementBody = Annotated[
    Parsed[AcknowledgementRequest], Depends(JsonBody(AcknowledgementRequest, optional=True))
]
OpeningBody = Annotated[Parsed[OpeningRequest], Depends(JsonBody(OpeningRequest))]
OpenBody = Annotated[Parsed[OpenRequest], Depends(JsonBody(OpenRequest))]


@router.get("/v1/inbox")
@operation(Operation(InboxPage, "A page of the inbox.", headers=("Link",), problems=("bad-cursor",)))
async def list_inbox_items(request: Request, call: InboxReader, query: Inbox) -> Response:
    """List the inbox.

    What arrived, without content, oldest first. Go on with `next_cursor`, or follow the `Link` header with
    `rel="next"`; after the last item comes an empty page, whose cursor is good for what comes later. Keep a cursor when
    everything before it is in your own system, not sooner: it is not listed behind it again. Without a cursor,
    `state=new` lists whatever was not acknowledged. With `wait` the call stays open until something arrives.
    `order=urgent` gives new offers of referrals that have not ended, the one that has to be answered first on top, and
    none whose time to answer has been over for a day; one that was answered too, until it is acknowledged (`state`).
    Disclosures, answers and her no are not among them. It has a cursor of its own, and none where nothing is behind the
    page. What arrives may belong on a page before: begin without a cursor to hear of it.
    """
    page = await list_inbox(
        call.node,
        cursor=query.cursor,
        limit=query.limit,
        wait=query.wait,
        status=query.state,
        order=query.order,
        unit=call.unit,
        referral=query.referral,
    )
    if query.wait:
        await call.stands()
    link = next_link(
        request,
        page.next_cursor,
        limit=query.limit,
        wait=int(query.wait) or None,
        state=query.state,
        referral=query.referral,
        order="urgent" if query.order == "urgent" else None,
    )
    return render(page, headers=link)


@router.post("/v1/inbox/open")
@operation(Operation(OpenedItems, "Everything of it that exists and may be seen.", problems=("keys-elsewhere",)))
async def open_inbox_items(call: InboxOpener, body: OpenBody) -> Response:
    """Open many items.

    Up to 50 at once, with one entry in the record of who opened what for each. Ids that do not exist, or of items
    whose content was destroyed or cannot be read, are listed in `missing`, those of items that must not be opened now
    in `withheld`.
    """
    return render(await open_items(call.node, call.acting, body.value.ids))


@router.get("/v1/inbox/{item_id}")
@operation(
    Operation(
        OpenedItem,
        "The content, verified.",
        problems=OPENING,
        headers=("Vary",),
        media={
            ENVELOPE: {
                "schema": {"$ref": "#/components/schemas/WireEnvelope"},
                "example": example_of(WireEnvelope),
            }
        },
    )
)
async def open_inbox_item(request: Request, call: InboxOpener, item_id: ItemId) -> Response:
    """Open one item.

    The content, where this node holds the agency's keys. With `Accept: application/vnd.referral-envelope+json` the
    sealed envelope, wherever the keys are. Her consent comes first in both. That you opened it is on record under
    `Actor`.
    """
    vary = {"Vary": "Accept"}
    if wants_envelope(request):
        envelope = await sealed_envelope(call.node, call.acting, item_id)
        return render(envelope, media_type=ENVELOPE, headers=vary)
    return render(await open_item(call.node, call.acting, item_id), headers=vary)


@router.get("/v1/inbox/{item_id}/contact-advice")
@operation(Operation(ContactAdvice, "The advice.", problems=(*OPENING, "no-plan")))
async def get_contact_advice(call: InboxOpener, item_id: ItemId, query: Advice) -> Response:
    """Ask whether she may be contacted.

    Whether she may be contacted now (or `at` another moment), how, when next, and what to say if somebody else
    answers. Ask every time before anybody calls. A plan that was not confirmed for 72 hours means no.
    """
    return render(await contact_advice(call.node, call.acting, item_id, query.channel, query.at))


@router.post("/v1/inbox/{item_id}/lease")
@operation(Operation(Lease, "The item is yours for a while.", problems=("leased", "not-new", *A_WRITE)))
async def lease_inbox_item(call: InboxTaker, item_id: ItemId, body: LeaseBody) -> Response:
    """Lease an item.

    Two pollers never both handle it. A lease ends by itself; send its token with the acknowledgement.
    """
    return render(await lease_item(call.node, call.acting, item_id, body.value.seconds))


@router.put("/v1/inbox/{item_id}/acknowledgement")
@operation(Operation(InboxItem, "The item is taken over.", problems=("leased", *A_WRITE)))
async def acknowledge_inbox_item(call: InboxTaker, item_id: ItemId, body: AcknowledgementBody) -> Response:
    """Acknowledge an item.

    Your system has taken it over. Doing it again changes nothing.
    """
    return render(await acknowledge_item(call.node, call.acting, item_id, body.value.lease))


@router.put("/v1/inbox/{item_id}/opening")
@operation(
    Operation(
        InboxItem, "The wrapped key is dropped.", problems=("digest-differs", "destroyed", "not-a-member", *A_WRITE)
    )
)
async def record_opening_of_item(call: InboxOpener, item_id: ItemId, body: OpeningBody) -> Response:
    """Take over an item's key.

    For a node that holds no agency key: your own software has verified the sealed envelope and stored its key durably
    in its own key store. The node drops the wrapped key, so that destroying yours destroys the item. Store first, then
    call: an interrupted call is repeated, and changes nothing the second time.
    """
    return render(await record_opening(call.node, call.acting, item_id, body.value))
