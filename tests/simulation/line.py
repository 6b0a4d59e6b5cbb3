"""The way from an agency's own software to its node, in memory: the calls of `AgencyClient` that the vault makes.

Each call is the use case that the endpoint calls, and what that refuses is the problem that the client would raise.
Before and after each the software may die, and others may come in between. The node's death is the caller's to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

from simulation.office import ACTING

from exchange.api.problems import who_acts
from exchange.client.errors import ProblemError
from exchange.schemas.consents import ConsentView
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import InboxItem, OpeningRequest, ProgressRequest, ReferralAct, RefusalRequest
from exchange.schemas.node import Health, PeerKeys
from exchange.schemas.problems import Problem
from exchange.schemas.referrals import ReferralView
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest, EpochsRequest, OwnEpochs
from exchange.use_cases.describe_node import peer_keys, readiness
from exchange.use_cases.errors import GoneError, NotFoundError, UseCaseError
from exchange.use_cases.follow_referrals import read_referral
from exchange.use_cases.hand_in_sealed import hand_in_sealed
from exchange.use_cases.idempotency import Idempotency
from exchange.use_cases.node import Node
from exchange.use_cases.open_items import sealed_envelope
from exchange.use_cases.poll_inbox import list_inbox
from exchange.use_cases.publish_epochs import list_own_epochs, take_epochs
from exchange.use_cases.record_consent import read_consent
from exchange.use_cases.record_opening import record_opening
from exchange.use_cases.refuse_item import refuse_item
from exchange.use_cases.replace_disclosure import drop_disclosure
from exchange.use_cases.report_progress import report_progress

T = TypeVar("T")
_STATUS: Final = {NotFoundError: 404, GoneError: 410}
_PAGE: Final = 50


class SoftwareDiedError(UseCaseError):
    """The agency's software died here: nobody is told what became of it, and what was stored is stored."""

    def __init__(self) -> None:
        super().__init__("software-died", "It starts again on what its key store holds.")


class Line:
    """From one run of the software to one process of the node. `goes_on` raises once the software is dead."""

    def __init__(self, node: Node, goes_on: Callable[[str], None], fresh_key: Callable[[], str]) -> None:
        self.node = node
        self._goes_on = goes_on
        self._fresh_key = fresh_key
        self.consents = _Consents(self)
        self.referrals = _Referrals(self)
        self.inbox = _Inbox(self)
        self.sealing = _Sealing(self)
        self.federation = _Federation(self)

    async def ask(self, work: Awaitable[T]) -> T:
        """What the node answers, where the software lives to hear it."""
        try:
            self._goes_on("before a call")
            answer = await work
        except SoftwareDiedError:
            if asyncio.iscoroutine(work):
                work.close()
            raise
        except UseCaseError as error:
            raise ProblemError(_problem(error)) from error
        await asyncio.sleep(0)
        self._goes_on("after a call")
        return answer

    def under(self, request: EnvelopesRequest, key: str | None) -> Idempotency:
        """The key of a call, as the client makes it."""
        return Idempotency("system", key or self._fresh_key(), request.model_dump_json().encode())


def _problem(error: UseCaseError) -> Problem:
    status = _STATUS.get(type(error), 409)
    return Problem(
        type=error.code, title=error.code, status=status, code=error.code, who=who_acts(error), detail=error.sentence
    )


class _Part:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._node = line.node


class _Consents(_Part):
    async def read(self, consent: str) -> ConsentView:
        return await self._line.ask(read_consent(self._node, consent, None))


class _Referrals(_Part):
    async def read(self, referral: str) -> ReferralView:
        return await self._line.ask(read_referral(self._node, referral, None))

    async def drop_disclosure(self, referral: str) -> ReferralAct:
        return await self._line.ask(drop_disclosure(self._node, ACTING, referral))


class _Federation(_Part):
    async def ready(self) -> Health:
        return await self._line.ask(readiness(self._node))

    async def peer_keys(self, agency: str) -> PeerKeys:
        return await self._line.ask(peer_keys(self._node, agency))


class _Sealing(_Part):
    async def hand_in(
        self,
        request: EnvelopesRequest,
        *,
        idempotency_key: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> EnvelopesAnswer:
        if check is not None:
            check()
        idem = self._line.under(request, idempotency_key)
        return (await self._line.ask(hand_in_sealed(self._node, ACTING, request, idem))).answer

    async def publish(self, request: EpochsRequest) -> OwnEpochs:
        return await self._line.ask(take_epochs(self._node, ACTING, request))

    async def published(self) -> OwnEpochs:
        return await self._line.ask(list_own_epochs(self._node))


class _Inbox(_Part):
    async def pages(self, **_options: Any) -> AsyncIterator[InboxItem]:
        cursor: str | None = None
        while True:
            page = await self._line.ask(list_inbox(self._node, cursor=cursor, limit=_PAGE))
            for item in page.items:
                yield item
            if len(page.items) < _PAGE:
                return
            cursor = page.next_cursor

    async def sealed(self, item: str) -> WireEnvelope:
        return await self._line.ask(sealed_envelope(self._node, ACTING, item))

    async def take_over(self, item: str, request: OpeningRequest) -> InboxItem:
        return await self._line.ask(record_opening(self._node, ACTING, item, request))

    async def refuse(self, item: str, request: RefusalRequest) -> ReferralAct:
        return await self._line.ask(refuse_item(self._node, ACTING, item, request))

    async def report_progress(self, item: str, request: ProgressRequest) -> ReferralAct:
        return await self._line.ask(report_progress(self._node, ACTING, item, request))
