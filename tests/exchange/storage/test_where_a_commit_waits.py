"""A SQLite commit that is alone waits for a quick disk on the event loop, and for a slow one in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, event
from support.notes import add, names, notes


async def test_a_commit_goes_to_a_thread_unless_it_is_alone_and_the_disk_was_quick(tmp_path: Path) -> None:
    async with notes(f"sqlite:///{tmp_path}/notes.db") as database:
        takes_s, here = 0.0, []

        def disk(_connection: Connection) -> None:
            here.append(threading.current_thread() is threading.main_thread())
            time.sleep(takes_s)

        event.listen(database._write_engine, "commit", disk)

        async def write(*numbers: int) -> None:
            await asyncio.gather(*(database.write(partial(add, name=f"{number:02}")) for number in numbers))

        await write(1)
        database._writer._lane._disk_s = 0.0  # type: ignore[attr-defined]  # whatever this machine's disk took
        await write(2)
        await write(3, 4, 5)
        database._writer._lane._disk_s = 0.0  # type: ignore[attr-defined]
        takes_s = 0.02
        await write(6)
        await write(7)
        takes_s = 0.0
        await write(8)
        #                            2: quick     3-5: several            6: quick before, 7 and 8: slow before
        assert here[1:] == [True, False, True, False, False]
        assert await database.read(names) == [f"{number:02}" for number in range(1, 9)]
        # What does not wait for the disk says nothing about it.
        takes_s = 0.02
        await write(9)
        takes_s = 0.0
        await database.write(partial(add, name="10"), durable=False)
        await write(11)
        assert here[-1] is False
        takes_s = 0.02
        await write(12)
        takes_s = 0.0
        await database.write(lambda _connection: None)
        await write(13)
        assert here[-1] is False
