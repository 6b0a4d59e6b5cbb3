"""The workers who act in the demo: one for each agency, each through its own node only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from exchange.client import AgencyClient
from exchange.demo.federation import HELPLINE, AgencyPlan, RunningFederation
from exchange.demo.narration import Narrator, sights_of
from exchange.demo.people import Person
from exchange.demo.waiting import item_of
from exchange.schemas.inbox import InboxItem, OpenedItem
from exchange.schemas.referrals import FieldDecision, ReferralCreated


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody who acts, and who tells it."""

    federation: RunningFederation
    narrator: Narrator
    clients: dict[str, AgencyClient]

    @property
    def helpline(self) -> AgencyClient:
        """The referring side of every story."""
        return self.clients[HELPLINE.agency]

    def at(self, plan: AgencyPlan) -> AgencyClient:
        """The worker of this agency."""
        return self.clients[plan.agency]


@dataclass(slots=True)
class Case:
    """One referral on its way, as the two agencies see it."""

    person: Person
    consent: str
    created: ReferralCreated
    decisions: tuple[FieldDecision, ...]
    seen: dict[str, Any] = field(default_factory=dict)
    """What the receiver's own node has shown its worker so far."""

    @property
    def referral(self) -> str:
        """Its id."""
        return self.created.id


@asynccontextmanager
async def cast_of(federation: RunningFederation, narrator: Narrator) -> AsyncIterator[Cast]:
    """One worker at each node."""
    async with AsyncExitStack() as open_clients:
        clients = {}
        for number, (agency, node) in enumerate(federation.nodes.items(), start=1):
            clients[agency] = await open_clients.enter_async_context(node.client(f"w-{number:03d}"))
        yield Cast(federation, narrator, clients)


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


async def refer(cast: Cast, person: Person) -> Case:
    """Consent, preview and hand-in, as every story begins."""
    tell = cast.narrator
    tell.step("helpline", "explains the limits of confidentiality, asks her, and records what she allowed.")
    consent = await cast.helpline.consents.record(person.consent(now()))
    tell.holds("The consent is live and names what, to whom, why and until when.", fact=consent.state == "given")
    request = person.referral(consent.id)
    preview = await cast.helpline.referrals.preview(request)
    tell.step("helpline", "looks at a preview: contract and consent decide field by field. Nothing is stored yet.")
    tell.holds(preview.sentence, fact=preview.allowed)
    created = await cast.helpline.referrals.send(request)
    case = Case(person, consent.id, created, preview.fields)
    tell.step(
        "helpline",
        f"hands the referral in. The node seals offer and disclosure, queues the one and holds the other; "
        f"on the telephone she is {created.client_code}.",
    )
    tell.holds("Name and contact are sealed and held; not even this node can read them.", fact=created.disclosure_held)
    return case


async def receive(cast: Cast, case: Case, kind: str) -> tuple[InboxItem, OpenedItem]:
    """The receiver polls, opens the item of this kind, and acknowledges it."""
    client = cast.at(case.person.receiver)
    item = await item_of(client, case.referral, kind)
    lease = await client.inbox.lease(item.id)
    opened = await client.inbox.open(item.id)
    await client.inbox.acknowledge(item.id, lease.token)
    if opened.content is not None:
        case.seen |= opened.content.model_dump(mode="json", exclude_none=True, by_alias=True)
    return item, opened


def show_sights(cast: Cast, case: Case, title: str, *, held: str = "") -> None:
    """The table of this moment."""
    rows = sights_of(case.person.content, case.decisions, case.seen, held=held)
    cast.narrator.sights(title, case.person.receiver, rows)
