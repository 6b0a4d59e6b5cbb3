"""A contract begins or ends at midnight (UTC), and two clocks differ by a minute: nothing is refused for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from support.blind import referred
from support.federation import Clock, Federation, TestNode, federation
from support.stories import begin

from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.limits import DAY_MS, MINUTE_MS
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.use_cases.node import as_datetime


def behind(clock: Clock, by_ms: int) -> Callable[[], int]:
    return lambda: clock() - by_ms


def set_to(clock: Clock, moment: datetime) -> None:
    clock.offset += round(moment.timestamp() * 1000) - clock()


@pytest.mark.parametrize("begins", [True, False], ids=["begins", "ends"])
async def test_within_the_skew_of_two_clocks_both_days_count(two: Federation, begins: bool) -> None:
    """In South-East Asia midnight (UTC) is the beginning of a working day."""
    midnight = datetime.combine(as_datetime(two.clock() + DAY_MS).date(), datetime.min.time(), UTC)
    (adopted,) = two[HELPLINE].node.world().roster.contracts
    of_the_day = {"from_": midnight.date()} if begins else {"until": (midnight - timedelta(days=1)).date()}
    await two.new_roster(contracts=[replace(adopted, **of_the_day)])
    late = two[SHELTER] if begins else two[HELPLINE]
    late.node.clock = behind(two.clock, MINUTE_MS)
    set_to(two.clock, midnight + timedelta(seconds=20))
    story = await begin(two, travel=False)
    await story.sender.courier.run_once()
    assert (await story.outgoing())["offer"] == ["delivered"]


def ends_by_itself(one: TestNode, day: date) -> None:
    """The contract that this node has read names this as its last day."""
    world = one.node.world()
    (contract,) = world.contracts.values()
    ended = contract.model_copy(update={"valid_until": day})
    ended.__dict__.pop("ends_at", None)  # it may have been asked already, by its real day
    one.node.world = lambda: replace(world, contracts=MappingProxyType({ended.digest: ended}))


@pytest.mark.parametrize(
    ("seconds", "newer", "status"),
    [(20, False, "delivered"), (200, False, "refused"), (200, True, "queued")],
    ids=["within", "beyond", "by a newer roster"],
)
async def test_so_does_the_last_day_that_its_own_file_names(
    two: Federation, seconds: int, newer: bool, status: str
) -> None:
    """What left before midnight is held against it once more when it is opened (step 17)."""
    if newer:
        await two.new_roster(known_to=(HELPLINE,))
    story = await begin(two, travel=False)
    midnight = datetime.combine(as_datetime(two.clock() + DAY_MS).date(), datetime.min.time(), UTC)
    ends_by_itself(two[SHELTER], (midnight - timedelta(days=1)).date())
    set_to(two.clock, midnight + timedelta(seconds=seconds))
    await story.sender.courier.run_once()
    assert (await story.outgoing())["offer"] == [status]


@pytest.mark.parametrize("days", [-1, 1], ids=["before", "after"])
async def test_beyond_it_the_contract_is_not_in_force(two: Federation, days: int) -> None:
    """The receiver's clock is right, and the sender sends by a roster of its own."""
    (adopted,) = two[HELPLINE].node.world().roster.contracts
    today = as_datetime(two.clock()).date()
    other = replace(adopted, from_=today + timedelta(days=1)) if days < 0 else replace(adopted, until=today)
    await two.new_roster(contracts=[other], known_to=(SHELTER,))
    set_to(two.clock, datetime.combine(today, datetime.min.time(), UTC) + timedelta(hours=12, days=max(0, days)))
    story = await begin(two, travel=False)
    await story.sender.courier.run_once()
    assert (await story.outgoing())["offer"] == ["refused"]


@pytest.mark.parametrize("blind", [(), (SHELTER,)], ids=["keys-here", "keys-elsewhere"])
async def test_what_was_offered_before_it_ended_is_answered_as_fully_as_before(
    tmp_path: Path, blind: tuple[AgencyPlan, ...]
) -> None:
    """A recall takes nobody out of a service: that it had begun has to have been told."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=blind) as two:
        story = await referred(two, two[HELPLINE], two[SHELTER])
        for one in two.nodes.values():
            for path in (one.home / "contracts").glob("*.yaml"):
                path.rename(path.with_suffix(".ended"))
            await one.node.refresh_world()
            assert not one.node.world().contracts
        await story.helps.open(story.id, "offer")
        await story.helps.decide(story.id, DecisionRequest(decision="accepted"))
        await story.helps.report(story.id, ProgressRequest(state="in-service"))
        await two.travel()
        assert (await story.asks.client.referrals.read(story.id)).state == "in-service"
        await story.asks.client.referrals.recall(story.id)
        await two.travel()
        for office in (story.asks, story.helps):
            assert (await office.client.referrals.read(story.id)).state == "recall-requested"
