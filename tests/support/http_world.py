"""A helpline and a shelter, each with systems of its whole agency and of two branches, asked over HTTP.

A third node, whose agency holds its keys itself, is there for the calls that only such a node takes.

What a test needs is made by the branch `north` through the SDK; who asks then is up to the test.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from support.federation import Federation, TestNode, federation
from support.founded import sqlite_maker
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.api.rate import Buckets, ByteBuckets
from exchange.cli.founding import add_client
from exchange.cli.profile import Profile
from exchange.client import AgencyClient, ClientKey
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.oauth.assertion import make_assertion, token_request
from exchange.oauth.scopes import CLIENT_SCOPES, Scope
from exchange.schemas.inbox import DecisionRequest, InboxItem, ProgressRequest

NORTH, SOUTH = "north", "south"
NOBODYS_ID = "f" * 32


@dataclass(frozen=True)
class Ask:
    """One request, but for who sends it."""

    node: TestNode
    path: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    hidden: str = "nothing is hidden"
    """An id that no list may show to another branch."""


@dataclass
class HttpWorld:
    """Both nodes, and what a test can do with them."""

    together: Federation
    databases: dict[str, str]
    _clients: dict[tuple[str, str | None, frozenset[Scope]], AgencyClient] = field(default_factory=dict)
    _made: int = 0

    @property
    def helpline(self) -> TestNode:
        """The referring side."""
        return self.together[HELPLINE]

    @property
    def shelter(self) -> TestNode:
        """The receiving side."""
        return self.together[SHELTER]

    def system(
        self, node: TestNode, unit: str | None = NORTH, scopes: frozenset[Scope] = CLIENT_SCOPES
    ) -> AgencyClient:
        """A registered system of a branch, or of the whole agency."""
        key = (node.agency, unit, scopes)
        if key not in self._clients:
            name = f"{unit or 'agency'}-system"
            home = node.home / name
            if not home.is_dir():
                home.mkdir(mode=0o700)
                profile = Profile(url=node.member.node_url, client_id=name, key_file=Path("key.jwk"), unit=unit)
                add_client(self.databases[f"{node.agency}-main"], node.node.storage_key, home, profile)
            client = AgencyClient(
                node.member.node_url,
                name,
                ClientKey.load(home / "key.jwk"),
                actor=f"w-{unit or 'agency'}",
                scopes=scopes,
                transport=node.network,
                now_s=lambda: node.node.clock() / 1000,
            )
            node.clients.append(client)
            self._clients[key] = client
        return self._clients[key]

    async def token(self, node: TestNode, unit: str | None = NORTH, scopes: frozenset[Scope] = CLIENT_SCOPES) -> str:
        """A token of such a system."""
        return await self.system(node, unit, scopes).access_token()

    async def peer_token(self, node: TestNode) -> str:
        """A token of the other agency's node, as it would get it."""
        peer = self.helpline if node is self.shelter else self.shelter
        now = node.node.clock()
        assertion = make_assertion(peer.agency, node.member.node_url, peer.node.node_key.sign, now=now)
        async with self.http(node) as http:
            answer = await http.post("/oauth/token", data=token_request(assertion, "federation"))
        return str(answer.json()["access_token"])

    def http(self, node: TestNode) -> httpx2.AsyncClient:
        """A bare connection to a node."""
        return httpx2.AsyncClient(transport=node.network, base_url=node.member.node_url)

    async def send(
        self, ask: Ask, method: str, template: str, *, token: str | None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """The node's answer to this request; every header that a write needs is there."""
        self._made += 1
        sent = {"Actor": "w-0417", "Idempotency-Key": f"key-{self._made}"}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        content = None
        if ask.body is not None:
            content = ask.body if isinstance(ask.body, bytes) else json.dumps(ask.body).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        async with self.http(ask.node) as http:
            return await http.request(
                method, template.format(**ask.path), headers=sent, content=content, params=dict(ask.query)
            )

    async def consent(self) -> str:
        """A consent to the shelter."""
        view = await self.system(self.helpline).consents.record(consent_request(SHELTER.agency))
        return view.id

    async def sent(self) -> tuple[str, InboxItem]:
        """A referral that arrived and that nobody at the shelter has touched: its id, and the offer."""
        request = referral_request(SHELTER.agency, await self.consent())
        created = await self.system(self.helpline).referrals.send(request)
        await self.together.travel(1)
        return created.id, await self.newest(created.id, "offer")

    async def decided(self, word: str = "accepted", **more: Any) -> tuple[str, InboxItem]:
        """The same after the shelter's northern branch has said this."""
        referral, offer = await self.sent()
        decision = DecisionRequest.model_validate({"decision": word, **more})
        await self.system(self.shelter).inbox.decide(offer.id, decision)
        await self.together.travel(2)
        if word == "accepted":
            # Many stories in one world: the shelter has served nobody, so a worker has to let the next names go.
            await self.system(self.helpline).referrals.release(referral)
            await self.together.travel(1)
        return referral, offer

    async def asked_back_in_service(self) -> tuple[str, InboxItem]:
        """The shelter serves her already, and the helpline wants the referral back."""
        referral, offer = await self.decided()
        await self.system(self.shelter).inbox.report_progress(offer.id, ProgressRequest(state="in-service"))
        await self.together.travel(1)
        await self.system(self.helpline).referrals.recall(referral)
        await self.together.travel(1)
        return referral, offer

    async def erased(self) -> tuple[str, InboxItem]:
        """She said `erase` after the shelter had accepted."""
        referral, offer = await self.decided()
        await self.system(self.helpline).withdrawals.of_referral(referral, WithdrawalForm.ERASE)
        await self.together.travel(2)
        return referral, offer

    async def newest(self, referral: str, kind: str, node: TestNode | None = None) -> InboxItem:
        """The newest item of a kind about a referral."""
        inbox = self.system(node or self.shelter, None).inbox
        found, page = [], await inbox.list()
        while page.items:
            found += [item for item in page.items if (item.referral, item.kind) == (referral, kind)]
            page = await inbox.list(page.next_cursor)
        return found[-1]


@asynccontextmanager
async def http_world(folder: Path) -> AsyncIterator[HttpWorld]:
    """Open both nodes; rates are not what these tests are about."""
    maker = sqlite_maker(folder)
    databases: dict[str, str] = {}

    def remembered(name: str) -> str:
        databases[name] = maker(name)
        return databases[name]

    plans = (HELPLINE, SHELTER, LABOUR_OFFICE)
    async with federation(folder, plans, database=remembered, blind=(LABOUR_OFFICE,)) as together:
        for transport in together.network.apps.values():
            serving = transport.app.state.serving  # type: ignore[attr-defined]
            serving.clients = serving.peers = Buckets(1_000_000)
            serving.peer_bytes = ByteBuckets(2**40, reserve=2**40, small=2**40)
        yield HttpWorld(together, databases)
