"""The referring side: preview, send, follow, release, recall, answer a question."""

from __future__ import annotations

from collections.abc import AsyncIterator

from exchange.client.connection import ANSWER_TIMEOUT_S
from exchange.client.patience import patiently
from exchange.client.session import Call, Session, checked_id, keyed
from exchange.limits import LIMITS
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import ReferralAct
from exchange.schemas.referrals import (
    DisclosureRequest,
    ForwardAnswer,
    InformationRequest,
    OpenReferrals,
    ReferralChange,
    ReferralChanges,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    ReferralView,
    ReleaseAnswer,
    SafeContactRequest,
)

REFERRALS = "/v1/referrals"


class Referrals:
    """Referrals of this agency. Needs the scopes `referrals:write` and `referrals:read`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def preview(self, request: ReferralRequest) -> ReferralPreview:
        """What would happen, field by field. Nothing is stored and nothing is sent."""
        return await self._session.ask(Call("POST", f"{REFERRALS}/preview", request, harmless=True), ReferralPreview)

    async def send(self, request: ReferralRequest, *, idempotency_key: str | None = None) -> ReferralCreated:
        """Hand a referral in. What is answered is stored, sealed and queued.

        Args:
            request: everything the agency would like to say; the gate decides what may go, and when.
            idempotency_key: to repeat this very act, the one in the error that ended it, for 24 hours; otherwise a
                fresh one. A program that may end before it hears anything makes it first and keeps it.

        Raises:
            ProblemError: `never` or `no-rule` (403): nothing was stored; `problem.fields` names the fields.
                `answer-destroyed` (410): it was sent under this key before, and has been destroyed since.
        """
        return await self._session.ask(keyed(Call("POST", REFERRALS, request), idempotency_key), ReferralCreated)

    async def read(self, referral: str) -> ReferralView:
        """State and flags; never content, which this node cannot read."""
        return await self._session.ask(Call("GET", _path(referral)), ReferralView)

    async def open_under(self, consent: str) -> OpenReferrals:
        """What is open under a consent. Look before you send where nobody knows whether it was sent before."""
        return await self._session.ask(Call("GET", f"/v1/consents/{checked_id(consent)}/referrals"), OpenReferrals)

    async def changes(self, cursor: str | None = None, *, wait_s: float = 0) -> ReferralChanges:
        """Changes after a cursor, oldest first; waits for one as long as asked, at most 25 seconds."""
        call = Call(
            "GET",
            REFERRALS,
            query={"cursor": cursor, "wait": wait_s or None},
            answer_within_s=ANSWER_TIMEOUT_S + wait_s,
        )
        return await self._session.ask(call, ReferralChanges)

    async def watch(
        self, cursor: str | None = None, *, wait_s: float = LIMITS.wait_longest_s
    ) -> AsyncIterator[ReferralChange]:
        """Every change from here on, without end. Keep `change.cursor` to go on after a restart.

        A node that is away or busy is asked again for as long as it takes.
        """
        while True:
            page = await patiently(lambda: self.changes(cursor, wait_s=wait_s))  # noqa: B023 - awaited here
            for change in page.items:
                yield change
            cursor = page.next_cursor

    async def release(self, referral: str) -> ReleaseAnswer:
        """A worker confirms that the held disclosure goes. The gate runs once more before it does."""
        return await self._session.ask(Call("POST", f"{_path(referral)}/release"), ReleaseAnswer)

    async def recall(self, referral: str) -> ReferralAct:
        """Take a referral back. Once the receiver serves her, it is asked instead."""
        return await self._session.ask(Call("POST", f"{_path(referral)}/recall", harmless=True), ReferralAct)

    async def enter_in_error(self, referral: str) -> ReferralAct:
        """It should never have been sent."""
        call = Call("POST", f"{_path(referral)}/entered-in-error", harmless=True)
        return await self._session.ask(call, ReferralAct)

    async def replace_disclosure(
        self, referral: str, content: ReferralContent, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """A fresh disclosure, after the plan was confirmed with her again. A repeat under the same key seals none."""
        call = Call("PUT", f"{_path(referral)}/disclosure", DisclosureRequest(content=content))
        return await self._session.ask(keyed(call, idempotency_key), ForwardAnswer)

    async def drop_disclosure(self, referral: str) -> ReferralAct:
        """Delete what is held: it is wrong by now, and a fresh one is asked for."""
        return await self._session.ask(Call("DELETE", f"{_path(referral)}/disclosure"), ReferralAct)

    async def send_information(
        self, referral: str, content: ReferralContent, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """The fields the receiver asked for, as far as she agrees."""
        call = Call("POST", f"{_path(referral)}/information", InformationRequest(content=content))
        return await self._session.ask(keyed(call, idempotency_key), ForwardAnswer)

    async def update_safe_contact(
        self, referral: str, plan: SafeContact, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """Her safe-contact plan changed."""
        call = Call("POST", f"{_path(referral)}/safe-contact", SafeContactRequest(safe_contact=plan))
        return await self._session.ask(keyed(call, idempotency_key), ForwardAnswer)


def _path(referral: str) -> str:
    return f"{REFERRALS}/{checked_id(referral)}"
