"""Processes of nodes that kill themselves at a point a test chose.

`python -m support.doomed_process` imports the program once and then forks: a process that has to start often starts
in a moment. Its standard input is a socket, on which it reads one JSON object a line, `{"start": [role], "environment":
…, "log": …}` or `{"wait": pid}`, and answers with a process id, or with the exit code once there is one. A socket that
listens comes along with the order to start an API process. `["exchange", command, …]` instead of a role starts the
command line.

Each process of a node is `exchange.cli.node_process` with additions that exist in tests only. The file `doom` in the
node's home names a role, a moment and a place; the process of that role kills itself there, which nothing can catch:

* the place is a transaction function, such as `withdraw._withdraw.commit`: `before` it was asked for, `during` it
  (executed, not committed) or `after` it (committed, and nobody was told);
* the place is one of `CALLS`: `before` or `after`;
* the place is a request, such as `POST /v1/referrals`, ids in its path written as `{id}`: `arrived`, `half-answered`
  (status and headers are sent, the body is not) or `answered`.

Every transaction function that a process reached stands, behind its role, in the file `transactions` in the node's
home.

Where the file says so the process stands still there instead (SIGSTOP), the first one that comes, until a test lets it
go on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import uvicorn  # noqa: F401 - imported before the fork

import exchange.app
import exchange.cli
import exchange.cli.application
import exchange.federation.courier
import exchange.startup
from contracts.loader import shipped_contract
from exchange.cli import node_process
from exchange.cli.founding import KEYS_NAME
from exchange.envelope import key_file
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import open_keys, read_key_file
from exchange.federation.transport import HTTPTransport
from exchange.federation.world_files import WorldFiles
from exchange.limits import LIMITS
from exchange.storage.database import Connection, Database
from exchange.storage.transaction import Together

T = TypeVar("T")
Method = Callable[..., Awaitable[Any]]

CALLS: Final[dict[str, tuple[type, str]]] = {
    "HTTPTransport.post_envelopes": (HTTPTransport, "post_envelopes"),
    "Database.scrub": (Database, "scrub"),
}
_ID = re.compile(r"[0-9a-f]{32}")
_ROLE: list[str] = []
_REACHED: set[str] = set()
_INPUTS: dict[int, int] = {}
"""The other end of each process's standard input."""


@dataclass(frozen=True, slots=True)
class Doom:
    """Who dies where."""

    role: str
    moment: str
    place: str
    stands_still: bool = False
    """It does not die."""

    def to_text(self) -> str:
        """As it stands in the file."""
        return f"{self.role}|{self.moment}|{self.place}{'|still' if self.stands_still else ''}"


def doom_file(home: Path) -> Path:
    """Where a test writes what shall happen."""
    return home / "doom"


def transactions_file(home: Path) -> Path:
    """Where the roles and transaction functions stand that a node's processes have reached."""
    return home / "transactions"


def _home() -> Path:
    return Path(os.environ["EXCHANGE_HOME"])


def _reach(moment: str, place: str) -> None:
    """Die here, if it is the point."""
    try:
        doomed = doom_file(_home()).read_text("utf-8")
    except FileNotFoundError:
        return
    here = Doom(_ROLE[0], moment, place)
    if doomed == here.to_text():
        os.kill(os.getpid(), signal.SIGKILL)
    elif doomed == replace(here, stands_still=True).to_text():
        with contextlib.suppress(FileNotFoundError):
            doom_file(_home()).unlink()
            os.kill(os.getpid(), signal.SIGSTOP)


