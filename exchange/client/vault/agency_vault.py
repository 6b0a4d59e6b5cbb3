"""The agency's own software, where the node holds no agency key: it seals, opens, and keeps the keys.

    identity = open_agency_folder(folder, passphrase)
    async with AgencyClient(…) as client:
        vault = AgencyVault(identity, client)
        await vault.publish_epochs()
        created = await vault.refer(request)
        opened = await vault.open(item)

Rules:

* The methods answer as those of `AgencyClient` do where the node holds the keys, so that a program can use either. A
  stop is not opened: nothing is inside, and this software does not verify what the node says of it.
* Consents, her no, recalls, releases, leases and acknowledgements are the client's, as ever: they carry no content.
* No passphrase, key or content is logged, and no error repeats one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from contracts.vocabulary import Channel
from exchange.client.agency_client import AgencyClient
from exchange.client.errors import ClientError
from exchange.client.session import new_idempotency_key
from exchange.client.vault import answering, referring, telling_later
from exchange.client.vault.acts import Act, LaterRequest, SealedReferral
from exchange.client.vault.agency_keys import Identity, Keys
from exchange.client.vault.contact import contact_advice
from exchange.client.vault.ending import attest, destroy_ended
from exchange.client.vault.opening import open_sealed
from exchange.client.vault.weekly_keys import publish_epochs, revoke_epochs
from exchange.envelope.kinds import Kind
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import (
    ContactAdvice,
    DecisionRequest,
    InboxItem,
    OpenedItem,
    ProgressRequest,
    RecallAnswerRequest,
    ReferralAct,
)
from exchange.schemas.referrals import ForwardAnswer, ReferralCreated, ReferralPreview, ReferralRequest, ReferralView
from exchange.schemas.sealing import OwnEpochs
from exchange.schemas.shapes import to_millis


class AgencyVault:
    """Seals and opens for one agency, with one client of its node."""

    def __init__(self, identity: Keys, client: AgencyClient) -> None:
        """Take the agency's keys and the way to its node; nothing is sent yet."""
        self._identity = identity
        self._client = client

    def close(self) -> None:
        """Give the key store back."""
        self._identity.store.close()

    async def publish_epochs(self, *, replace: bool = False) -> OwnEpochs:
        """See that this week and the five that follow are published. Call it daily; nothing happens when all are.

        Args:
            replace: weekly keys that are published and not here were lost with another machine; what was sealed to
                them cannot be opened any more.
        """
        return await publish_epochs(self._now(), self._client, replace=replace)

    async def revoke_epochs(self, *, compromised_since: datetime) -> tuple[str, ...]:
        """Revoke every weekly key that is published and publish new ones, in one step; the ids of the revoked.

        Args:
            compromised_since: from when on somebody else may have had the private halves.
        """
        since = to_millis(compromised_since)
        return await revoke_epochs(self._now(), self._client, compromised_since=since)

    async def preview(self, request: ReferralRequest) -> ReferralPreview:
        """What would happen, field by field. Nothing about her leaves this machine."""
        return await referring.preview(self._now(), self._client, request)

    async def refer(self, request: ReferralRequest, *, idempotency_key: str | None = None) -> ReferralCreated:
        """Gate, seal and hand in a referral: the offer is queued, the disclosure held until the receiver accepts.

        Where it ends without an answer, also by the death of this program, the node may have it. Under the same key it
        is the same act for a day: what was sealed is handed in again, and it stays one referral. A program that may die
        names a key that it keeps; otherwise the error has the fresh one (`idempotency_key`).

        Raises:
            VaultError: `sealed-before`, `idempotency-key-reused`.
            GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as `seal` does.
        """
        key = new_idempotency_key() if idempotency_key is None else idempotency_key
        try:
            act = Act.of(request, key, self._identity.keyed_digest)
            kept = referring.kept_for(self._identity, act)
            if kept is None:
                sealed = await referring.seal(self._now(), self._client, request, act)
                return await self.hand_in(sealed, idempotency_key=key)
            return await referring.handed_in_again(self._identity, self._client, kept, act.key)
        except ClientError as ended:
            ended.idempotency_key = key
            raise

    async def seal(self, request: ReferralRequest, *, idempotency_key: str | None = None) -> SealedReferral:
        """Gate and seal a referral. It exists when `hand_in` has answered. Under one key it is sealed once."""
        if idempotency_key is None:
            return await referring.seal(self._now(), self._client, request)
        act = Act.of(request, idempotency_key, self._identity.keyed_digest)
        # What is sealed needs neither roster nor consent any more.
        kept = referring.kept_for(self._identity, act)
        return kept if kept is not None else await referring.seal(self._now(), self._client, request, act)

    async def hand_in(self, sealed: SealedReferral, *, idempotency_key: str | None = None) -> ReferralCreated:
        """Hand in what was sealed, within ten minutes; again, however late, it is answered as what is there already.

        Where her plan has changed since it was sealed, and the node does not have it, it is refused (`sealed-before`).
        """
        # What is sealed needs no roster any more.
        key = new_idempotency_key() if idempotency_key is None else idempotency_key
        try:
            sent = self._identity.keyed_digest("act", key.encode())
            return await referring.handed_in(self._identity, self._client, sealed, sent)
        except ClientError as ended:
            ended.idempotency_key = key
            raise

    async def inform(
        self, referral: str, content: ReferralContent, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """The fields that the receiver asked for, as far as she agrees. A repeat under the same key seals none."""
        request = LaterRequest(referral=referral, kind=Kind.INFORMATION, content=content)
        return await self._tell(request, idempotency_key)

    async def update_safe_contact(
        self, referral: str, plan: SafeContact, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """Her plan changed. A receiver that has the old one is told; before, what is held is deleted.

        A repeat under the same key seals and deletes nothing that has come since.
        """
        request = LaterRequest(referral=referral, kind=Kind.UPDATE, content=ReferralContent(safe_contact=plan))
        return await self._tell(request, idempotency_key)

    async def replace_disclosure(
        self, referral: str, content: ReferralContent, *, idempotency_key: str | None = None
    ) -> ForwardAnswer:
        """A fresh disclosure, after the plan was confirmed with her again. A repeat under the same key seals none."""
        request = LaterRequest(referral=referral, kind=Kind.DISCLOSURE, content=content)
        return await self._tell(request, idempotency_key)

    async def open(self, item: InboxItem) -> OpenedItem:
        """Verify, open and take over an item; or open it again from the key store."""
        return await open_sealed(self._now(), self._client, item)

    async def contact_advice(
        self, referral: str, *, channel: Channel | None = None, at: datetime | None = None
    ) -> ContactAdvice:
        """May she be contacted, how, when next, and what to say if another answers. Ask before every contact."""
        return await contact_advice(self._now(), self._client, referral, channel, at)

    async def decide(self, referral: str, request: DecisionRequest) -> ReferralView:
        """The agency's word on an offer. The same again changes nothing; another is refused."""
        return await answering.decide(self._now(), self._client, referral, request)

    async def report_progress(self, referral: str, request: ProgressRequest) -> ReferralAct:
        """How the service goes; how much of it travels is the rule's and her consent's to say (`stays_here`)."""
        return await answering.report(self._now(), self._client, referral, request)

    async def answer_recall(self, referral: str, request: RecallAnswerRequest) -> ReferralView:
        """The referring agency asks for the referral back while she is served already."""
        return await answering.answer_to_recall(self._now(), self._client, referral, request)

    async def attest_erasure(self, referral: str) -> ReferralView:
        """Destroy the keys here and attest that the agency's own copies are gone, on paper too.

        Without a usable roster the keys are destroyed, and nothing is attested yet.
        """
        # Her no waits for no roster.
        return await attest(self._identity, self._client, referral)

    async def destroy_ended(self, *, not_shown: Callable[[str], None] | None = None) -> tuple[str, ...]:
        """Destroy the keys of every referral that the node has destroyed; their ids. Call it daily and after her no.

        Args:
            not_shown: hears the id of each that is kept because the node does not show it to this client. One that is
                bound to a branch is not shown what another branch has taken over, not even that it has ended: ask with
                a client of the whole agency.
        """
        # Her no waits for no roster.
        return await destroy_ended(self._identity, self._client, not_shown)

    async def _tell(self, request: LaterRequest, idempotency_key: str | None) -> ForwardAnswer:
        """Under one key it is sealed once, for a day: repeated later it takes the place of nothing that is newer.

        Raises:
            VaultError: `sealed-before`, `idempotency-key-reused`.
            GateRefusedError, VaultError, ContentInvalidError, ContentTooLargeError, ProblemError: as `seal` does.
        """
        key = new_idempotency_key() if idempotency_key is None else idempotency_key
        try:
            act = Act.of(request, key, self._identity.keyed_digest)
            kept = telling_later.kept_for(self._identity, act)
            if kept is not None and not kept.begun:
                # What is sealed needs neither roster nor consent any more.
                return await telling_later.told_again(self._identity, self._client, request, act, kept)
            if request.kind is Kind.UPDATE:
                return await telling_later.update_safe_contact(self._now(), self._client, request, act, kept)
            return await telling_later.tell_later(self._now(), self._client, request, act)
        except ClientError as ended:
            ended.idempotency_key = key
            raise

    def _now(self) -> Identity:
        """Who this is, and what it believes at this moment.

        Raises:
            VaultError: the folder's roster has changed, and cannot be used.
        """
        identity = self._identity.as_of_now()
        self._identity = identity
        return identity
