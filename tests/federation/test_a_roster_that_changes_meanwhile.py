"""A delivery goes on for as long as a line is slow, and another roster may come meanwhile: the newest one counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from support.federation import Federation
from support.replaced_keys import another_node_key, listed, started_with
from support.rosters import without
from support.stories import Story, begin, released_and_waiting

from contracts.vocabulary import AgencyKind
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation import way
from exchange.federation.courier import Courier
from exchange.federation.transport import PeerTransport
from exchange.roster import Member
from exchange.schemas.federation import BatchAnswer
from exchange.storage.tables import PEER
from exchange.use_cases.deliver import Batch


class Meanwhile:
    """Delivers; between the first batch and its answer something happens."""

    def __init__(self, real: PeerTransport, happens: Callable[[], Awaitable[None]]) -> None:
        self._real, self._happens = real, happens
        self.addresses: list[str] = []
        """Where each batch went."""

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        self.addresses.append(peer.node_url)
        answer = await self._real.post_envelopes(peer, body, until=until)
        if len(self.addresses) == 1:
            await self._happens()
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def two_batches(two: Federation) -> tuple[Story, Story]:
    """Two offers for the shelter, which go one after the other over a line that carries little."""
    stories = await begin(two, travel=False), await begin(two, travel=False)
    await stories[0].writes(update(PEER).values(carries=1))
    return stories


async def delivered_while(story: Story, happens: Callable[[], Awaitable[None]]) -> list[str]:
    """The addresses to which the batches went, while this happened before the first answer was there."""
    meanwhile = Meanwhile(story.sender.courier._transport, happens)
    await Courier(story.sender.node, meanwhile).run_once()
    return meanwhile.addresses


async def test_the_next_batch_goes_where_the_receiver_is_now(two: Federation) -> None:
    shelter, apps = two[SHELTER], two.network.apps
    first, second = await two_batches(two)
    before, after = shelter.member.node_url, "http://127.0.0.1:9"

    async def moves() -> None:
        apps[9] = apps[shelter.port]
        shelter.node.token_server._issuer = after
        await two.new_roster(
            member=lambda one: one.model_copy(update={"node_url": after} if one.agency == shelter.agency else {})
        )

    assert await delivered_while(first, moves) == [before, after]
    assert [await one.outgoing() for one in (first, second)] == [{"offer": ["delivered"], "disclosure": ["held"]}] * 2


async def test_a_receipt_counts_by_the_key_of_the_moment_at_which_it_is_here(two: Federation) -> None:
    """Who has the key that was replaced could otherwise sign for her no, and it would never arrive."""
    story, new = await begin(two), another_node_key()
    await story.says_no("stop-service", travel=False)

    async def replaced() -> None:
        await listed(two, SHELTER, node_key=new)

    await delivered_while(story, replaced)
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    async with started_with(two, SHELTER, node_key=new):
        await story.later(hours=0.1)
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert len(await story.items("withdrawal")) == 1


async def test_nothing_more_goes_to_who_is_not_listed_any_more_and_the_rest_waits(two: Federation) -> None:
    helpline = two[HELPLINE]
    first, second = await two_batches(two)
    before = helpline.node.world

    async def vanishes() -> None:
        gone = replace(before(), roster=without(before().roster, SHELTER.agency))
        helpline.node.world = lambda: gone

    assert len(await delivered_while(first, vanishes)) == 1
    helpline.node.world = before
    assert [(await one.outgoing())["offer"] for one in (first, second)] == [["queued"], ["queued"]]
    await first.later(hours=1)
    assert [(await one.outgoing())["offer"] for one in (first, second)] == [["delivered"], ["delivered"]]


async def test_what_was_looked_at_under_a_roster_of_before_does_not_leave(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the post another roster comes: the receiver is another kind of office."""
    story = await released_and_waiting(two)
    looks, load = list[Batch | None](), way.load_next

    async def and_a_roster_comes(*args: Any) -> Batch | None:
        looks.append(await load(*args))
        if len(looks) == 1:
            await two.new_roster(
                member=lambda one: (
                    one.model_copy(update={"kind": AgencyKind.POLICE}) if one.agency == SHELTER.agency else one
                )
            )
        return looks[-1]

    monkeypatch.setattr(way, "load_next", and_a_roster_comes)
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    assert looks[0] is not None
    assert "disclosure" not in story.kinds_posted()
    assert "disclosure-barred" in await story.changes()
    assert (await story.flags()).awaiting_disclosure


async def test_what_still_may_goes_by_the_new_roster_at_once(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begin(two, travel=False)
    looks, load = list[Batch | None](), way.load_next

    async def and_a_roster_comes(*args: Any) -> Batch | None:
        looks.append(await load(*args))
        if len(looks) == 1:
            await two.new_roster()
        return looks[-1]

    monkeypatch.setattr(way, "load_next", and_a_roster_comes)
    await story.sender.courier.run_once()
    assert [batch is not None for batch in looks] == [True, True, False]
    assert (await story.outgoing())["offer"] == ["delivered"]
