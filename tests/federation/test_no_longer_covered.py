"""What waits to leave and is covered no more, by what its receiver is now or by the contract: it stays, and is told."""

from __future__ import annotations

from support.federation import Federation
from support.stories import begin, released_and_waiting

from contracts.vocabulary import AgencyKind
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.roster import Member


def another_kind(member: Member) -> Member:
    return member.model_copy(update={"kind": AgencyKind.POLICE}) if member.agency == SHELTER.agency else member


async def test_her_name_does_not_go_to_a_receiver_that_has_become_another_kind_of_office(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster(member=another_kind)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure" not in await story.outgoing()
    assert "disclosure-barred" in await story.changes()
    flags = await story.flags()
    assert flags.awaiting_disclosure


async def test_nor_does_an_offer(two: Federation) -> None:
    two.leave(SHELTER)
    story = await begin(two)
    await two.new_roster(member=another_kind)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert story.kinds_posted() == []
    assert "offer-barred" in await story.changes()
    assert (await story.flags()).undeliverable


async def test_a_roster_that_changes_nothing_between_the_two_holds_up_nothing(two: Federation) -> None:
    story = await released_and_waiting(two)
    await two.new_roster()
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_nothing_leaves_under_a_contract_that_this_node_does_not_use_any_more(two: Federation) -> None:
    """It ended by its own date, or was withdrawn, and the roster still lists it."""
    story = await released_and_waiting(two)
    for path in (two[HELPLINE].home / "contracts").glob("*.yaml"):
        path.rename(path.with_suffix(".gone"))
    await two[HELPLINE].node.refresh_world()
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()
    assert (await story.flags()).awaiting_disclosure
