"""The common steps of a referral's life, and ways to look at what each node holds, shows, and has sent.

A `Story` is one referral between two nodes of a federation. Its steps go through the agencies' own clients; what it
looks at afterwards is what lies in the databases and what travelled between the nodes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Executable, Table, select
from support.federation import Federation, TestNode
from support.people import consent_request, referral_request
from support.replacing import replace

from contracts.canonical_json import canonical
from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient
from exchange.client.errors import ProblemError
from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER, AgencyPlan
from exchange.envelope.format import parse_envelope
from exchange.envelope.header import Header, parse_header
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES
from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.envelope.open import decrypt
from exchange.envelope.seal import seal
from exchange.envelope.wire import to_base64url
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.schemas.federation import BatchAnswer
from exchange.schemas.inbox import DecisionRequest, InboxItem, OpenedItem, ProgressRequest
from exchange.schemas.problems import Problem
from exchange.schemas.referrals import ReferralCreated, ReferralFlags, ReferralView
from exchange.storage.database import Connection
from exchange.storage.tables import IDEMPOTENCY, INBOX, OUTBOX, REFERRAL
from exchange.use_cases.node import as_datetime

ANOTHER_NAME = "Canary-Melati Lagi"
PHONE = "+00 12 000 0001"
"""A number that cannot exist."""


def now_of(together: Federation) -> datetime:
    """The federation's clock, to the second."""
    return as_datetime(together.clock()).replace(microsecond=0)


def plan(at: datetime, *, address: str = PHONE, **changes: Any) -> dict[str, Any]:
    """A plan by which the agency may call her at any hour, confirmed at this time."""
    days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    always = [{"weekday": day, "from": "00:00", "to": "24:00", "time_zone": "Asia/Kuala_Lumpur"} for day in days]
    members: dict[str, Any] = {
        "who_initiates": "agency",
        "channels": [{"channel": "phone-call", "address": address, "safe": True}],
        "safe_times": always,
        "say_if_other_answers": "Wrong number, sorry.",
        "last_confirmed_at": at.isoformat(),
    }
    return members | changes


def safe_contact(at: datetime, **changes: Any) -> SafeContact:
    """The same plan, as a model."""
    return SafeContact.model_validate_json(json.dumps(plan(at, **changes)))


def content(**members: Any) -> ReferralContent:
    """A content with these fields."""
    return ReferralContent.model_validate_json(json.dumps(members))


def _told(receiver: AgencyPlan) -> list[dict[str, Any]]:
    return [{"agency": receiver.agency, **receiver.told_first.model_dump(mode="json")}]


def to_the_embassy() -> tuple[dict[str, Any], dict[str, Any]]:
    """Consent and request of a woman who needs a passport: her papers go to this one embassy, if it helps."""
    consent = {
        "provisions": [
            {
                "groups": ["need", "name", "contact"],
                "fields": ["legal_name", "passport_number"],
                "agencies": [EMBASSY.agency],
                "purposes": ["provide-travel-documents"],
                "feedback": "outcome",
            }
        ],
        "told_first": _told(EMBASSY),
    }
    request = {
        "service_type": "travel-documents",
        "content": {
            "needs": ["withheld"],
            "language": "id",
            "preferred_name": ANOTHER_NAME,
            "legal_name": "Canary-Melati Contoh Binti Contoh",
            "passport_number": "XC0000000",
            "safe_contact": {"who_initiates": "survivor"},
        },
    }
    return consent, request


def to_the_labour_office() -> tuple[dict[str, Any], dict[str, Any]]:
    """Consent and request of a woman who wants her wages."""
    consent = {
        "provisions": [
            {
                "groups": ["need", "name", "contact"],
                "fields": ["employer_name", "wage_details"],
                "agencies": [LABOUR_OFFICE.agency],
                "purposes": ["provide-wage-claim"],
            }
        ],
        "told_first": _told(LABOUR_OFFICE),
    }
    request = {
        "service_type": "wage-claim",
        "content": {
            "needs": ["unpaid-wages"],
            "language": "id",
            "preferred_name": ANOTHER_NAME,
            "employer_name": "Canary Household",
            "safe_contact": {"who_initiates": "survivor"},
        },
    }
    return consent, request


