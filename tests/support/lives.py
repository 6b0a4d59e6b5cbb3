"""The life of one referral between two nodes in processes of their own, of which one may be killed on the way.

A helpline refers a woman to an embassy; the embassy looks, takes over and accepts; her name is released; she says no
and everything is destroyed (`erased`), or she says it at the embassy, which destroys after a day (`blocked`), or in two
steps while she is served (`stopped`). Or the helpline takes the referral back before an answer (`recalled`), or the
embassy declines (`declined`).

Every call is made as an agency's own system would: it is repeated, under the same Idempotency-Key, until there is an
answer; what died is started again, as systemd does. `look` then compares what lies on both sides.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import Table, select
from support.doomed_process import Doom
from support.node_processes import ONCE, PATIENCE_S, NodeProcesses

from contracts.vocabulary import Priority, WithdrawalForm
from exchange.client import AgencyClient, NodeUnreachableError, ProblemError, new_idempotency_key
from exchange.demo.people import seruni
from exchange.schemas.inbox import DecisionRequest, InboxItem, ProgressRequest
from exchange.schemas.referrals import ReferralRequest
from exchange.storage.database import Connection
from exchange.storage.tables import EVENT, INBOX, OUTBOX, REFERRAL, REFERRAL_KEY, SEEN_ENVELOPE

T = TypeVar("T")

HELPLINE, EMBASSY = "helpline", "embassy"
STEPS: Final = {
    "erased": ("hand in", "look", "decide", "release", "say no"),
    "blocked": ("hand in", "decide", "release", "say no there"),
    "stopped": ("hand in", "decide", "release", "serve", "stop sharing", "stop service"),
    "recalled": ("hand in", "recall"),
    "declined": ("hand in", "decline"),
}
_STATES: Final = {
    "erased": "withdrawn",
    "blocked": "withdrawn",
    "stopped": "withdrawn",
    "recalled": "recalled",
    "declined": "declined",
}
_STOPS = {"withdrawal", "erasure-receipt", "recall"}


@dataclass(frozen=True, slots=True)
class Death:
    """Which node's process dies, where, and in which step of the life."""

    node: str
    doom: Doom
    step: str
    alone: bool = False
    """The node's courier would do the same, and may be quicker: it rests until the API process has died."""


@dataclass
class Pair:
    """A helpline and an embassy, each with an API process and a courier."""

    helpline: NodeProcesses
    embassy: NodeProcesses

    def __getitem__(self, name: str) -> NodeProcesses:
        return self.helpline if name == HELPLINE else self.embassy

    @property
    def both(self) -> tuple[NodeProcesses, NodeProcesses]:
        """The two nodes."""
        return self.helpline, self.embassy

    def revive(self) -> None:
        """Start what does not run, after a test that failed."""
        for node in self.both:
            missing = [role for role in ("api", "courier") if role not in node.running]
            if missing:
                node.start(*missing)


@dataclass(slots=True)
class Side:
    """What lies at one node about one referral."""

    record: dict[str, Any]
    events: set[tuple[Any, ...]]
    outbox: list[dict[str, Any]]
    inbox: list[dict[str, Any]]
    answers: dict[str, bytes | None]
    keys: set[str]


def _rows(conn: Connection, table: Table, referral: str) -> list[dict[str, Any]]:
    column = table.c.id if table is REFERRAL else table.c.referral
    return [dict(row._mapping) for row in conn.execute(select(table).where(column == referral))]


def look(node: NodeProcesses, referral: str) -> Side:
    """What lies there now."""

    def read(conn: Connection) -> Side:
        (record,) = _rows(conn, REFERRAL, referral)
        events = {(row["side"], row["number"], row["name"], row["digest"]) for row in _rows(conn, EVENT, referral)}
        inbox = _rows(conn, INBOX, referral)
        seen = select(SEEN_ENVELOPE.c.id, SEEN_ENVELOPE.c.answer).where(
            SEEN_ENVELOPE.c.id.in_([row["id"] for row in inbox])
        )
        answers = {row.id: row.answer for row in conn.execute(seen)}
        return Side(record, events, _rows(conn, OUTBOX, referral), inbox, answers, set())

    side = node.look(read)
    keys = node.look(lambda conn: conn.execute(select(REFERRAL_KEY.c.referral)).scalars().all(), database="keys")
    side.keys = set(keys) & {referral}
    return side


