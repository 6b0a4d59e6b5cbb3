"""The demo without agency keys on the servers: its own sentences, on nodes in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from support.federation import TestNode, federation
from support.founded import PASSPHRASE

from exchange.client import AgencyClient
from exchange.client.vault import Identity, open_agency_folder
from exchange.demo.blind import tell_all
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan, RunningNode
from exchange.demo.narration import Narrator
from exchange.roster import Member


@dataclass
class InProcess:
    """What the demo asks of a running node."""

    node: TestNode

    def __post_init__(self) -> None:
        for name, file in (("main", "node.db"), ("keys", "keys.db")):
            (self.home / file).symlink_to(self.home.parent / f"{self.node.agency}-{name}.db")

    @property
    def plan(self) -> AgencyPlan:
        return self.node.plan

    @property
    def home(self) -> Path:
        return self.node.home

    @property
    def member(self) -> Member:
        return self.node.member

    @property
    def agency(self) -> str:
        return self.node.agency

    def client(self, actor: str) -> AgencyClient:
        return self.node.client(actor)

    def identity(self) -> Identity:
        return replace(open_agency_folder(self.node.agency_home, PASSPHRASE), clock=self.node.node.clock)


async def test_every_claim_of_the_blind_demo_holds(tmp_path: Path) -> None:
    narrator = Narrator(Console(quiet=True))
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE, SHELTER)) as together:

        async def deliver() -> None:
            while True:
                await together.travel(1)
                await asyncio.sleep(0.01)

        courier = asyncio.create_task(deliver())
        nodes = [cast("RunningNode", cast("Any", InProcess(together[plan]))) for plan in (HELPLINE, SHELTER)]
        try:
            await tell_all(*nodes, narrator)
        finally:
            courier.cancel()
    assert narrator.counts == {"completed": 1, "refused": 1, "withdrawn": 1}
    assert narrator.claims == 31
