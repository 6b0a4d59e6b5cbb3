"""Twenty pollers on one inbox, most of which crash with an item in hand.

Rules:

* In the end every referral is acknowledged, by exactly one; none is lost, and none is given out again once it was.
* While one has an item nobody else has it, and an item whose poller crashed is free again when its lease has run out.
* Whoever reads sees the order in which things arrived, whatever happens to them. No item is left over: each is given
  out again as often as a poller crashed with it, and once more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from support.federation import Federation
from support.ledger import record
from support.stories import begin

from exchange.client import AgencyClient, ProblemError
from exchange.demo.federation import SHELTER

POLLERS, REFERRALS, LEASE_S = 20, 24, 30
MOMENTS = ("leased", "opened")


@dataclass
class Desk:
    """What the pollers did."""

    chance: Random
    taken: list[tuple[str, str]] = field(default_factory=list)
    """(referral, poller) of every lease."""
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    crashed: Counter[str] = field(default_factory=Counter)
    saw: list[list[str]] = field(default_factory=list)
    """Every page, in its order."""
    holding: dict[str, str] = field(default_factory=dict)

    def crash(self, moment: str, item: str) -> bool:
        """Whether it is over for a poller's process, which started again has forgotten everything."""
        if self.chance.random() < 0.4:
            self.crashed[moment] += 1
            self.holding.pop(item, None)
            return True
        return False


async def _work(client: AgencyClient, poller: str, desk: Desk) -> None:
    """One life of a poller: a page from the beginning, item by item, until it crashes or nothing is left."""
    page = await client.inbox.list(status="new", limit=POLLERS)
    desk.saw.append([item.referral for item in page.items])
    for item in page.items:
        try:
            lease = await client.inbox.lease(item.id, LEASE_S)
        except ProblemError as refused:
            if refused.problem.code not in {"leased", "not-new"}:
                raise
            continue
        assert item.referral not in {referral for referral, _ in desk.acknowledged}
        assert desk.holding.setdefault(item.id, poller) == poller, "two have it"
        desk.taken.append((item.referral, poller))
        if desk.crash("leased", item.id):
            return
        assert (await client.inbox.open(item.id)).content is not None
        if desk.crash("opened", item.id):
            return
        # It is taken over durably in the agency's own system, and acknowledged.
        await client.inbox.acknowledge(item.id, lease.token)
        desk.acknowledged.append((item.referral, poller))
        del desk.holding[item.id]


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.faults), pytest.param(3, marks=pytest.mark.faults)]
)
async def test_every_referral_is_acknowledged_once(two: Federation, seed: int) -> None:
    first = await begin(two, travel=False)
    sent = [first.id] + [(await begin(two, consent=first.consent, travel=False)).id for _ in range(REFERRALS - 1)]
    await two.travel()
    desk = Desk(Random(seed))  # noqa: S311 - repeatable chance
    pollers = {f"w-{number}": two[SHELTER].client(f"w-{number}") for number in range(POLLERS)}
    for _ in range(60):
        await asyncio.gather(*(_work(client, poller, desk) for poller, client in pollers.items()))
        if len(desk.acknowledged) == REFERRALS:
            break
        # Whoever crashed has the item until its lease ends.
        assert desk.holding == {}
        two.clock.pass_by(seconds=LEASE_S + 1)
    done = Counter(referral for referral, _ in desk.acknowledged)
    assert done == Counter(sent)
    assert desk.crashed["leased"] > 0
    assert desk.crashed["opened"] > 0
    place = {referral: number for number, referral in enumerate(sent)}
    for page in desk.saw:
        assert [place[referral] for referral in page] == sorted(place[referral] for referral in page)
    # One that crashes is replaced by others, and an item that it had is not held back by it.
    assert len({poller for _, poller in desk.taken}) >= POLLERS // 2
    assert len(desk.taken) == REFERRALS + desk.crashed.total()
    everything = [item async for item in first.helps.inbox.pages() if item.kind == "offer"]
    assert [item.referral for item in everything] == sent
    assert {item.status for item in everything} == {"acknowledged"}
    record("pollers that crashed", lost=len(set(sent) - done.keys()), doubled=sum(done.values()) - len(done))
