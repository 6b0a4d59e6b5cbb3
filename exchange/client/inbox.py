"""The receiving side: list, lease, open, decide, report, attest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from contracts.vocabulary import Channel
from exchange.client.connection import ANSWER_TIMEOUT_S
from exchange.client.errors import UnreadableItemsError
from exchange.client.inbox_page import ReadPage
from exchange.client.session import Call, Session, checked_id
from exchange.client.watching import HeldItem, warn_of_unreadable, watch_inbox
from exchange.limits import LIMITS
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import (
    AcknowledgementRequest,
    ContactAdvice,
    DecisionRequest,
    ErasureAttestationRequest,
    InboxItem,
    Lease,
    LeaseRequest,
    OpenedItem,
    OpenedItems,
    OpeningRequest,
    OpenRequest,
    ProgressRequest,
    RecallAnswerRequest,
    ReferralAct,
    RefusalRequest,
)

INBOX: Final = "/v1/inbox"
SEALED_TYPE: Final = "application/vnd.referral-envelope+json"

Status = Literal["new", "acknowledged", "destroyed"]


class Inbox:
    """What arrived. Listing needs `inbox:read`, opening `inbox:open`, deciding `inbox:decide`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list(
        self,
        cursor: str | None = None,
        *,
        limit: int = LIMITS.page_items,
        wait_s: float = 0,
        status: Status | None = None,
        referral: str | None = None,
        urgent_first: bool = False,
    ) -> ReadPage:
        """One page of items without their content, oldest first.

        Keep a cursor when everything before it is in your own system: it is not listed behind it again. What this
        software cannot read, as of a later version of the node, is named in `unreadable` and holds up no other item.

        Args:
            cursor: `next_cursor` of the page before.
            limit: the most items.
            wait_s: how long to wait for the first, at most 25 seconds.
            status: only items with this one.
            referral: only what came for this one.
            urgent_first: new offers of referrals that have not ended and nothing else, her no neither, whatever status
                is. Its cursor is its own; there is none where nothing is behind the page.
        """
        query = {
            "cursor": cursor,
            "limit": limit,
            "wait": wait_s or None,
            "state": status,
            "referral": referral,
            "order": "urgent" if urgent_first else None,
        }
        return await self._session.ask(
            Call("GET", INBOX, query=query, answer_within_s=ANSWER_TIMEOUT_S + wait_s), ReadPage
        )

    async def pages(
        self,
        *,
        status: Status | None = None,
        referral: str | None = None,
        unreadable: Callable[[str], None] | None = None,
    ) -> AsyncIterator[InboxItem]:
        """Every item that is there now, page by page; of one referral, where it is named.

        Args:
            status: only items with this one.
            referral: only what came for this one.
            unreadable: hears the id of each that this software cannot read.

        Raises:
            UnreadableItemsError: at the end, where there are such items and nobody hears of them: whoever looks for the
                newest plan, or for her no, must not believe that this is all.
        """
        unread: list[str] = []
        hears = unread.append if unreadable is None else unreadable
        cursor: str | None = None
        while True:
            page = await self.list(cursor, status=status, referral=referral)
            for item in page.items:
                yield item
            for one in page.unreadable:
                hears(one)
            if not (page.items or page.unreadable) or page.next_cursor is None:
                break
            cursor = page.next_cursor
        if unread:
            raise UnreadableItemsError(tuple(unread))

    def watch(
        self,
        *,
        wait_s: float = LIMITS.wait_longest_s,
        lease_s: int = LIMITS.lease_default_s,
        unreadable: Callable[[str], None] = warn_of_unreadable,
    ) -> AsyncIterator[HeldItem]:
        """Every new item, each leased to this poller, without end. See `exchange.client.watching`."""
        return watch_inbox(self, wait_s=wait_s, lease_s=lease_s, unreadable=unreadable)

    async def lease(self, item: str, seconds: int = LIMITS.lease_default_s) -> Lease:
        """Take an item for a while, so that no other poller handles it.

        Raises:
            ProblemError: status 409: somebody else has it.
        """
        return await self._session.ask(Call("POST", f"{_path(item)}/lease", LeaseRequest(seconds=seconds)), Lease)

    async def acknowledge(self, item: str, lease: str | None = None) -> InboxItem:
        """The item is taken over into the agency's own system."""
        call = Call("PUT", f"{_path(item)}/acknowledgement", AcknowledgementRequest(lease=lease))
        return await self._session.ask(call, InboxItem)

    async def open(self, item: str) -> OpenedItem:
        """The verified content. Opening is on record under the actor's id.

        Raises:
            ProblemError: `keys-elsewhere` (409): only the agency's own software can open it, from `sealed`.
        """
        return await self._session.ask(Call("GET", _path(item)), OpenedItem)

    async def open_many(self, items: Sequence[str]) -> OpenedItems:
        """Up to 50 items in one call; each opening is on record."""
        call = Call("POST", f"{INBOX}/open", OpenRequest(ids=tuple(items)), harmless=True)
        return await self._session.ask(call, OpenedItems)

    async def sealed(self, item: str) -> WireEnvelope:
        """The envelope as it arrived, for software that holds the keys itself."""
        return await self._session.ask(Call("GET", _path(item), accept=SEALED_TYPE), WireEnvelope)

    async def take_over(self, item: str, request: OpeningRequest) -> InboxItem:
        """The key of a sealed item is durable in the agency's own key store: the node may drop it. May be repeated."""
        return await self._session.ask(Call("PUT", f"{_path(item)}/opening", request), InboxItem)

    async def contact_advice(
        self, item: str, *, channel: Channel | None = None, at: datetime | None = None
    ) -> ContactAdvice:
        """May she be contacted, how, when next, and what to say if another answers."""
        query = {"channel": channel, "at": at.isoformat() if at else None}
        return await self._session.ask(Call("GET", f"{_path(item)}/contact-advice", query=query), ContactAdvice)

    async def decide(self, item: str, request: DecisionRequest) -> ReferralAct:
        """The agency's word on an offer. The same again changes nothing; another is refused with 409."""
        return await self._act(item, "decision", request)

    async def report_progress(self, item: str, request: ProgressRequest) -> ReferralAct:
        """How the service goes; how much of it travels is the rule's and her consent's to say."""
        return await self._act(item, "progress", request)

    async def answer_recall(self, item: str, request: RecallAnswerRequest) -> ReferralAct:
        """The referring agency asks for the referral back while she is served already."""
        return await self._act(item, "recall-answer", request)

    async def refuse(self, item: str, request: RefusalRequest) -> ReferralAct:
        """The agency's own software could not open or verify it."""
        return await self._act(item, "refusal", request)

    async def attest_erasure(self, item: str) -> ReferralAct:
        """The agency's own copies are destroyed, on paper too."""
        return await self._act(item, "erasure-attestation", ErasureAttestationRequest(copies_destroyed=True))

    async def enter_in_error(self, item: str) -> ReferralAct:
        """It should never have come here."""
        return await self._act(item, "entered-in-error", None)

    async def _act(self, item: str, what: str, request: _Act | None) -> ReferralAct:
        return await self._session.ask(Call("POST", f"{_path(item)}/{what}", request, harmless=True), ReferralAct)


_Act = DecisionRequest | ProgressRequest | RecallAnswerRequest | RefusalRequest | ErasureAttestationRequest


def _path(item: str) -> str:
    return f"{INBOX}/{checked_id(item)}"