@dataclass(slots=True)
class Found:
    """What comparing both sides came to."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def compare(sender: Side, receiver: Side) -> Found:
    """Everything that was delivered lies there once, with the same receipt on both sides, in the same state."""
    found = Found()
    for there, here in ((sender, receiver), (receiver, sender)):
        arrived = Counter(row["id"] for row in here.inbox)
        digests = {row["id"]: row["digest"] for row in here.inbox}
        for row in there.outbox:
            if row["status"] != "delivered":
                found.lost.append(f"{row['kind']} is {row['status']}")
            elif digests.get(row["id"]) != row["digest"]:
                found.lost.append(f"{row['kind']} was signed for and does not lie there")
            elif row["receipt"] != here.answers.get(row["id"]):
                found.differs.append(f"receipt of {row['kind']}")
        found.doubled += [f"item {name}" for name, count in arrived.items() if count > 1]
        kinds = Counter((row["kind"], row["event"]) for row in here.inbox)
        found.doubled += [f"{kind} {event}" for (kind, event), count in kinds.items() if count > 1]
    if sender.record["state"] != receiver.record["state"]:
        found.differs.append(f"state {sender.record['state']} and {receiver.record['state']}")
    if sender.events != receiver.events:
        found.differs.append(f"events {sorted(map(str, sender.events ^ receiver.events))}")
    return found


@dataclass
class Life:
    """One referral, from the consent on."""

    pair: Pair
    helpline: AgencyClient
    embassy: AgencyClient
    request: ReferralRequest
    death: Death | None
    keys: dict[str, str] = field(default_factory=dict)
    referral: str = ""

    @classmethod
    async def begin(
        cls, pair: Pair, helpline: AgencyClient, embassy: AgencyClient, death: Death | None, priority: Priority
    ) -> Life:
        """A consent is on record; nothing is handed in."""
        now = datetime.now(UTC)
        person = seruni(now)
        person = replace(person, provisions=tuple(one | {"feedback": "status"} for one in person.provisions))
        consent = await helpline.consents.record(person.consent(now))
        request = person.referral(consent.id).model_copy(update={"priority": priority})
        await embassy.inbox.list()  # a token is there: what dies is the step and nothing before it
        return cls(pair, helpline, embassy, request, death)

    async def step(self, name: str) -> None:
        """One step, and everything that follows from it on both sides; if it is the one, with a death in it."""
        work = {
            "hand in": self._hand_in,
            "look": self._look,
            "decide": self._decide,
            "release": self._release,
            "say no": self._say_no,
            "say no there": self._say_no_there,
            "serve": self._serve,
            "stop sharing": self._stop_sharing,
            "stop service": self._stop_service,
            "recall": self._recall,
            "decline": self._decline,
        }[name]
        await dying(self.pair, self.death, name, work)

    async def _hand_in(self) -> None:
        key = self.keys.setdefault("hand in", new_idempotency_key())
        created = await answered(lambda: self.helpline.referrals.send(self.request, idempotency_key=key))
        assert created == await answered(lambda: self.helpline.referrals.send(self.request, idempotency_key=key))
        self.referral = created.id
        await self._arrives(self.pair.embassy, "offer")
        await self._settles()

    async def _look(self) -> None:
        offer = await self._offer()
        assert (await answered(lambda: self.embassy.inbox.open(offer.id))).content is not None
        for _ in range(2):
            taken = await answered(lambda: self.embassy.inbox.acknowledge(offer.id))
            assert taken.status == "acknowledged"

    async def _decide(self) -> None:
        offer, accepted = await self._offer(), DecisionRequest(decision="accepted")
        for _ in range(2):
            act = await answered(lambda: self.embassy.inbox.decide(offer.id, accepted))
            assert act.referral.state == "accepted"
        await self._arrives(self.pair.helpline, "decision")
        await self._settles()
        if self.request.priority is Priority.EMERGENCY:
            await self._arrives(self.pair.embassy, "disclosure")

    async def _release(self) -> None:
        for _ in range(2):
            assert (await answered(lambda: self.helpline.referrals.release(self.referral))).released
        await self._arrives(self.pair.embassy, "disclosure")
        await self._settles()

    async def _say_no(self) -> None:
        await self._says(WithdrawalForm.ERASE, self.helpline, self.pair.embassy)
        for node in self.pair.both:
            await self._arrives(node, "erasure-receipt")
        await self._settles()
        # Whatever died meanwhile: the answer to the hand-in is gone, and its key makes no second referral.
        with pytest.raises(ProblemError) as gone:
            await answered(lambda: self.helpline.referrals.send(self.request, idempotency_key=self.keys["hand in"]))
        assert gone.value.problem.code == "answer-destroyed"

    async def _say_no_there(self) -> None:
        await self._says(WithdrawalForm.ERASE, self.embassy, self.pair.helpline)

    async def _stop_sharing(self) -> None:
        await self._says(WithdrawalForm.STOP_SHARING, self.helpline, self.pair.embassy)

    async def _stop_service(self) -> None:
        await self._says(WithdrawalForm.STOP_SERVICE, self.helpline, self.pair.embassy)

    async def _says(self, form: WithdrawalForm, to: AgencyClient, other: NodeProcesses) -> None:
        """Her no, said to one agency, arrives at the other."""
        key = self.keys.setdefault(form.value, new_idempotency_key())

        async def no() -> Any:
            return await to.withdrawals.of_referral(self.referral, form, idempotency_key=key)

        assert await answered(no) == await answered(no)
        await self._arrives(other, "withdrawal", form.value)
        await self._settles()

    async def _serve(self) -> None:
        offer, served = await self._offer(), ProgressRequest(state="in-service")
        for _ in range(2):
            act = await answered(lambda: self.embassy.inbox.report_progress(offer.id, served))
            assert act.referral.state == "in-service"
        await self._arrives(self.pair.helpline, "progress")
        await self._settles()

    async def _decline(self) -> None:
        offer, declined = await self._offer(), DecisionRequest(decision="declined", reason="no-capacity")
        for _ in range(2):
            act = await answered(lambda: self.embassy.inbox.decide(offer.id, declined))
            assert act.referral.state == "declined"
        await self._arrives(self.pair.helpline, "decision")
        await self._settles()

    async def _recall(self) -> None:
        for _ in range(2):
            act = await answered(lambda: self.helpline.referrals.recall(self.referral))
            assert act.referral.state == "recalled"
        await self._arrives(self.pair.embassy, "recall")
        await self._settles()

    async def _offer(self) -> InboxItem:
        page = await answered(lambda: self.embassy.inbox.list(limit=100, status=None))
        while page.items:
            for item in page.items:
                if (item.referral, item.kind) == (self.referral, "offer"):
                    return item
            cursor = page.next_cursor
            page = await answered(lambda: self.embassy.inbox.list(cursor, limit=100))  # noqa: B023 - awaited at once
        raise AssertionError("The offer is not in the inbox.")

    async def _arrives(self, node: NodeProcesses, kind: str, event: str | None = None) -> None:
        await arrives(node, self.referral, kind, event)

    async def _settles(self) -> None:
        await settles(self.pair, self.referral)


async def dying(pair: Pair, death: Death | None, step: str, work: Callable[[], Awaitable[None]]) -> None:
    """This step; if it is the one, a process dies in it and is started again, while the step goes on."""
    if death is None or death.step != step:
        await work()
        return
    doomed = pair[death.node]
    resting = ("courier",) if death.alone else ()
    if resting:
        await asyncio.to_thread(doomed.stop, *resting)
    doomed.doom(death.doom)
    working = asyncio.ensure_future(work())
    try:
        await asyncio.to_thread(doomed.wait_until_killed, death.doom.role)
        await asyncio.to_thread(doomed.start, death.doom.role, *resting)
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def arrives(node: NodeProcesses, referral: str, kind: str, event: str | None = None) -> None:
    """Returns when it lies there."""
    query = select(INBOX.c.id).where(INBOX.c.referral == referral, INBOX.c.kind == kind)
    if event is not None:
        query = query.where(INBOX.c.event == event)
    await until(lambda: node.look(lambda conn: conn.execute(query).first()) is not None, f"{kind} at {node.agency}")


async def settles(pair: Pair, referral: str) -> None:
    """Nothing of it is on its way any more."""
    query = select(OUTBOX.c.id).where(OUTBOX.c.referral == referral, OUTBOX.c.status == "queued")
    for node in pair.both:
        await until(
            lambda node=node: node.look(lambda conn: conn.execute(query).first()) is None,  # type: ignore[misc]
            f"{node.agency} to have delivered everything",
        )


async def until(true: Callable[[], bool], what: str) -> None:
    """Returns when it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"Waited for {what}; it did not come."
        await asyncio.sleep(0.03)


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call, which is made again, the same, as long as there is none."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except NodeUnreachableError:
            assert time.monotonic() < deadline, "There was no answer."
            await asyncio.sleep(0.05)


