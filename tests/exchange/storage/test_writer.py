"""What the writer promises, on both databases: durable before answered, and one caller's failure is its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, make_url, select, text
from sqlalchemy.exc import IntegrityError
from support.notes import NOTE, add, add_reply_to_nothing, listening, names, notes

from exchange.storage import writer
from exchange.storage.errors import (
    BatchConflictError,
    CommitFailedError,
    StorageBusyError,
    StorageClosedError,
    StorageMisuseError,
    StorageUnavailableError,
)
from exchange.storage.transaction import after_commit, signal


class WorkerError(Exception):
    pass


def fail(connection: Connection) -> None:
    add(connection, "undone")
    raise WorkerError


def swallow(connection: Connection) -> None:
    """Hides a database error: PostgreSQL would answer the commit with a silent rollback."""
    add(connection, "hidden")
    with contextlib.suppress(Exception):
        connection.execute(text("SELECT * FROM no_such_table"))


async def asynchronous(connection: Connection) -> None:
    add(connection, "never")


async def test_rows_of_a_batch_are_there_when_it_answers(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        answers = await asyncio.gather(*(database.write(partial(add, name=f"{n:03}")) for n in range(250)))
        assert await database.read(names) == sorted(answers)


async def test_queued_functions_share_one_commit(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        commits = 0

        def count(_connection: Connection) -> None:
            nonlocal commits
            commits += 1

        event.listen(database._write_engine, "commit", count)
        await asyncio.gather(*(database.write(partial(add, name=str(n))) for n in range(100)))
        assert commits == 1


@pytest.mark.parametrize("others", [pytest.param(0, id="alone"), pytest.param(20, id="in-a-batch")])
async def test_what_a_function_raises_undoes_that_function_only(empty_database_url: str, others: int) -> None:
    async with notes(empty_database_url) as database:
        calls: list[Callable[[Connection], Any]] = [partial(add, name=f"{n:02}") for n in range(others)]
        calls.insert(others // 2, fail)
        answers = await asyncio.gather(*map(database.write, calls), return_exceptions=True)
        assert isinstance(answers.pop(others // 2), WorkerError)
        assert await database.read(names) == answers


async def test_a_constraint_is_told_without_the_value(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="her-name"))
        first, second = await asyncio.gather(
            database.write(partial(add, name="other")),
            database.write(partial(add, name="her-name", body="her-story")),
            return_exceptions=True,
        )
        assert first == "other"
        assert isinstance(second, IntegrityError)
        told = f"{second!r} {second} {second.orig!r} {second.params}"
        assert "her-name" not in told
        assert "her-story" not in told
        assert second.__cause__ is None


async def test_a_failing_commit_answers_nobody(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        answers = await asyncio.gather(
            database.write(partial(add, name="1")),
            database.write(add_reply_to_nothing),
            database.write(partial(add, name="2")),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [CommitFailedError] * 3
        assert await database.read(names) == []
        assert await database.write(partial(add, name="after")) == "after"


async def test_an_answer_never_precedes_its_commit(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        answered_before: list[bool] = []

        def before_commit(_connection: Connection) -> None:
            answered_before.extend(task.done() for task in tasks)

        event.listen(database._write_engine, "commit", before_commit)
        tasks = [asyncio.create_task(database.write(partial(add, name=str(n)))) for n in range(5)]
        await asyncio.gather(*tasks)
        assert answered_before == [False] * 5


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda connection: connection.commit(), id="commits"),
        pytest.param(lambda connection: connection.rollback(), id="rolls-back"),
        pytest.param(lambda connection: connection.begin_nested() and None, id="leaves-a-savepoint-open"),
        pytest.param(asynchronous, id="is-asynchronous"),
        pytest.param(lambda connection: connection.execute(select(NOTE)), id="returns-unfetched-rows"),
    ],
)
@pytest.mark.parametrize("others", [pytest.param(0, id="alone"), pytest.param(3, id="in-a-batch")])
async def test_a_function_that_breaks_the_rules_is_refused(
    empty_database_url: str, mistake: Callable[[Connection], Any], others: int
) -> None:
    async with notes(empty_database_url) as database:
        calls = [database.write(partial(add, name=str(n))) for n in range(others)]
        answers = await asyncio.gather(database.write(mistake), *calls, return_exceptions=True)
        assert isinstance(answers[0], StorageMisuseError)
        assert await database.read(names) == answers[1:]
        assert await database.write(partial(add, name="after")) == "after"


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("others", [pytest.param(0, id="alone"), pytest.param(3, id="in-a-batch")])
async def test_a_hidden_database_error_is_refused(empty_database_url: str, others: int) -> None:
    async with notes(empty_database_url) as database:
        calls = [database.write(partial(add, name=str(n))) for n in range(others)]
        answers = await asyncio.gather(database.write(swallow), *calls, return_exceptions=True)
        assert isinstance(answers[0], Exception)
        assert await database.read(names) == answers[1:]


async def test_a_cancelled_caller_does_not_disturb_the_batch(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        tasks = [asyncio.create_task(database.write(partial(add, name=f"{n:02}"))) for n in range(40)]
        await asyncio.sleep(0)
        tasks[7].cancel()
        tasks[30].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        told = [answer for answer in answers if isinstance(answer, str)]
        assert len(told) == 38
        assert set(told) <= set(await database.read(names))


async def test_a_caller_cancelled_before_its_turn_asked_for_nothing(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        task = asyncio.create_task(database.write(partial(add, name="nothing")))
        other = asyncio.create_task(database.write(partial(add, name="something")))
        asyncio.get_running_loop().call_soon(task.cancel)
        await other
        assert task.cancelled()
        assert await database.read(names) == ["something"]


async def test_hooks_run_after_the_commit_and_only_for_what_was_committed(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        happened: list[str] = []

        def stored(connection: Connection) -> None:
            add(connection, "stored")
            after_commit(connection, lambda: happened.append("stored"))

        def undone(connection: Connection) -> None:
            after_commit(connection, lambda: happened.append("undone"))
            signal(connection, "inbox")
            raise WorkerError

        await listening(database)
        mark = database.wake.mark("inbox")
        await asyncio.gather(database.write(stored), database.write(undone), return_exceptions=True)
        assert happened == ["stored"]
        assert not await database.wake.wait("inbox", 0.05, since=mark)


async def test_a_failing_hook_does_not_unsay_the_commit(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:

        def stored(connection: Connection) -> str:
            after_commit(connection, lambda: 1 // 0)
            return add(connection, "stored")

        assert await database.write(stored) == "stored"


async def test_a_signal_outside_the_writer_is_refused(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await database.write(partial(add, name="1"))
        with pytest.raises(StorageMisuseError):
            await database.read(lambda connection: signal(connection, "inbox"))


async def test_a_conflict_is_run_again_together_then_alone(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        sizes: list[int] = []
        execute = database._writer._lane.execute

        async def conflicting(jobs: Any) -> Any:
            sizes.append(len(jobs))
            if len(jobs) > 1:
                raise BatchConflictError
            return await execute(jobs)

        database._writer._lane.execute = conflicting  # type: ignore[method-assign]
        answers = await asyncio.gather(*(database.write(partial(add, name=str(n))) for n in range(3)))
        assert sizes == [3, 3, 1, 1, 1]
        assert await database.read(names) == answers


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_deadlock_between_two_batches_costs_nobody_an_answer(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await asyncio.gather(*(database.write(partial(add, name=name)) for name in "ab"))

        def lock(connection: Connection, first: str, second: str) -> None:
            for name in (first, second):
                connection.execute(NOTE.update().where(NOTE.c.id == name).values(body=first))
                connection.execute(text("SELECT pg_sleep(0.05)"))

        one = asyncio.create_task(database.write(partial(lock, first="a", second="b")))
        await asyncio.sleep(0.02)
        two = asyncio.create_task(database.write(partial(lock, first="b", second="a")))
        await asyncio.gather(one, two)


async def test_an_overloaded_writer_says_so_at_once(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT", 10)
    async with notes(empty_database_url) as database:
        answers = await asyncio.gather(
            *(database.write(partial(add, name=f"{n:02}")) for n in range(30)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [str] * 10 + [StorageBusyError] * 20


async def test_closing_finishes_what_is_queued_and_takes_nothing_more(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        task = asyncio.create_task(database.write(partial(add, name="queued")))
        await asyncio.sleep(0)
        await database.close()
        assert await task == "queued"
        with pytest.raises(StorageClosedError):
            await database.write(partial(add, name="late"))
        with pytest.raises(StorageClosedError):
            await database.read(names)
    async with notes(empty_database_url) as database:
        assert await database.read(names) == ["queued"]


async def test_the_command_line_writes_without_a_loop(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        assert database.write_sync(partial(add, name="cli")) == "cli"
        with pytest.raises(WorkerError):
            database.write_sync(fail)
        with pytest.raises(CommitFailedError):
            database.write_sync(add_reply_to_nothing)
        with pytest.raises(StorageMisuseError):
            database.write_sync(lambda connection: connection.commit())
        assert database.read_sync(names) == ["cli"]


async def test_a_read_sees_one_moment_and_cannot_write(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        before = database.read_sync(names)

        def look_twice(connection: Connection) -> tuple[list[str], list[str]]:
            first = names(connection)
            database.write_sync(partial(add, name="meanwhile"))
            return first, names(connection)

        assert await database.read(look_twice) == (before, before)
        with pytest.raises(StorageUnavailableError):
            await database.read(partial(add, name="no"))
        assert await database.read(names) == ["meanwhile"]


def waits_for_the_disk(connection: Connection) -> bool:
    """Whether the commit of this transaction will."""
    if connection.dialect.name == "postgresql":
        return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar()) == "on"
    return connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


async def test_only_a_batch_of_which_nothing_must_outlive_a_power_cut_does_not_wait_for_the_disk(
    empty_database_url: str,
) -> None:
    async with notes(empty_database_url) as database:
        assert await database.write(waits_for_the_disk)
        assert not await database.write(waits_for_the_disk, durable=False)
        assert await database.write(waits_for_the_disk), "the next transaction is durable again"


@pytest.mark.parametrize("asked", [(False, True), (True, False)], ids=["asked for last", "asked for first"])
async def test_one_durable_function_makes_its_whole_batch_durable(
    empty_database_url: str, asked: tuple[bool, bool]
) -> None:
    async with notes(empty_database_url) as database:
        blocking = asyncio.create_task(database.write(partial(add, name="while the others queue")))
        await asyncio.sleep(0)
        both = await asyncio.gather(*(database.write(waits_for_the_disk, durable=durable) for durable in asked))
        await blocking
        assert any(both)
        if database.dialect == "sqlite":
            assert all(both), "they shared a batch"


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
async def test_rows_that_somebody_holds_cost_a_batch_one_wait(empty_database_url: str, limit: str) -> None:
    """Each function would wait for its own row; those behind it, and all who wait for their locks, for all of them."""
    wait_s, held = 0.4, 12
    async with notes(_with_options(empty_database_url, f"-c {limit}={int(wait_s * 1000)}")) as database:
        await asyncio.gather(*(database.write(partial(add, name=f"{n:02}")) for n in range(held)))

        def change(connection: Connection, name: str) -> None:
            connection.execute(NOTE.update().where(NOTE.c.id == name).values(body="changed"))

        with psycopg.connect(empty_database_url) as other:
            other.execute("SELECT id FROM note FOR UPDATE")
            started = time.monotonic()
            answers = await asyncio.gather(
                *(database.write(partial(change, name=f"{n:02}")) for n in range(held)),
                database.write(partial(add, name="free")),
                return_exceptions=True,
            )
            took_s = time.monotonic() - started
        assert [type(answer) for answer in answers] == [StorageBusyError] * held + [str]
        assert took_s < 3 * wait_s
        await database.write(partial(change, name="00"))


def _with_options(url: str, options: str) -> str:
    return make_url(url).update_query_dict({"options": options}).render_as_string(hide_password=False)
