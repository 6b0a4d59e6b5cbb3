"""A node's clock was years ahead when it started and is right since: nothing that it remembers of then holds it up."""

from __future__ import annotations

import asyncio

import pytest
from support.federation import Federation
from support.stories import begin

from exchange.demo.federation import SHELTER
from exchange.federation import courier
from exchange.limits import HOUR_MS
from exchange.use_cases import consent_freshness
from exchange.use_cases.node import Node

YEARS_MS = 20 * 365 * 24 * HOUR_MS


@pytest.mark.parametrize("work", ["maintain", "destroy_ended", "refresh_peers", "greet_peers"])
async def test_the_courier_keeps_its_clocks(two: Federation, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node, ahead, done = two[SHELTER].node, [YEARS_MS], asyncio.Event()
    monkeypatch.setattr(node, "clock", lambda: two.clock() + ahead[0])
    monkeypatch.setattr(courier, "IDLE_MS", 10)

    async def note(_node: Node, *_transport: object) -> None:
        done.set()

    monkeypatch.setattr(courier, work, note)
    stop = asyncio.Event()
    running = asyncio.create_task(two[SHELTER].courier.run(stop))
    async with asyncio.timeout(10):
        await done.wait()
        done.clear()
        ahead[0] = 0
        await done.wait()
    stop.set()
    await running


async def test_a_peer_that_did_not_answer_is_asked_again(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begin(two)
    node, asked = two[SHELTER].node, list[str]()

    async def away(peer: object, _receipts: object) -> None:
        asked.append(str(peer))

    monkeypatch.setattr(node, "ask_consent_status", away)
    for ahead in (YEARS_MS, 0, 0):
        monkeypatch.setattr(node, "clock", lambda ahead=ahead: two.clock() + ahead)
        await consent_freshness._ask(node, story.sender.agency, {"r" * 32: "i" * 32})
    assert len(asked) == 2
