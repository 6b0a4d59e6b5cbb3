"""A weekly key is revoked while its agency's node is away: what was sealed to it meanwhile, on both nodes, to the end.

What the sender may know is what lies on the card, and nobody else has that. Until it is read the old key is sealed to.
Then: an offer that waits goes as it was sealed and opens, what names her is not released, and nothing is lost unheard.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.federation import Federation, TestNode, federation
from support.people import CANARY_NAME
from support.stories import Story, begin, content, her_content, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.peers import refresh_peers
from exchange.limits import HOUR_MS, WEEK_MS
from exchange.schemas.inbox import DecisionRequest
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.release_disclosure import release_due

ACCEPTED = DecisionRequest(decision="accepted")


async def revoked_while_away(two: Federation) -> tuple[Story, set[str]]:
    """The shelter has no line, revokes its keys, and is referred to; the offer waits, her name is held."""
    node = two[SHELTER].node
    two.cut_off(SHELTER)
    revoked = set(await revoke_own_epochs(node, compromised_since=node.clock() - HOUR_MS))
    two.clock.pass_by(hours=2)
    story = await begin(two, travel=False)
    assert await story.outgoing() == {"offer": ["queued"], "disclosure": ["held"]}
    return story, revoked


def keys_on_the_way(two: Federation, kind: str) -> list[str | None]:
    return [one.header.epoch_key for one in travelled(two) if one.header.kind == kind]


async def seals_her_name_again(story: Story, two: Federation) -> None:
    again = her_content(two, preferred_name=CANARY_NAME)
    await story.asks.referrals.replace_disclosure(story.id, content(**again))
    await story.travel()


async def test_an_offer_that_waited_opens_and_her_name_goes_only_to_a_new_key(pair: Federation) -> None:
    """The acceptance comes at once, before the courier has asked for the card again."""
    story, revoked = await revoked_while_away(pair)
    pair.connect(SHELTER)
    await story.travel()
    assert set(keys_on_the_way(pair, "offer")) <= revoked
    assert (await story.opened("offer")).content is not None
    await story.decides("accepted")
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert "awaiting-disclosure" in await story.changes()
    assert keys_on_the_way(pair, "disclosure") == []
    await seals_her_name_again(story, pair)
    (key,) = keys_on_the_way(pair, "disclosure")
    assert key not in revoked
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME


async def test_what_was_released_before_goes_as_it_was_sealed_and_opens(two: Federation) -> None:
    """It has left its agency's hands, nobody here can seal it anew, and she waits for a bed."""
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), ACCEPTED)
    await two[SHELTER].courier.run_once()
    two.cut_off(SHELTER)
    await release_due(two[HELPLINE].node)
    assert (await story.outgoing())["disclosure"] == ["queued"]
    node = two[SHELTER].node
    revoked = await revoke_own_epochs(node, compromised_since=node.clock() - HOUR_MS)
    two.clock.pass_by(hours=2)
    two.connect(SHELTER)
    await refresh_peers(two[HELPLINE].node, two[HELPLINE].courier._transport)
    await story.travel()
    assert set(keys_on_the_way(two, "disclosure")) <= set(revoked)
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME


async def test_where_the_private_half_is_lost_the_sender_is_told_and_seals_again(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER)) as pair:
        story, revoked = await revoked_while_away(pair)
        await _loses(pair[SHELTER], revoked)
        pair.connect(SHELTER)
        await story.travel()
        assert (await story.outgoing())["offer"] == ["refused"]
        assert (await story.flags()).undeliverable
        assert "offer-refused" in await story.changes()
        await refresh_peers(pair[HELPLINE].node, pair[HELPLINE].courier._transport)
        again = await begin(pair)
        assert set(keys_on_the_way(pair, "offer")[1:]).isdisjoint(revoked)
        assert (await again.opened("offer")).content is not None


async def test_one_that_is_away_again_when_its_acceptance_counts_is_released_to_as_known(two: Federation) -> None:
    """Asked once and not answered: the acceptance is a sign that it is there, and she is not left without a bed."""
    story = await begin(two)
    two.clock.pass_by(hours=2)
    await story.helps.inbox.decide(await story.offer(), ACCEPTED)
    await two[SHELTER].courier.run_once()
    two.cut_off(SHELTER)
    async with asyncio.timeout(8):
        await release_due(two[HELPLINE].node)
    assert (await story.flags()).disclosed
    two.connect(SHELTER)
    await story.travel()
    assert (await story.opened("disclosure")).content is not None


async def _loses(one: TestNode, keys: set[str]) -> None:
    """A new machine with an empty key store: its own keys are published, and those before are nowhere."""
    await one.node.key_store.destroy_ended_epochs(one.node.clock() + 20 * WEEK_MS)
    assert not keys & await one.node.key_store.epoch_key_ids()
    await revoke_own_epochs(one.node, compromised_since=one.node.clock() - HOUR_MS)
