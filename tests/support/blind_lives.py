"""The life of one referral between two agencies that hold their keys themselves, while a process of a node is killed.

The helpline's software seals and hands in, the embassy's opens, accepts, opens who she is; she says no and both destroy
(`erased`). Or what lies at the embassy's node was touched, and its software refuses it (`refused`).

As in `support.lives` every act is repeated until there is an answer. The software itself does not die here (the
simulation has that); an act of it is several requests, and is begun anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pytest
from sqlalchemy import select, update
from support.lives import Death, Found, Pair, answered, arrives, compare, dying, look, settles
from support.node_processes import NodeProcesses

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, ProblemError, new_idempotency_key
from exchange.client.vault import AgencyVault, RefusedItemError
from exchange.demo.people import seruni
from exchange.schemas.inbox import DecisionRequest, InboxItem, OpenedItem, RefusalRequest
from exchange.schemas.referrals import ReferralRequest
from exchange.storage.database import Connection, Database
from exchange.storage.tables import INBOX

STEPS: Final = {
    "erased": ("hand in", "open", "decide", "hear", "release", "say no", "attest"),
    "refused": ("hand in", "refuse"),
}
_STOPS: Final = {"withdrawal", "erasure-receipt", "refusal"}


@dataclass
class Office:
    """One agency's own software."""

    node: NodeProcesses
    client: AgencyClient
    vault: AgencyVault

    async def item(self, referral: str, kind: str) -> InboxItem:
        """The one item of this kind."""

        async def found() -> list[InboxItem]:
            return [one async for one in self.client.inbox.pages() if (one.referral, one.kind) == (referral, kind)]

        (item,) = await answered(found)
        return item

    async def open(self, referral: str, kind: str) -> OpenedItem:
        """Verified, opened and taken over; once more it opens from the store, and the node has dropped its key."""
        item = await self.item(referral, kind)
        first = await answered(lambda: self.vault.open(item))
        again = await answered(lambda: self.vault.open(item))
        assert (first.content, first.answer, first.digest) == (again.content, again.answer, again.digest)
        query = select(INBOX.c.wrapped_key).where(INBOX.c.id == item.id)
        assert self.node.look(lambda conn: conn.execute(query).scalar_one()) is None
        return again

    async def refuse(self, referral: str) -> None:
        """What lies at the node is not what was signed: it is refused. Opened again, it is there no more."""
        item = await self.item(referral, "offer")
        for _ in range(2):
            with pytest.raises((RefusedItemError, ProblemError)) as refused:
                await answered(lambda: self.vault.open(item))
        assert isinstance(refused.value, ProblemError)
        assert refused.value.problem.code == "destroyed"
        # Said once more by whoever does not know whether it was heard.
        await answered(lambda: self.client.inbox.refuse(item.id, RefusalRequest(code="cannot-open")))


@asynccontextmanager
async def office_of(node: NodeProcesses) -> AsyncIterator[Office]:
    """The software of this node's agency, which repeats its requests as it usually does."""
    async with node.client() as client:
        vault = AgencyVault(node.identity(), client)
        try:
            yield Office(node, client, vault)
        finally:
            vault.close()


def touch(node: NodeProcesses, referral: str) -> None:
    """A hand in the database: one bit of the sealed offer is another."""

    def work(conn: Connection) -> None:
        row = conn.execute(select(INBOX.c.id, INBOX.c.ciphertext).where(INBOX.c.referral == referral)).one()
        touched = bytes([row.ciphertext[0] ^ 1]) + row.ciphertext[1:]
        conn.execute(update(INBOX).where(INBOX.c.id == row.id).values(ciphertext=touched))

    opened = Database.open(node.urls["main"])
    try:
        opened.write_sync(work)
    finally:
        opened.close_sync()