@dataclass(slots=True)
class Story:
    """One referral, followed on both nodes."""

    together: Federation
    sender: TestNode
    receiver: TestNode
    asks: AgencyClient
    """The referring agency's own software."""
    helps: AgencyClient
    """The receiving agency's."""
    consent: str
    created: ReferralCreated
    seen: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The referral."""
        return self.created.id

    async def travel(self) -> None:
        """Let everything travel."""
        await self.together.travel()

    async def later(self, *, hours: float) -> None:
        """Let time pass, and let both nodes notice."""
        self.together.clock.pass_by(hours=hours)
        await self.travel()

    async def items(self, kind: str, *, at: TestNode | None = None) -> list[InboxItem]:
        """The inbox items of this referral and kind, oldest first; the receiver's unless said."""
        client = self.asks if at is self.sender else self.helps
        return [item async for item in client.inbox.pages() if item.kind == kind and item.referral == self.id]

    async def item(self, kind: str, *, at: TestNode | None = None) -> InboxItem:
        """The newest of them."""
        return (await self.items(kind, at=at))[-1]

    async def opened(self, kind: str, *, at: TestNode | None = None) -> OpenedItem:
        """The newest of them, opened."""
        client = self.asks if at is self.sender else self.helps
        return await client.inbox.open((await self.item(kind, at=at)).id)

    async def offer(self) -> str:
        """The id of the offer at the receiver."""
        if "offer" not in self.seen:
            self.seen["offer"] = (await self.item("offer")).id
        return self.seen["offer"]

    async def decides(self, decision: str, **more: Any) -> None:
        """The receiver's word on the offer, delivered."""
        request = DecisionRequest.model_validate_json(json.dumps({"decision": decision, **more}))
        await self.helps.inbox.decide(await self.offer(), request)
        await self.travel()

    async def reports(self, *states: str, **more: Any) -> None:
        """Progress, step by step, delivered; `more` belongs to the last step."""
        for state in states:
            members = {"state": state} | (more if state == states[-1] else {})
            request = ProgressRequest.model_validate_json(json.dumps(members))
            await self.helps.inbox.report_progress(await self.offer(), request)
            await self.travel()

    async def says_no(self, form: str, *, by: TestNode | None = None, travel: bool = True) -> None:
        """Her no about this referral; said to the referring agency unless to another."""
        client = self.helps if by is self.receiver else self.asks
        await client.withdrawals.of_referral(self.id, WithdrawalForm(form))
        if travel:
            await self.travel()

    async def views(self) -> tuple[ReferralView, ReferralView]:
        """How it looks to the referring and to the receiving agency."""
        return await self.asks.referrals.read(self.id), await self.helps.referrals.read(self.id)

    async def both_say(self, state: str) -> None:
        """Both nodes compute this state."""
        assert [view.state.value for view in await self.views()] == [state, state]

    async def flags(self) -> ReferralFlags:
        """The referring side's flags."""
        return (await self.asks.referrals.read(self.id)).flags

    async def changes(self) -> list[str]:
        """What the referring agency's cursor was told about this referral."""
        page = await self.asks.referrals.changes()
        return [change.what for change in page.items if change.referral.id == self.id]

    async def rows(self, table: Table, *, at: TestNode | None = None) -> list[dict[str, Any]]:
        """Every row about this referral; at the sender unless said."""
        column = table.c.id if table is REFERRAL else table.c.referral
        return await rows(at or self.sender, table, column == self.id)

    async def writes(self, *statements: Executable) -> None:
        """Somebody writes this into the main database of the referring agency's node."""
        await self.sender.node.database.write(lambda conn: [conn.execute(one).rowcount for one in statements])

    async def outgoing(self, *, at: TestNode | None = None) -> dict[str, list[str]]:
        """Status of every envelope of this referral, by kind; at the sender unless said."""
        found: dict[str, list[str]] = {}
        for row in await self.rows(OUTBOX, at=at):
            found.setdefault(row["kind"], []).append(row["status"])
        return found

    async def outbox_rows(self, *, at: TestNode | None = None) -> list[dict[str, Any]]:
        """Every outgoing envelope of this referral, as it lies in the sender's database unless said."""
        return await self.rows(OUTBOX, at=at)

    async def wire_of(self, kind: str, *, at: TestNode | None = None) -> dict[str, str]:
        """The first envelope of a kind as it lies in the outbox, as it would travel."""
        return (await self.wires_of(kind, at=at))[0]

    async def wires_of(self, kind: str, *, at: TestNode | None = None) -> list[dict[str, str]]:
        """All of them, in the order in which they would travel."""
        node, wires = at or self.sender, []
        for row in sorted(await self.rows(OUTBOX, at=node), key=lambda row: int(row["seq"])):
            if row["kind"] == kind:
                header = node.node.open_row(row["sealed_header"], "outbox", "sealed_header", row["id"])
                members = {"header": header} | {one: row[one] for one in ("wrapped_key", "ciphertext", "signature")}
                wires.append({name: to_base64url(value) for name, value in members.items()})
        return wires

    async def resealed(self, one: Travelled, **changes: Any) -> dict[str, str]:
        """An envelope that travelled, made anew by its sender under a fresh id, with other members in its header."""
        maker, reader = self.together.nodes[one.header.sender].node, self.together.nodes[one.header.recipient].node
        assert maker.keyring is not None
        assert reader.keyring is not None
        key = await reader.keyring.epoch_key(one.header.epoch_key or "")
        assert key is not None
        envelope = parse_envelope(one.wire)
        inside = decrypt(envelope, key.unwrap(envelope.wrapped_key))
        header = replace(one.header, dek_commitment=None, **({"id": maker.timed_id(one.header.created)} | changes))
        made = seal(
            header,
            inside,
            epoch_public=key.public,
            sign=maker.keyring.agency_key.sign,
            dek=maker.entropy(KEY_BYTES),
            nonce=maker.entropy(NONCE_BYTES),
        ).envelope
        return made.to_json()

    async def item_digest(self, kind: str, *, at: TestNode | None = None) -> str:
        """The digest of what arrived; at the receiver unless said."""
        (row,) = [row for row in await self.rows(INBOX, at=at or self.receiver) if row["kind"] == kind]
        return str(row["digest"])

    async def post(self, *wires: dict[str, str], by: TestNode | None = None) -> BatchAnswer:
        """Post these envelopes as the sender's node (or the receiver's) would."""
        poster = by or self.sender
        peer = self.receiver if poster is self.sender else self.sender
        return await poster.courier._transport.post_envelopes(
            peer.member, canonical({"envelopes": list(wires)}), until=math.inf
        )

    async def record(self, *, at: TestNode | None = None) -> dict[str, Any]:
        """The referral's row; at the sender unless said."""
        (row,) = await self.rows(REFERRAL, at=at)
        return row

    async def is_over(self, *, at: TestNode) -> None:
        """Its time is over there, and it has to be destroyed."""
        over = REFERRAL.update().where(REFERRAL.c.id == self.id).values(destroy_at=1)
        await at.node.database.write(lambda conn: conn.execute(over).rowcount)

    def kinds_posted(self) -> list[str]:
        """The kinds of everything that travelled for this referral, each envelope once, in order."""
        return [one.header.kind.value for one in travelled(self.together) if one.header.referral == self.id]

    async def nothing_is_left(self, *, at: TestNode) -> None:
        """Only the tombstone: no key, no sealed body, no facts, no answer that could be repeated."""
        record = await self.record(at=at)
        assert record["destroyed_at"] is not None
        assert record["sealed_facts"] is None
        assert await at.node.key_store.get(self.id) is None
        assert [row["sealed_answer"] for row in await self.rows(IDEMPOTENCY, at=at) if row["sealed_answer"]] == []
        for row in await self.rows(INBOX, at=at):
            if class_of(Kind(row["kind"])) is KindClass.STOP:
                continue  # complete in its header, in which nobody is described
            assert row["status"] == "destroyed"
            bodies = ("sealed_header", "rewrapped_key", "ciphertext", "signature", "part_digests")
            assert {row[name] for name in bodies} == {None}
        for row in await self.rows(OUTBOX, at=at):
            assert row["status"] != "held"
            assert row["ciphertext"] is None or class_of(Kind(row["kind"])) is KindClass.STOP


