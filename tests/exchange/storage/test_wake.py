"""Signals within a process and between processes, on both databases."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, make_url
from support import notes_process
from support.notes import add, listening, notes
from support.postgres import running_server

from exchange.storage import wake_channels
from exchange.storage.database import Database
from exchange.storage.errors import StorageUnavailableError
from exchange.storage.transaction import signal


def write_and_signal(connection: Connection, name: str) -> None:
    add(connection, str(time.perf_counter()))
    signal(connection, name)


def folder_of(url: str) -> Path:
    return Path(str(make_url(url).database) + "-wake")


def pipes(url: str) -> dict[str, int]:
    """The pipes beside a database, with their modes."""
    return {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(folder_of(url))}


async def test_a_commit_wakes_every_waiter_of_its_name_and_no_other(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await listening(database)
        waiters = [asyncio.create_task(database.wake.wait("inbox", 5.0)) for _ in range(3)]
        other = asyncio.create_task(database.wake.wait("outbox", 0.2))
        await asyncio.sleep(0)
        await database.write(partial(write_and_signal, name="inbox"))
        assert await asyncio.gather(*waiters) == [True] * 3
        assert await other is False


async def test_a_signal_between_look_and_wait_is_not_missed(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await listening(database)
        mark = database.wake.mark("changes")
        await database.write(partial(write_and_signal, name="changes"))
        assert await database.wake.wait("changes", 0.0, since=mark)
        assert not await database.wake.wait("changes", 0.01)


async def test_what_root_serves_once_its_owner_can_serve_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root made the folder of the signals, the node's user found a stack trace."""
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((Path(path), user, group)))
    channel = wake_channels.PipeChannel(tmp_path / "node.db")
    channel.listen(lambda _names: None, "inbox")
    channel.listen(lambda _names: None, "outbox")
    await channel.close()
    assert given == [(tmp_path / "node.db-wake", os.getuid(), os.getgid())]


def test_a_folder_of_another_user_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.db-wake").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageUnavailableError, match="-wake"):
        Database.open(f"sqlite:///{tmp_path / 'node.db'}")


async def test_another_process_wakes_us(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await listening(database)
        waiting = asyncio.create_task(database.wake.wait("outbox", 10.0))
        mark = database.wake.mark("inbox")
        with notes_process.start(empty_database_url, "signal", "outbox"):
            assert await waiting
        assert not await database.wake.wait("inbox", 0.05, since=mark)


async def test_two_databases_of_one_process_wake_each_other_quickly(empty_database_url: str) -> None:
    async with notes(empty_database_url) as here, notes(empty_database_url) as there:
        await listening(there)
        took = []
        for _ in range(5):
            waiting = asyncio.create_task(there.wake.wait("inbox", 5.0))
            await asyncio.sleep(0)
            start = time.perf_counter()
            await here.write(partial(write_and_signal, name="inbox"))
            assert await waiting
            took.append(time.perf_counter() - start)
        assert min(took) < 0.05


async def test_the_command_line_wakes_the_node(empty_database_url: str) -> None:
    async with notes(empty_database_url) as node:
        await listening(node)
        waiting = asyncio.create_task(node.wake.wait("inbox", 5.0))
        await asyncio.sleep(0)
        command = Database.open(empty_database_url)
        command.write_sync(partial(write_and_signal, name="inbox"))
        command.close_sync()
        assert await waiting


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_pipe_of_a_killed_process_is_cleared_away(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await listening(database)
        folder = folder_of(empty_database_url)
        assert os.stat(folder).st_mode & 0o777 == 0o700  # noqa: PTH116 - a test may block
        own = pipes(empty_database_url)
        assert list(own.values()) == [0o600]
        os.mkfifo(folder / "12345-dead.inbox")
        async with notes(empty_database_url) as other:
            await other.write(partial(write_and_signal, name="inbox"))
        assert pipes(empty_database_url) == own
    assert pipes(empty_database_url) == {}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_pipe_full_of_signals_holds_nobody_up(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database, notes(empty_database_url) as other:
        await listening(database)
        for _ in range(70_000):
            other._channel.send(["inbox"])
        assert await database.wake.wait("inbox", 1.0)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_who_does_not_wait_for_a_signal_is_not_woken_by_it(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database, notes(empty_database_url) as other:
        await listening(database)
        database.wake.mark("outbox")
        other._channel.send(["outbox", "changes"])
        waiting = {}
        for name in pipes(empty_database_url):
            pipe = os.open(folder_of(empty_database_url) / name, os.O_RDONLY | os.O_NONBLOCK)
            waiting[name.partition(".")[2]] = int.from_bytes(
                fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder
            )
            os.close(pipe)
        assert waiting == {"inbox": 0, "outbox": 1}


async def test_closing_ends_every_wait(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        await listening(database)
        waiting = asyncio.create_task(database.wake.wait("inbox", 60.0))
        await asyncio.sleep(0)
        await database.close()
        assert await asyncio.wait_for(waiting, 5.0)


async def test_after_a_restart_of_the_server_waiters_are_woken_and_signals_arrive(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wake_channels, "_RECONNECT_AFTER_S", 0.02)
    with running_server() as server:
        async with notes(server.admin_url) as here, notes(server.admin_url) as there:
            await listening(there)
            await asyncio.to_thread(server.stop)
            waiting = asyncio.create_task(there.wake.wait("inbox", 20.0))
            await asyncio.sleep(0.2)
            # Of a long outage it is said once that signals are interrupted, and not at every try.
            assert len([one for one in caplog.records if "signals" in one.message]) == 1
            await asyncio.to_thread(server.start)
            assert await waiting, "what was signalled meanwhile is lost, so everybody looks again"
            waiting = asyncio.create_task(there.wake.wait("outbox", 20.0))
            await asyncio.sleep(0)
            await here.write(partial(write_and_signal, name="outbox"))
            assert await waiting


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize(
    ("password", "options"),
    [
        pytest.param(None, "-c statement_timeout=60000", id="space in an option"),
        pytest.param(None, ("-c statement_timeout=60000", "-c work_mem=4MB"), id="options said twice"),
        pytest.param("two words", (), id="space in the password"),
    ],
)
async def test_every_address_that_the_engines_take_brings_signals(
    empty_database_url: str, password: str | None, options: str | tuple[str, ...]
) -> None:
    """SQLAlchemy and libpq do not write the same address alike: who listened there tried again without end."""
    asked = make_url(empty_database_url).update_query_dict({"options": options} if options else {})
    address = (asked.set(password=password) if password else asked).render_as_string(hide_password=False)
    async with notes(address) as here, notes(address) as there:
        assert await there.wake.wait("inbox", 5.0), "it listens"
        waiting = asyncio.create_task(there.wake.wait("outbox", 5.0))
        await asyncio.sleep(0)
        await here.write(partial(write_and_signal, name="outbox"))
        assert await waiting


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_notice_carries_names_only(empty_database_url: str) -> None:
    async with notes(empty_database_url) as database:
        with psycopg.connect(empty_database_url, autocommit=True) as listener:
            listener.execute("LISTEN exchange_wake")
            await database.write(partial(write_and_signal, name="inbox"))
            (notice,) = listener.notifies(timeout=5.0, stop_after=1)
        sender, names = notice.payload.split(" ", 1)
        assert len(sender) == 16
        assert names == "inbox"
