"""Precedence: a small delivery before a large one, which becomes slow and never stands still."""

from __future__ import annotations

import asyncio

from exchange.use_cases import precedence
from exchange.use_cases.precedence import Precedence


async def test_a_large_one_gives_way_until_the_small_one_is_done() -> None:
    who, seen = Precedence(), []

    async def large() -> None:
        for piece in range(3):
            seen.append(f"large {piece}")
            await who.give_way()
        seen.append("large done")

    async def small() -> None:
        with who.small():
            for step in range(8):
                seen.append(f"small {step}")
                await asyncio.sleep(0)

    await asyncio.gather(large(), small())
    assert seen == ["large 0", *[f"small {step}" for step in range(8)], "large 1", "large 2", "large done"]


async def test_it_gives_way_to_the_last_of_several() -> None:
    who, seen = Precedence(), []

    async def large() -> None:
        await who.give_way()
        seen.append("large")

    async def small(steps: int) -> None:
        with who.small():
            for _ in range(steps):
                await asyncio.sleep(0)
        seen.append(f"small {steps}")

    await asyncio.gather(large(), *(small(steps) for steps in (2, 9, 5)))
    assert seen == ["small 2", "small 5", "small 9", "large"]


async def test_it_never_stands_still() -> None:
    """Small ones without end, and one that hangs: each slice waits so long and no longer."""
    who, loop = Precedence(), asyncio.get_running_loop()
    with who.small():
        begun = loop.time()
        for _ in range(3):
            await who.give_way()
        took = loop.time() - begun
    assert 3 * precedence.LONGEST_S * 0.9 <= took <= 3 * precedence.LONGEST_S + 1


async def test_small_work_that_fails_or_is_given_up_is_over() -> None:
    who = Precedence()

    async def fails() -> None:
        with who.small():
            await asyncio.sleep(0)
            raise LookupError

    async def hangs() -> None:
        with who.small():
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hangs())
    failed = asyncio.create_task(fails())
    waiting = asyncio.create_task(who.give_way())
    await asyncio.sleep(0)
    hanging.cancel()
    async with asyncio.timeout(precedence.LONGEST_S * 100):
        await waiting
    assert isinstance((await asyncio.gather(failed, return_exceptions=True))[0], LookupError)
    begun = asyncio.get_running_loop().time()
    for _ in range(50):
        await who.give_way()
    assert asyncio.get_running_loop().time() - begun < 50 * precedence.LONGEST_S
