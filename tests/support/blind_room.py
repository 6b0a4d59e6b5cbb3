"""A liar, and a shelter whose node is blind: the agency's own software opens what its node has signed for."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from support.blind import Office
from support.federation import Federation, federation
from support.forgeries import Scene
from support.lying_peer import LyingPeer

from exchange.client.vault import AgencyVault, Identity
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.format import Envelope
from exchange.envelope.kinds import Kind
from exchange.envelope.wire import read_again
from exchange.schemas.inbox import DecisionRequest, InboxItem
from exchange.storage.database import Connection
from exchange.storage.tables import INBOX, OUTBOX


@dataclass
class Room:
    """A liar, and a shelter whose node is blind."""

    together: Federation
    scene: Scene
    office: Office

    @property
    def vault(self) -> AgencyVault:
        return self.office.own_vault

    @property
    def identity(self) -> Identity:
        return self.office.identity

    async def arrived(self, envelope: Envelope | dict[str, Any]) -> InboxItem:
        """Signed for by the node, and listed."""
        (answer,) = await self.scene.liar.deliver(envelope)
        assert answer.result == "accepted", answer
        return [item async for item in self.office.client.inbox.pages()][-1]

    async def row(self, item: str) -> Any:
        query = select(INBOX).where(INBOX.c.id == item)
        return await self.office.node.node.database.read(lambda conn: conn.execute(query).one())

    async def told(self, item: str) -> list[str]:
        """Which refusals of this item are on their way."""

        def read(conn: Connection) -> list[str]:
            node = self.office.node.node
            rows = conn.execute(select(OUTBOX).where(OUTBOX.c.kind == "refusal"))
            headers = [read_again(node.open_row(row.sealed_header, "outbox", "sealed_header", row.id)) for row in rows]
            return [header["event"] for header in headers if header["in_reply_to"] == item]

        return await self.office.node.node.database.read(read)

    async def woman(self) -> str:
        """Another woman's referral, offered and accepted."""
        referral = secrets.token_hex(16)
        await self.arrived(self.scene.liar.forward(referral=referral))
        await self.office.open(referral, "offer")
        await self.office.decide(referral, DecisionRequest(decision="accepted"))
        return referral

    async def disclosed(self, referral: str, who_initiates: str, **changes: Any) -> InboxItem:
        """A disclosure with a contact plan, released and arrived."""
        case, liar = self.identity.store.case(referral), self.scene.liar
        assert case is not None
        plan = {"safe_contact": {"who_initiates": who_initiates}}
        envelope = liar.forward(Kind.DISCLOSURE, plan, referral=referral, groups=("contact",))
        return await self.arrived(liar.released(envelope, case.acceptances[0], **changes))

    async def tampers(self, item: str, **values: Any) -> None:
        """Somebody who has the server changes what lies there."""
        change = update(INBOX).where(INBOX.c.id == item).values(**values)
        await self.office.node.node.database.write(lambda conn: conn.execute(change).rowcount)


@asynccontextmanager
async def blind_room(folder: Path) -> AsyncIterator[Room]:
    """Three members, of whom the shelter's node is blind; and referrals, of which it has accepted one."""
    plans = (HELPLINE, SHELTER, LABOUR_OFFICE)
    async with federation(folder, plans, blind=(SHELTER,)) as together:
        liar = await LyingPeer.of(together[HELPLINE], together[SHELTER])
        other = await LyingPeer.of(together[LABOUR_OFFICE], together[SHELTER])
        office = Office.of(together[SHELTER])
        ids = [secrets.token_hex(16) for _ in range(4)]
        offer, others_offer = liar.forward(referral=ids[1]), other.forward(referral=ids[3])
        await liar.deliver(liar.forward(referral=ids[0]), offer)
        await other.deliver(others_offer)
        for referral in (ids[0], ids[1], ids[3]):
            await office.open(referral, "offer")
        await office.decide(ids[1], DecisionRequest(decision="accepted"))
        case = office.identity.store.case(ids[1])
        assert case is not None
        scene = Scene(liar, other, ids[0], ids[1], case.acceptances[0], ids[2], ids[3], {}, offer, others_offer)
        yield Room(together, scene, office)