async def begin(
    together: Federation,
    *,
    receiver: AgencyPlan = SHELTER,
    sender: AgencyPlan = HELPLINE,
    consent: dict[str, Any] | str | None = None,
    travel: bool = True,
    **changes: Any,
) -> Story:
    """A referral, from the consent on; delivered unless said. `changes` are those of the request."""
    asks, helps = together[sender].client(), together[receiver].client()
    at = now_of(together)
    if not isinstance(consent, str):
        recorded = await asks.consents.record(consent_request(receiver.agency, now=at, **(consent or {})))
        consent = recorded.id
    created = await asks.referrals.send(referral_request(receiver.agency, consent, now=at, **changes))
    story = Story(together, together[sender], together[receiver], asks, helps, consent, created)
    if travel:
        await story.travel()
    return story


async def released_and_waiting(two: Federation, **changes: Any) -> Story:
    """The receiver has accepted and its node is away: her name waits for it. `changes` as in `begin`."""
    story = await begin(two, **changes)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await story.receiver.courier.run_once()
    two.leave(story.receiver.plan)
    await story.travel()
    assert (await story.outgoing())["disclosure"] == ["queued"]
    return story


def her_content(together: Federation, **more: Any) -> dict[str, Any]:
    """The usual content of `people.referral_request`, with other or more fields; nothing removes one."""
    request = referral_request("x1", "0" * 32, now=now_of(together))
    members = json.loads(request.content.model_dump_json(exclude_none=True, by_alias=True)) | more
    return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Travelled:
    """One envelope that was posted."""

    port: int
    header: Header
    wire: dict[str, str]


