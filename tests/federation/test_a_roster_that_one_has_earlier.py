"""A new roster is at one node earlier than at the other: nothing is refused for good by the one that is late."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.federation import Federation
from support.stories import begin

from contracts.vocabulary import AgencyKind
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.roster import Member, Status


def standing(plan: AgencyPlan, status: Status) -> Callable[[Member], Member]:
    """This member's entry with another standing."""
    return lambda member: member.model_copy(update={"status": status}) if member.agency == plan.agency else member


def catches_up(two: Federation, late: AgencyPlan, early: AgencyPlan) -> None:
    """The roster reaches the node that was late; it reads its files by itself when something unknown arrives."""
    (two[late].home / "roster.json").write_bytes((two[early].home / "roster.json").read_bytes())


@pytest.mark.parametrize("plan", [HELPLINE, SHELTER], ids=["sender", "receiver"])
async def test_a_member_that_is_admitted_again(two: Federation, plan: AgencyPlan) -> None:
    await two.new_roster(member=standing(plan, Status.SUSPENDED))
    await two.new_roster(member=standing(plan, Status.ACTIVE), known_to=(HELPLINE,))
    story = await begin(two)
    assert (await story.outgoing())["offer"] == ["queued"]
    assert not (await story.flags()).undeliverable
    catches_up(two, SHELTER, HELPLINE)
    await story.later(hours=0.1)
    await story.both_say("received")


async def test_a_contract_that_is_adopted(two: Federation) -> None:
    """Its file lies at both: the receiver has signed its adherence to it."""
    adopted = two[HELPLINE].node.world().roster.contracts
    await two.new_roster(contracts=())
    await two.new_roster(contracts=adopted, known_to=(HELPLINE,))
    story = await begin(two)
    assert (await story.outgoing())["offer"] == ["queued"]
    catches_up(two, SHELTER, HELPLINE)
    await story.later(hours=0.1)
    await story.both_say("received")


async def test_a_member_whose_kind_is_another_now(two: Federation) -> None:
    """By the roster of before the receiver may be told nothing of what its new kind may be told."""

    def kind(kind: AgencyKind) -> Callable[[Member], Member]:
        return lambda member: member.model_copy(update={"kind": kind}) if member.agency == SHELTER.agency else member

    await two.new_roster(member=kind(AgencyKind.LABOUR_OFFICE))
    await two.new_roster(member=kind(AgencyKind.SHELTER), known_to=(HELPLINE,))
    story = await begin(two)
    assert (await story.outgoing())["offer"] == ["queued"]
    catches_up(two, SHELTER, HELPLINE)
    await story.later(hours=0.1)
    await story.both_say("received")


async def test_by_the_same_roster_it_is_refused_for_good(two: Federation) -> None:
    story = await begin(two, travel=False)
    await two.new_roster(member=standing(HELPLINE, Status.SUSPENDED), known_to=(SHELTER,))
    await story.travel()
    assert (await story.outgoing())["offer"] == ["refused"]
    assert (await story.flags()).undeliverable
