"""Precedence: a small delivery before a large one, which becomes slow and never stands still."""

from __future__ import annotations

import asyncio

import pytest

from exchange.use_cases import precedence
from exchange.use_cases.precedence import COSTLY, LIGHT, SLICE, Precedence


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on how quick the machine is."""
    monkeypatch.setattr(precedence, "SLICE_WAITS_S", 60)
    monkeypatch.setattr(precedence, "WAITS_S", 600)


@pytest.mark.usefixtures("patient")
async def test_a_large_one_gives_way_until_the_small_one_is_done() -> None:
    who, seen = Precedence(), []

    async def large() -> None:
        async for piece in who.large().of(range(2), SLICE):
            seen.append(f"large {piece}")  # noqa: PERF401 - when it is said is what is asked

    async def small() -> None:
        with who.small():
            for step in range(8):
                seen.append(f"small {step}")
                await asyncio.sleep(0)

    await asyncio.gather(large(), small())
    assert seen == ["large 0", *[f"small {step}" for step in range(8)], "large 1"]


@pytest.mark.usefixtures("patient")
async def test_it_gives_way_to_the_last_of_several() -> None:
    who, seen = Precedence(), []

    async def large() -> None:
        async for _ in who.large().of(range(2), SLICE):
            seen.append("large")  # noqa: PERF401 - when it is said is what is asked

    async def small(steps: int) -> None:
        with who.small():
            for _ in range(steps):
                await asyncio.sleep(0)
        seen.append(f"small {steps}")

    await asyncio.gather(large(), *(small(steps) for steps in (2, 9, 5)))
    assert seen == ["large", "small 2", "small 5", "small 9", "large"]


@pytest.mark.parametrize(
    ("steps", "turns"),
    [
        pytest.param([(50, COSTLY)], 8, id="costly"),
        pytest.param([(50, LIGHT)], 2, id="light"),
        pytest.param([(1, COSTLY)] * 50, 8, id="of-one-each"),
        pytest.param([(50, LIGHT), *[(1, COSTLY)] * 50], 10, id="mixed"),
        pytest.param([(SLICE // COSTLY, COSTLY)], 0, id="one-slice"),
    ],
)
async def test_what_was_done_counts_through_all_steps(steps: list[tuple[int, int]], turns: int) -> None:
    who, had = Precedence(), 0

    async def others() -> None:
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    running = asyncio.create_task(others())
    await asyncio.sleep(0)
    slices = who.large()
    for count, cost in steps:
        async for _ in slices.of(range(count), cost):
            pass
    running.cancel()
    assert had == turns


async def test_small_work_has_no_slices() -> None:
    who = Precedence()
    with who.small() as slices:
        done = asyncio.create_task(_all_of(slices, 500))
        await asyncio.sleep(0)
        assert done.done()


async def _all_of(slices: precedence.Slices, count: int) -> None:
    async for _ in slices.of(range(count)):
        pass


async def test_it_never_stands_still() -> None:
    """Small ones without end, or one that hangs: so long for a slice, so long in all, and then for nobody."""
    who, loop = Precedence(), asyncio.get_running_loop()
    with who.small():
        begun = loop.time()
        await _all_of(who.large(), 1 + SLICE // COSTLY)
        slice_s = loop.time() - begun
        await _all_of(who.large(), 600)
        whole_s = loop.time() - begun - slice_s
    assert slice_s >= precedence.SLICE_WAITS_S * 0.9
    assert whole_s >= precedence.WAITS_S * 0.9
    # A hundred slices, of which each would wait.
    assert whole_s < 50 * precedence.SLICE_WAITS_S


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
    waiting = asyncio.create_task(who.give_way(60))
    await asyncio.sleep(0)
    hanging.cancel()
    async with asyncio.timeout(30):
        await waiting
        assert isinstance((await asyncio.gather(failed, return_exceptions=True))[0], LookupError)
        assert await who.give_way(60) == 0