def travelled(together: Federation) -> list[Travelled]:
    """Every envelope that was posted, the first time, in order."""
    found: dict[str, Travelled] = {}
    for port, path, body in together.network.posted:
        if path.endswith("/envelopes"):
            for wire in json.loads(body)["envelopes"]:
                header = parse_header(parse_envelope(wire).header)
                found.setdefault(header.id, Travelled(port, header, wire))
    return list(found.values())


async def said_inside(together: Federation) -> bytes:
    """The inside of everything that was posted, opened with the receivers' own keys."""
    inside = b""
    for one in travelled(together):
        receiver = together.nodes[one.header.recipient].node
        assert receiver.keyring is not None
        key = await receiver.keyring.epoch_key(one.header.epoch_key or "")
        if key is not None:
            envelope = parse_envelope(one.wire)
            inside += decrypt(envelope, key.unwrap(envelope.wrapped_key)) + b"\n"
    return inside


async def rows(node: TestNode, table: Table, where: Any = True) -> list[dict[str, Any]]:
    """Rows as they lie in the node's main database."""

    def read(conn: Connection) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in conn.execute(select(table).where(where))]

    return await node.node.database.read(read)


async def refusal(awaitable: Any) -> Problem:
    """The problem with which the node refuses this."""
    with pytest.raises(ProblemError) as refused:
        await awaitable
    return refused.value.problem
