"""One referral between two nodes of which one or both hold no agency key: whoever acts uses what its side allows.

`Office` is an agency's own software: the vault where the node is blind, the plain client where it is not. A test says
what happens once, and it happens through the one or the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from support.federation import Federation, TestNode
from support.people import consent_request, referral_request

from exchange.client import AgencyClient
from exchange.client.vault import AgencyVault, Identity
from exchange.schemas.inbox import DecisionRequest, InboxItem, OpenedItem, ProgressRequest
from exchange.schemas.referrals import ReferralCreated, ReferralRequest, ReferralView


@dataclass(slots=True)
class Office:
    """One agency's own software."""

    node: TestNode
    client: AgencyClient
    vault: AgencyVault | None

    @classmethod
    def of(cls, node: TestNode) -> Office:
        """The software of the agency of this node."""
        client = node.client()
        return cls(node, client, node.vault(client) if node.agency_home != node.home else None)

    @property
    def own_vault(self) -> AgencyVault:
        """Of an office that holds its keys itself."""
        assert self.vault is not None
        return self.vault

    @property
    def identity(self) -> Identity:
        """Its keys, and what it believes about the others."""
        return self.own_vault._identity

    async def refer(self, request: ReferralRequest) -> ReferralCreated:
        return await (self.vault.refer(request) if self.vault else self.client.referrals.send(request))

    async def item(self, referral: str, kind: str) -> InboxItem:
        """The newest item of a kind about a referral."""
        found = [i async for i in self.client.inbox.pages() if (i.referral, i.kind) == (referral, kind)]
        return found[-1]

    async def open(self, referral: str, kind: str) -> OpenedItem:
        item = await self.item(referral, kind)
        return await (self.vault.open(item) if self.vault else self.client.inbox.open(item.id))

    async def decide(self, referral: str, request: DecisionRequest) -> ReferralView:
        if self.vault:
            return await self.vault.decide(referral, request)
        return (await self.client.inbox.decide((await self.item(referral, "offer")).id, request)).referral

    async def report(self, referral: str, request: ProgressRequest) -> ReferralView:
        if self.vault:
            return (await self.vault.report_progress(referral, request)).referral
        item = await self.item(referral, "offer")
        return (await self.client.inbox.report_progress(item.id, request)).referral

    async def attest(self, referral: str) -> ReferralView:
        if self.vault:
            return await self.vault.attest_erasure(referral)
        return (await self.client.inbox.attest_erasure((await self.item(referral, "withdrawal")).id)).referral


@dataclass(slots=True)
class BlindStory:
    """One referral, from the asking office to the helping one."""

    together: Federation
    asks: Office
    helps: Office
    created: ReferralCreated

    @property
    def id(self) -> str:
        """The referral."""
        return self.created.id

    async def accepted(self) -> None:
        """Opened and accepted; the sender's worker confirms; the disclosure has arrived."""
        await self.helps.open(self.id, "offer")
        await self.helps.decide(self.id, DecisionRequest(decision="accepted"))
        await self.together.travel()
        if (await self.asks.client.referrals.read(self.id)).flags.awaiting_confirmation:
            await self.asks.client.referrals.release(self.id)
        await self.together.travel()


async def referred(
    together: Federation, sender: TestNode, receiver: TestNode, *, exercise: bool = False, **consent: Any
) -> BlindStory:
    """A referral whose offer has arrived; `consent` are changes of the consent record."""
    asks, helps = Office.of(sender), Office.of(receiver)
    recorded = await asks.client.consents.record(consent_request(receiver.agency, **consent))
    created = await asks.refer(referral_request(receiver.agency, recorded.id, exercise=exercise))
    await together.travel()
    return BlindStory(together, asks, helps, created)
