"""Processes of nodes that kill themselves at a moment a test chose.

`python -m support.doomed_process` imports the program once and then forks: a process that has to start often starts
in a moment. It reads one JSON object a line, `{"start": [role, …], "environment": …, "log": …}` or `{"wait": pid}`,
and answers with a process id, or with the exit code once there is one.

Each process is `exchange.cli.node_process` with additions that exist in tests only. The file `doom` in the node's home
names a label and the number of a commit under it; at that commit the process kills itself, which nothing can catch:

* in an API process the label is the request, such as `POST /v1/referrals`, ids in its path written as `{id}`;
* in the courier it is `settle`, which begins when the peer's answer has come, or `release_due`.

`after` means: committed, and nobody was told. `during` means: executed, and not committed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import uvicorn  # noqa: F401 - imported before the fork

import exchange.app
import exchange.federation.courier
import exchange.use_cases.maintain
from exchange.cli import node_process
from exchange.limits import LIMITS
from exchange.storage.database import Connection, Database

T = TypeVar("T")
_ID = re.compile(r"[0-9a-f]{32}")
_LABEL: ContextVar[str] = ContextVar("label", default="")
_COMMITS: dict[str, int] = {}


def doom_file(home: Path) -> Path:
    """Where a test writes what shall happen."""
    return home / "doom"


def doom(label: str, *, commit: int = 1, moment: str = "after") -> str:
    """The text of the file."""
    return f"{label}|{commit}|{moment}"


def _moment() -> str | None:
    """`during` or `after`, if this commit is the one."""
    try:
        label, commit, moment = doom_file(Path(os.environ["EXCHANGE_HOME"])).read_text("utf-8").split("|")
    except (FileNotFoundError, ValueError):
        return None
    if label != _LABEL.get():
        return None
    _COMMITS[label] = _COMMITS.get(label, 0) + 1
    return moment if _COMMITS[label] == int(commit) else None


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_commits() -> None:
    write = Database.write

    async def doomed(self: Database, function: Callable[[Connection], T]) -> T:
        moment = _moment()

        def last(connection: Connection) -> T:
            result = function(connection)
            if moment == "during":
                _die()
            return result

        result = await write(self, last)
        if moment == "after":
            _die()
        return result

    Database.write = doomed  # type: ignore[method-assign]


def _label_requests() -> None:
    create_app = exchange.app.create_app

    def labelled(*args: Any, **kwargs: Any) -> Any:
        app = create_app(*args, **kwargs)

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                _LABEL.set(f"{scope['method']} {_ID.sub('{id}', scope['path'])}")
            await app(scope, receive, send)

        return answer

    exchange.app.create_app = labelled


def _label_courier() -> None:
    _label(exchange.federation.courier, "settle")
    _label(exchange.use_cases.maintain, "release_due")


def _label(module: ModuleType, name: str) -> None:
    inner = getattr(module, name)

    async def labelled(*args: Any, **kwargs: Any) -> Any:
        token = _LABEL.set(name)
        try:
            return await inner(*args, **kwargs)
        finally:
            _LABEL.reset(token)

    setattr(module, name, labelled)


def _start(order: dict[str, Any]) -> int:
    """Fork a process of a node; its standard input stays open as long as this process lives."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        os.write(writing, b"\n")
        return child
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for target, source in ((0, reading), (1, log), (2, log)):
            os.dup2(source, target)
        os.close(writing)
        os.environ.clear()
        os.environ.update(order["environment"])
        node_process.main(order["start"])
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        os._exit(0 if ended.code is None else 1)
    except BaseException:  # noqa: BLE001 - a forked process never goes back into the loop it came from
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _obey() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        answer = _start(order) if "start" in order else _ended(order["wait"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _watch_commits()
    _label_requests()
    _label_courier()
    # A courier that died leaves its lease to run out; a test does not wait a minute for that.
    exchange.app.LIMITS = replace(LIMITS, lease_default_s=1)  # type: ignore[misc]
    _obey()