async def live(pair: Pair, ends: str, death: Death | None = None, *, priority: Priority = Priority.ROUTINE) -> Found:
    """One life to its end; what was found then, on both sides."""
    pair.revive()
    async with pair.helpline.client(retries=ONCE) as helpline, pair.embassy.client(retries=ONCE) as embassy:
        life = await Life.begin(pair, helpline, embassy, death, priority)
        for step in STEPS[ends]:
            await life.step(step)
    sender, receiver = look(pair.helpline, life.referral), look(pair.embassy, life.referral)
    found = compare(sender, receiver)
    _ended_well(found, ends, sender, receiver)
    return found


def _ended_well(found: Found, ends: str, sender: Side, receiver: Side) -> None:
    """The end itself: erasure left nothing, and no other end a disclosure that waits."""
    if sender.record["state"] != _STATES[ends]:
        found.differs.append(f"ended as {sender.record['state']}")
    if any(row["status"] == "held" for row in sender.outbox):
        found.lost.append("the end: a disclosure is still held")
    if ends == "blocked" and None in (sender.record["blocked_at"], receiver.record["blocked_at"]):
        found.lost.append("her no: what is to be destroyed is still shown")
    if ends != "erased":
        return
    for name, side in (("helpline", sender), ("embassy", receiver)):
        left = [row["kind"] for row in side.inbox + side.outbox if row["kind"] not in _STOPS and row["ciphertext"]]
        if side.keys or left or side.record["destroyed_at"] is None or side.record["sealed_facts"]:
            found.lost.append(f"her no at the {name}: {left or 'key or facts'} left")
