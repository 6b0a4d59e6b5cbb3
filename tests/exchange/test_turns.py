"""Turns: a few at a time, in order, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from exchange.use_cases.turns import Turns, together


@pytest.mark.parametrize("count", [1, 3, 4, 10], ids=["one", "as many as may", "one more", "many"])
async def test_everybody_has_a_turn_in_the_order_of_coming(count: int) -> None:
    turns, had = Turns(3, steps=1), []

    async def work(number: int) -> None:
        await turns.take()
        had.append(number)

    await asyncio.gather(*(work(number) for number in range(count)))
    assert had == list(range(count))


async def test_what_is_done_meanwhile_gets_its_way_before_the_next_few_start() -> None:
    turns, seen = Turns(2, steps=1), []

    async def work(number: int) -> None:
        await turns.take()
        seen.append(f"started {number}")
        asyncio.get_running_loop().call_soon(seen.append, f"stored {number}")

    await asyncio.gather(*(work(number) for number in range(4)))
    assert seen.index("stored 0") < seen.index("started 2")
    assert seen.index("stored 1") < seen.index("started 2")


async def test_those_of_one_turn_go_through_each_step_together_and_the_next_turn_comes_after_them() -> None:
    turns, seen = Turns(3, steps=3), []

    async def work(number: int) -> None:
        await turns.take()
        for step in ("judged", "sealed", "written"):
            seen.append(f"{step} {number}")
            await together()

    await asyncio.gather(*(work(number) for number in range(6)))
    steps = ("judged", "sealed", "written")
    assert seen == [f"{step} {number}" for turn in (0, 3) for step in steps for number in range(turn, turn + 3)]


async def test_who_waits_for_something_within_a_turn_holds_nobody_up() -> None:
    turns, never = Turns(1, steps=2), asyncio.Event()

    async def work(number: int) -> int:
        await turns.take()
        if number == 0:
            await never.wait()
        return number

    waiting = asyncio.create_task(work(0))
    assert await asyncio.wait_for(work(1), 5) == 1
    waiting.cancel()


async def test_who_goes_away_while_waiting_costs_nobody_a_turn() -> None:
    turns = Turns(1, steps=1)
    first, leaving, staying = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    assert first.done()
    leaving.cancel()
    await asyncio.wait_for(staying, 5)
    assert leaving.cancelled()


async def test_a_turn_that_nobody_waited_for_is_there_again_in_the_next_round() -> None:
    turns = Turns(1, steps=1)
    for _ in range(3):
        await asyncio.wait_for(turns.take(), 5)
        await asyncio.sleep(0)
