"""Another process on the same database, for tests: `python notes_process.py URL COMMAND …`, speaking in lines.

Commands: `write-then-hang NAME` (commits, says `committed`, never answers), `write-many PREFIX COUNT`,
`hold SECONDS` (keeps a write transaction open), `signal NAME`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from support.notes import add

from exchange.storage.database import Database
from exchange.storage.transaction import after_commit, signal

_ROOT = Path(__file__).parents[2]


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts the other process."""
    return subprocess.Popen(
        [sys.executable, __file__, url, *arguments],
        env=os.environ | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'tests'}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _write_then_hang(connection: Connection, name: str) -> None:
    add(connection, name)

    def hang() -> None:
        _say("committed")
        time.sleep(60)

    # After the commit, before the answer.
    after_commit(connection, hang)


def _hold(connection: Connection, name: str) -> None:
    add(connection, "held")
    _say("holding")
    time.sleep(float(name))


def _signal(connection: Connection, name: str) -> None:
    signal(connection, name)


async def _main(url: str, command: str, *arguments: str) -> None:
    database = Database.open(url)
    single: dict[str, Any] = {"write-then-hang": _write_then_hang, "hold": _hold, "signal": _signal}
    try:
        if command in single:
            await database.write(partial(single[command], **dict(zip(["name"], arguments, strict=True))))
        else:
            prefix, count = arguments
            for n in range(int(count)):
                await database.write(partial(add, name=f"{prefix}{n:03}"))
        _say("answered")
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
