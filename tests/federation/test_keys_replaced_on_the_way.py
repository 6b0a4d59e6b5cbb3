"""An agency's keys are replaced while something is on its way: it arrives, or its maker is told at once."""

from __future__ import annotations

from support.federation import Federation
from support.replaced_keys import another_node_key, listed, started_with
from support.stories import Story, begin

from exchange.demo.federation import SHELTER


async def arrived_unheard(two: Federation, story: Story) -> None:
    """What waits arrives, and the receipts for it do not."""
    two.network.answers_lost = True
    await story.sender.courier.run_once()
    two.network.answers_lost = False


async def test_her_no_whose_receipt_was_lost_is_signed_for_by_the_new_node_key(two: Federation) -> None:
    """It has arrived: whoever waits to hear so must not wait for ever, nor must it be sent every three seconds."""
    story, new = await begin(two), another_node_key()
    await story.says_no("stop-service", travel=False)
    await arrived_unheard(two, story)
    assert len(await story.items("withdrawal")) == 1
    await listed(two, SHELTER, node_key=new)
    async with started_with(two, SHELTER, node_key=new):
        await story.later(hours=1)
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert len(await story.items("withdrawal")) == 1
