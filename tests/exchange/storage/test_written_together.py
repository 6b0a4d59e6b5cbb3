"""What many callers ask of one function is written by one call, and one caller's failure is still its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError
from support.notes import NOTE, add, add_reply_to_nothing, listening, names, notes

from exchange.storage import lanes
from exchange.storage.errors import BatchConflictError, CommitFailedError, StorageMisuseError
from exchange.storage.transaction import after_commit, signal

calls: list[list[str]] = []


@pytest.fixture(autouse=True)
def _called_by_nobody() -> Iterator[None]:
    calls.clear()
    yield
    calls.clear()


class RefusedError(Exception):
    pass


def add_all(connection: Connection, items: Sequence[str]) -> None:
    """Adds notes; a name that ends with an exclamation mark is refused, after its note is written."""
    calls.append(list(items))
    for item in items:
        add(connection, item)
    signal(connection, "inbox")
    if any(item.endswith("!") for item in items):
        raise RefusedError(*items)


def add_others(connection: Connection, items: Sequence[str]) -> None:
    add_all(connection, items)


async def test_neighbours_are_written_by_one_call_in_one_savepoint(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        said: list[str] = []
        if database.dialect == "sqlite":
            connection = database._writer._lane._connection  # type: ignore[attr-defined]
            connection.connection.driver_connection.set_trace_callback(said.append)
        await asyncio.gather(*(database.write_together(add_all, f"{n:02}") for n in range(16)))
        assert calls == [[f"{n:02}" for n in range(16)]]
        assert await database.read(names) == calls[0]
        assert [line for line in said if "SAVEPOINT" in line] == (
            ["SAVEPOINT item", "RELEASE SAVEPOINT item"] if database.dialect == "sqlite" else []
        )


async def test_who_is_alone_is_written_alone(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await database.write_together(add_all, "1")
        with pytest.raises(RefusedError) as refused:
            await database.write_together(add_all, "2!")
        assert (calls, refused.value.args) == ([["1"], ["2!"]], ("2!",))
        assert await database.read(names) == ["1"]


async def test_one_that_fails_fails_alone_and_hears_only_of_itself(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        items = ["1", "2!", "3", "4!", "5"]
        answers = await asyncio.gather(
            *(database.write_together(add_all, item) for item in items), return_exceptions=True
        )
        assert [repr(answer) for answer in answers] == [
            "None",
            "RefusedError('2!')",
            "None",
            "RefusedError('4!')",
            "None",
        ]
        assert calls == [items, *([item] for item in items)]
        assert await database.read(names) == ["1", "3", "5"]


async def test_of_two_that_clash_the_first_is_written_and_the_second_hears_it(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        answers = await asyncio.gather(
            *(database.write_together(add_all, item) for item in ("one", "other", "one", "third")),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [type(None), type(None), IntegrityError, type(None)]
        assert await database.read(names) == ["one", "other", "third"]
        assert "other" not in f"{answers[2]!r} {answers[2].orig!r} {answers[2].params}"


async def test_only_neighbours_that_ask_for_the_same_are_written_together(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await asyncio.gather(
            database.write_together(add_all, "1"),
            database.write_together(add_all, "2"),
            database.write(partial(add, name="3")),
            database.write_together(add_all, "4"),
            database.write_together(add_others, "5"),
            database.write_together(add_others, "6"),
        )
        assert calls == [["1", "2"], ["4"], ["5", "6"]]
        assert await database.read(names) == ["1", "2", "3", "4", "5", "6"]


async def test_who_is_beside_them_keeps_its_own_outcome(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:

        def fail(connection: Connection) -> None:
            add(connection, "undone")
            raise RefusedError("mine")

        answers = await asyncio.gather(
            database.write(fail),
            database.write_together(add_all, "1"),
            database.write_together(add_all, "2!"),
            database.write(partial(add, name="3")),
            return_exceptions=True,
        )
        assert [repr(answer) for answer in answers] == ["RefusedError('mine')", "None", "RefusedError('2!')", "'3'"]
        assert await database.read(names) == ["1", "3"]


async def test_they_share_one_commit_and_a_failing_one_answers_nobody(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        commits: list[int] = []
        event.listen(database._write_engine, "commit", lambda _: commits.append(1))
        await asyncio.gather(*(database.write_together(add_all, f"{n}") for n in range(8)))
        assert len(commits) == 1
        answers = await asyncio.gather(
            database.write_together(add_all, "x"),
            database.write_together(add_all, "y"),
            database.write(add_reply_to_nothing),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [CommitFailedError] * 3
        assert await database.read(names) == [f"{n}" for n in range(8)]


async def test_signals_and_hooks_happen_once_for_what_was_committed(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        happened: list[list[str]] = []

        def add_and_tell(connection: Connection, items: Sequence[str]) -> None:
            after_commit(connection, lambda: happened.append(list(items)))
            add_all(connection, items)

        await asyncio.gather(*(database.write_together(add_and_tell, item) for item in "abc"))
        assert happened == [["a", "b", "c"]]
        happened.clear()
        await asyncio.gather(
            *(database.write_together(add_and_tell, item) for item in ("d", "e!", "f")), return_exceptions=True
        )
        assert happened == [["d"], ["f"]]
        await listening(database)
        mark = database.wake.mark("inbox")
        await asyncio.gather(
            *(database.write_together(add_and_tell, f"{n}!") for n in range(3)), return_exceptions=True
        )
        assert not await database.wake.wait("inbox", 0.05, since=mark)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda connection: connection.commit(), id="commits"),
        pytest.param(lambda connection: connection.rollback(), id="rolls-back"),
        pytest.param(lambda connection: connection.begin_nested(), id="leaves-a-savepoint-open"),
    ],
)
async def test_a_function_that_breaks_the_rules_for_one_item_is_refused_for_that_one(
    empty_database_url: str, mistake: Callable[[Connection], Any]
) -> None:
    async with notes(empty_database_url) as database:

        def careless(connection: Connection, items: Sequence[str]) -> None:
            for item in items:
                add(connection, item)
                if item == "2":
                    mistake(connection)

        answers = await asyncio.gather(
            *(database.write_together(careless, item) for item in ("1", "2", "3")), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [type(None), StorageMisuseError, type(None)]
        assert await database.read(names) == ["1", "3"]
        await database.write_together(careless, "after")


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_an_error_that_is_hidden_for_one_item_is_found_for_that_one(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:

        def hiding(connection: Connection, items: Sequence[str]) -> None:
            for item in items:
                add(connection, item)
            if "2" in items:
                try:
                    connection.execute(text("SELECT * FROM no_such_table"))
                except Exception:  # noqa: BLE001 - the mistake
                    return

        answers = await asyncio.gather(
            *(database.write_together(hiding, item) for item in ("1", "2", "3")), return_exceptions=True
        )
        assert [answer is None for answer in answers] == [True, False, True]
        assert await database.read(names) == ["1", "3"]


async def test_a_conflict_is_the_whole_batchs_and_every_item_is_written_once(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        asked: list[int] = []

        def conflicting(connection: Connection, items: Sequence[str]) -> None:
            asked.append(len(items))
            if len(items) > 1:
                raise BatchConflictError
            add_all(connection, items)

        await asyncio.gather(*(database.write_together(conflicting, item) for item in "abc"))
        assert asked == [3, 3, 1, 1, 1]
        assert await database.read(names) == ["a", "b", "c"]


async def test_who_went_away_before_the_batch_asked_for_nothing(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        tasks = [asyncio.create_task(database.write_together(add_all, item)) for item in "abc"]
        asyncio.get_running_loop().call_soon(tasks[1].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        assert await database.read(names) == ["a", "c"]


async def test_the_event_loop_gets_its_turn_between_large_groups(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "YIELD_EVERY", 4)
    async with notes(empty_database_url) as database:
        await asyncio.gather(*(database.write_together(add_all, f"{n:02}") for n in range(10)))
        assert [len(items) for items in calls] == ([4, 4, 2] if database.dialect == "sqlite" else [10])
        assert len(await database.read(names)) == 10


Request = tuple[str, str]
"""A name, and how it is asked for: `together`, with `others`, or `alone`."""
requests = st.lists(
    st.tuples(st.sampled_from("abcdefgh").flatmap(lambda name: st.sampled_from([name, f"{name}!"])),
              st.sampled_from(["together", "others", "alone"])),
    max_size=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=requests)
async def test_law_together_has_the_outcome_that_one_after_the_other_has(
    empty_database_url: str, requests: list[Request]
) -> None:
    """Whatever is queued in whatever neighbourhood: each caller's answer, and what is stored."""
    async with notes(empty_database_url) as database:

        async def ask(request: Request) -> str:
            name, how = request
            try:
                if how == "alone":
                    await database.write(lambda connection: add_all(connection, [name]))
                else:
                    await database.write_together(add_all if how == "together" else add_others, name)
            except (RefusedError, IntegrityError) as error:
                return f"{type(error).__name__} {error.args if isinstance(error, RefusedError) else error.orig}"
            return "stored"

        async def emptied() -> list[str]:
            def take(connection: Connection) -> list[str]:
                return sorted(connection.execute(NOTE.delete().returning(NOTE.c.id)).scalars())

            return await database.write(take)

        await emptied()
        together = list(await asyncio.gather(*map(ask, requests))), await emptied()
        one_by_one = [await ask(request) for request in requests], await emptied()
        assert together == one_by_one
