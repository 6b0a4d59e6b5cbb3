"""A changed plan that the receiver cannot use: told each time, and not forgotten when a recall is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.blind import referred
from support.federation import Federation, federation
from support.stories import begin, now_of, safe_contact

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import ProgressRequest, RecallAnswerRequest, RefusalRequest

NOBODY_CALLS: dict[str, Any] = {"who_initiates": "neither", "channels": [], "safe_times": []}


async def test_each_one_that_is_refused_is_told(pair: Federation) -> None:
    """The flag stands since the first one: by itself it says nothing of the second."""
    story = await begin(pair)
    await story.decides("accepted")
    before = len(await story.changes())
    for number in range(2):
        plan = safe_contact(now_of(pair), say_if_other_answers=f"plan {number}")
        await story.asks.referrals.update_safe_contact(story.id, plan)
        await story.travel()
        item = (await story.items("update"))[-1]
        await story.helps.inbox.refuse(item.id, RefusalRequest(code="cannot-open"))
        await story.later(hours=1)
    assert (await story.changes())[before:] == ["update", "cannot-open", "update", "cannot-open"]
    assert (await story.outgoing())["update"] == ["refused", "refused"]


async def test_one_that_had_arrived_is_still_lacking_once_a_recall_is_delivered(tmp_path: Path) -> None:
    """The receiver goes on with an older plan, or with none."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as two:
        story = await referred(two, two[HELPLINE], two[SHELTER])
        await story.accepted()
        await story.helps.open(story.id, "disclosure")
        await story.helps.report(story.id, ProgressRequest(state="in-service"))
        asks, helps = story.asks.client.referrals, story.helps
        await asks.update_safe_contact(story.id, safe_contact(now_of(two), **NOBODY_CALLS))
        await two.travel()
        item = await helps.item(story.id, "update")
        await helps.client.inbox.refuse(item.id, RefusalRequest(code="content-invalid"))
        await two.travel()
        assert (await asks.read(story.id)).flags.undeliverable
        await asks.recall(story.id)
        await two.travel()
        await helps.own_vault.answer_recall(story.id, RecallAnswerRequest(agreed=False))
        await two.travel()
        view = await asks.read(story.id)
        assert (view.state.value, view.flags.undeliverable) == ("in-service", True)