def name_of(function: Callable[..., Any]) -> str:
    """A function as the tables of tests call it: module and name, without the package."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__qualname__.replace('<locals>.', '')}"


def _note(place: str) -> None:
    if place not in _REACHED:
        _REACHED.add(place)
        with transactions_file(_home()).open("a", encoding="utf-8") as notes:
            notes.write(f"{_ROLE[0]}|{place}\n")


def _watch_commits() -> None:
    write, write_together = Database.write, Database.write_together

    async def doomed(self: Database, function: Callable[[Connection], T], *, durable: bool = True) -> T:
        place = name_of(function)
        _note(place)
        _reach("before", place)

        def last(connection: Connection) -> T:
            result = function(connection)
            _reach("during", place)
            return result

        result = await write(self, last, durable=durable)
        _reach("after", place)
        return result

    @functools.cache
    def last_of_all(function: Together[Any]) -> Together[Any]:
        # One for each function: what is queued beside it is still written together with it.
        def last(connection: Connection, items: Sequence[Any]) -> None:
            function(connection, items)
            _reach("during", name_of(function))

        return last

    async def doomed_together(self: Database, function: Together[Any], item: Any) -> None:
        place = name_of(function)
        _note(place)
        _reach("before", place)
        await write_together(self, last_of_all(function), item)
        _reach("after", place)

    Database.write = doomed  # type: ignore[method-assign]
    Database.write_together = doomed_together  # type: ignore[method-assign]


def _watch_calls() -> None:
    for place, (owner, name) in CALLS.items():
        setattr(owner, name, _watched(getattr(owner, name), place))


def _watched(inner: Method, place: str) -> Method:
    async def doomed(*args: Any, **kwargs: Any) -> Any:
        _reach("before", place)
        result = await inner(*args, **kwargs)
        _reach("after", place)
        return result

    return doomed


def _watch_requests() -> None:
    create_app = exchange.app.create_app

    def watched(*args: Any, **kwargs: Any) -> Any:
        app = create_app(*args, **kwargs)

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            place = f"{scope['method']} {_ID.sub('{id}', scope['path'])}"
            _reach("arrived", place)

            async def sent(message: Any) -> None:
                await send(message)
                if message["type"] == "http.response.start":
                    _reach("half-answered", place)
                elif not message.get("more_body", False):
                    _reach("answered", place)

            await app(scope, receive, sent)

        answer.let_go = app.let_go  # type: ignore[attr-defined]
        return answer

    exchange.app.create_app = watched


def _prepare() -> None:
    """Reading and proving the shipped contract takes a second; every process inherits it from this one."""
    judge = WorldFiles._judge

    @functools.cache
    def judged(data: bytes, drafts: bool) -> Any:
        asker = WorldFiles.__new__(WorldFiles)
        asker._drafts = drafts
        return judge(asker, data)

    WorldFiles._judge = lambda self, data: judged(data, self._drafts)  # type: ignore[method-assign]
    judged(shipped_contract(), True)
    key_file._aead = functools.cache(key_file._aead)
    # A courier that died leaves its lease to run out; a test does not wait a minute for that.
    exchange.startup.LIMITS = replace(LIMITS, lease_default_s=1)  # type: ignore[misc]


def _derive(home: Path) -> None:
    """The derivation of a key file takes a tenth of a second; the processes of one node inherit it from this one."""
    with contextlib.suppress(OSError, KeyFileError):
        passphrase = (home.parent / f".{home.name}.passphrase").read_bytes()
        open_keys(read_key_file(home / KEYS_NAME), passphrase)


def _start(order: dict[str, Any], listeners: list[int]) -> int:
    """Fork a process of a node; its standard input stays open as long as this process lives."""
    if (home := order["environment"].get("EXCHANGE_HOME")) is not None:
        _derive(Path(home))
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        for descriptor in (reading, *listeners):
            os.close(descriptor)
        os.write(writing, b"\n")
        _INPUTS[child] = writing
        return child
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for target, source in ((0, reading), (1, log), (2, log)):
            os.dup2(source, target)
        for descriptor in (reading, writing, log, *_INPUTS.values()):
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])
        os._exit(_run([*order["start"], *map(str, listeners)]))
    finally:
        # A forked process never goes back into the loop it came from.
        os._exit(1)


def _run(arguments: list[str]) -> int:
    """Be the process; the exit code that the interpreter would give it."""
    try:
        if arguments[0] == "exchange":
            sys.argv = arguments
            exchange.cli.main()
        else:
            _ROLE.append(arguments[0])
            node_process.main(arguments)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
            return 1
        return ended.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _ended(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        return None
    os.close(_INPUTS.pop(child))
    return os.waitstatus_to_exitcode(status)


def _obey() -> None:
    # What was imported is looked through for cycles by none of the forked processes, and so is shared by all of them.
    gc.freeze()
    line = socket.socket(fileno=0)
    received, listeners = b"", list[int]()
    while True:
        data, sent, _, _ = socket.recv_fds(line, 1 << 16, 1)
        if not data:
            return
        received, listeners = received + data, listeners + sent
        if received.endswith(b"\n"):
            order = json.loads(received)
            answer = _start(order, listeners) if "start" in order else _ended(order["wait"])
            line.sendall(f"{json.dumps(answer)}\n".encode())
            received, listeners = b"", list[int]()


if __name__ == "__main__":
    _watch_commits()
    _watch_calls()
    _watch_requests()
    _prepare()
    _obey()