@dataclass
class BlindLife:
    """One referral, from the consent on, where both nodes hold no agency key."""

    pair: Pair
    helpline: Office
    embassy: Office
    request: ReferralRequest
    death: Death | None
    referral: str = ""

    async def step(self, name: str) -> None:
        """One step, and everything that follows from it on both sides; if it is the one, with a death in it."""
        work = {
            "hand in": self._hand_in,
            "open": self._open,
            "refuse": self._refuse,
            "decide": self._decide,
            "hear": self._hear,
            "release": self._release,
            "say no": self._say_no,
            "attest": self._attest,
        }[name]
        await dying(self.pair, self.death, name, work)

    async def _hand_in(self) -> None:
        # Sealed anew as long as the node has not said to which key; what was sealed is handed in until it is stored.
        sealed = await answered(lambda: self.helpline.vault.seal(self.request))
        key = new_idempotency_key()
        hand_in = self.helpline.client.sealing.hand_in
        stored = await answered(lambda: hand_in(sealed.hand_in, idempotency_key=key))
        assert stored == await answered(lambda: hand_in(sealed.hand_in, idempotency_key=key))
        # Without the key of the first time it is known by its ids.
        assert (await answered(lambda: hand_in(sealed.hand_in))).referral.id == stored.referral.id
        self.referral = sealed.created.id
        await self._arrives(self.pair.embassy, "offer")

    async def _open(self) -> None:
        opened = await self.embassy.open(self.referral, "offer")
        assert opened.content is not None
        assert opened.content.preferred_name is None

    async def _refuse(self) -> None:
        touch(self.pair.embassy, self.referral)
        await self.embassy.refuse(self.referral)
        await self._arrives(self.pair.helpline, "refusal")

    async def _decide(self) -> None:
        accepted = DecisionRequest(decision="accepted")
        for _ in range(2):
            view = await answered(lambda: self.embassy.vault.decide(self.referral, accepted))
            assert view.state == "accepted"
        await self._arrives(self.pair.helpline, "decision")

    async def _hear(self) -> None:
        assert ((await self.helpline.open(self.referral, "decision")).answer or {}).get("decision") == "accepted"

    async def _release(self) -> None:
        assert (await answered(lambda: self.helpline.client.referrals.release(self.referral))).released
        await self._arrives(self.pair.embassy, "disclosure")
        opened = await self.embassy.open(self.referral, "disclosure")
        assert opened.content is not None
        assert opened.content.preferred_name is not None

    async def _say_no(self) -> None:
        key = new_idempotency_key()
        say = self.helpline.client.withdrawals.of_referral
        await answered(lambda: say(self.referral, WithdrawalForm.ERASE, idempotency_key=key))
        for node in self.pair.both:
            await self._arrives(node, "erasure-receipt", "erased-by-node")

    async def _attest(self) -> None:
        """Both agencies' own software destroys its keys."""
        for _ in range(2):
            await answered(lambda: self.embassy.vault.attest_erasure(self.referral))
        await self._arrives(self.pair.helpline, "erasure-receipt", "erased-by-agency")
        assert self.referral in await answered(self.helpline.vault.destroy_ended)
        for office in (self.helpline, self.embassy):
            assert office.vault._identity.store.case(self.referral) is None

    async def _arrives(self, node: NodeProcesses, kind: str, event: str | None = None) -> None:
        await arrives(node, self.referral, kind, event)
        await settles(self.pair, self.referral)


async def live_blind(pair: Pair, ends: str, death: Death | None = None) -> Found:
    """One life to its end; what was found then, on both sides."""
    pair.revive()
    async with office_of(pair.helpline) as helpline, office_of(pair.embassy) as embassy:
        now = datetime.now(UTC)
        person = seruni(now)
        consent = await helpline.client.consents.record(person.consent(now))
        await embassy.client.inbox.list()  # a token is there: what dies is the step and nothing before it
        life = BlindLife(pair, helpline, embassy, person.referral(consent.id), death)
        for step in STEPS[ends]:
            await life.step(step)
    sender, receiver = look(pair.helpline, life.referral), look(pair.embassy, life.referral)
    if ends == "refused":
        # It waits for a worker, who is told that the offer cannot be read.
        sender.outbox = [row for row in sender.outbox if row["kind"] != "disclosure"]
    found = compare(sender, receiver)
    left = [row["kind"] for row in receiver.inbox if row["ciphertext"] and row["kind"] not in _STOPS]
    if left or receiver.keys:
        found.lost.append(f"{ends}: {left or 'a key'} left at the embassy")
    if ends == "erased" and (sender.record["state"], receiver.record["state"]) != ("withdrawn", "withdrawn"):
        found.differs.append(f"ended as {sender.record['state']}")
    return found
