"""`exchange serve`: API process(es) and one courier, watched by a process that does nothing else.

Rules:

* A node that is insecure does not start: every reason is printed, with who must do what.
* A SQLite database that another `exchange serve` works with is refused. The children hold that lock with this process:
  after kill -9 nobody else starts before the last of them has ended.
* The socket is bound once, here, and handed on: API processes share it.
* The passphrase goes to the children through a pipe, never on a command line and never into their environment, also
  where it stands in that of this process. The pipe stays open: when it closes the parent is gone, and a child stops by
  itself.
* A child that ends by itself is never restarted silently. It is named, the others are stopped, and the exit code is 1:
  whoever started the node (systemd, compose) decides and has it on record.
* SIGTERM and SIGINT stop the children by their process ids and wait for them; who does not end in time is killed, and
  that is said. Nothing is lost by it: what was answered was committed before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Annotated, Final

import typer
from rich.prompt import Prompt

from exchange.cli.console import REFUSED, SET_UP_WRONG, advise, fail, refusals_told, say
from exchange.cli.passphrase import PASSPHRASE
from exchange.cli.profile import HomeOption
from exchange.settings import Settings, load_settings

GRACE_S: Final = 15.0
_POLL_S: Final = 0.2
_BACKLOG: Final = 512


@dataclass(frozen=True, slots=True)
class Child:
    """One process of a node."""

    role: str
    process: subprocess.Popen[bytes]


@dataclass(slots=True)
class Supervisor:
    """Starts the processes of one node, watches them, and stops them."""

    host: str
    port: int
    workers: int
    environment: Mapping[str, str]
    """The settings of the node, as variables."""
    passphrase: str = field(default="", repr=False)
    """What was typed or stands in a variable; nothing where the children find it in a file."""
    holds: Sequence[int] = ()
    """Descriptors that live as long as one of the processes (`exchange.storage.served`)."""
    output: IO[bytes] | None = None
    """Where the children write; this process's own output unless given."""
    children: list[Child] = field(default_factory=list)

    def start(self) -> None:
        """Bind the address and start every process.

        Raises:
            OSError: the address is taken.
        """
        listener = _listen(self.host, self.port)
        try:
            for number in range(1, self.workers + 1):
                self._start(f"api {number}", "api", listener.fileno())
            self._start("courier", "courier", None)
        except BaseException:
            self.stop()
            raise
        finally:
            listener.close()

    def ended(self) -> Child | None:
        """A child that ended by itself, or nothing."""
        return next((child for child in self.children if child.process.poll() is not None), None)

    def tell_to_stop(self) -> list[Child]:
        """Tell every child that still runs to end in order; the children told."""
        running = [child for child in self.children if child.process.poll() is None]
        for child in running:
            child.process.send_signal(signal.SIGTERM)
        return running

    def stop(self, grace_s: float = GRACE_S) -> list[Child]:
        """Stop every child and wait for it; the ones that had to be killed."""
        running = self.tell_to_stop()
        deadline = time.monotonic() + grace_s
        killed = []
        for child in running:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child)
        for child in self.children:
            if child.process.stdin is not None:
                with contextlib.suppress(OSError):
                    child.process.stdin.close()
        self.children.clear()
        return killed

    def _start(self, name: str, role: str, listener: int | None) -> None:
        command = [sys.executable, "-m", "exchange.cli.node_process", role]
        if listener is not None:
            command.append(str(listener))
        process = subprocess.Popen(  # noqa: S603 - this program's own module, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.output,
            pass_fds=(*self.holds, *(() if listener is None else (listener,))),
            env=dict(self.environment),
            # A Ctrl-C at the terminal reaches the supervisor only, which then stops the children in order.
            start_new_session=True,
        )
        self.children.append(Child(name, process))
        assert process.stdin is not None  # noqa: S101 - PIPE was asked for
        # A child that died at once is found and named by `ended`.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write((json.dumps(self.passphrase) if self.passphrase else "").encode() + b"\n")
            process.stdin.flush()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def serve(
    home: HomeOption = None,
    workers: Annotated[int | None, typer.Option(help="API processes; more than one needs PostgreSQL.")] = None,
) -> None:
    """Run the node: API process(es) and courier, until stopped."""
    with refusals_told():
        settings = load_settings(home=home, workers=workers)
    if settings.passphrase is None:
        if not sys.stdin.isatty():
            fail("The operator must set EXCHANGE_PASSPHRASE_FILE: nobody is here to type it.", code=SET_UP_WRONG)
        typed = Prompt.ask("Passphrase of this node's keys", password=True)
        with refusals_told():
            settings = load_settings(home=home, workers=workers, passphrase=typed)
    refuse_if_insecure(settings)
    if not holds_agency_key(settings):
        say("Keys elsewhere: this node holds no agency key and can read nothing. The agency's own software does.")
    # Whoever gets a passphrase beside the file that holds one refuses to start: it would be given twice.
    secret = settings.passphrase if settings.passphrase_file is None else None
    passphrase = secret.get_secret_value() if secret is not None else ""
    variables = {name: value for name, value in os.environ.items() if name.upper() != PASSPHRASE}
    variables |= {"EXCHANGE_HOME": str(settings.home), "EXCHANGE_WORKERS": str(settings.workers)}
    with databases_held(settings) as held:
        supervisor = Supervisor(settings.host, settings.port, settings.workers, variables, passphrase, held)
        try:
            supervisor.start()
        except OSError as refused:
            fail(f"{why_not_bound(settings, refused)} Nothing was started.", code=SET_UP_WRONG)
        say(f"Serving {settings.public_url} on {settings.host}:{settings.port}, stop with Ctrl-C or SIGTERM.")
        raise typer.Exit(watch(supervisor))


@contextlib.contextmanager
def databases_held(settings: Settings) -> Iterator[Sequence[int]]:
    """What keeps others from serving the same SQLite databases; ends here where another one does already."""
    from exchange.storage.errors import StorageServedError, StorageUnavailableError
    from exchange.storage.served import held

    urls = (settings.database_url.get_secret_value(), settings.key_database_url.get_secret_value())
    with contextlib.ExitStack() as stack:
        try:
            descriptors = stack.enter_context(held(*urls))
        except StorageServedError:
            # Not SET_UP_WRONG: after kill -9 the processes of before need some seconds to end.
            fail(
                "The operator must stop the `exchange serve` that works with this node's databases already, on this or "
                "another port: on SQLite one node is served once. Nothing was started."
            )
        except StorageUnavailableError as refused:
            fail(f"The operator must look at the folder of the databases: {refused}", code=SET_UP_WRONG)
        yield descriptors


def why_not_bound(settings: Settings, refused: OSError) -> str:
    """What keeps this node from listening where it should, and which setting to look at."""
    address = f"{settings.host}:{settings.port}"
    if refused.errno == errno.EADDRINUSE:
        return f"{address} is taken, perhaps by this very node. Stop what listens there, or set EXCHANGE_PORT."
    if refused.errno == errno.EADDRNOTAVAIL or isinstance(refused, socket.gaierror):
        return f"{settings.host} is no address of this machine: set EXCHANGE_HOST."
    if refused.errno == errno.EACCES:
        return f"This user may not listen on {address}: set EXCHANGE_PORT to one above 1023."
    return f"The node cannot listen on {address}: look at EXCHANGE_HOST and EXCHANGE_PORT."


def holds_agency_key(settings: Settings) -> bool:
    """End here, before anything is started, if the keys, the roster or a database would end the processes anyway."""
    from exchange.startup import StartRefusedError, check_start

    try:
        return check_start(settings)
    except StartRefusedError as refused:
        for reason in refused.reasons:
            advise(reason, style="red")
        # systemd does not try again after SET_UP_WRONG (deploy/exchange.service).
        code = REFUSED if refused.may_pass else SET_UP_WRONG
        fail("This node cannot start. Nothing was started.", code=code)


def refuse_if_insecure(settings: Settings) -> None:
    """End here, with every reason, unless this node may start."""
    from exchange.insecurities import insecurities
    from exchange.roster import RosterError, parse_roster

    try:
        synthetic = parse_roster(settings.roster_path.read_bytes()).synthetic
    except OSError:
        fail(f"The operator must install the roster: {settings.roster_path} cannot be read.", code=SET_UP_WRONG)
    except RosterError:
        fail(f"The operator must replace {settings.roster_path}: it is not a roster.", code=SET_UP_WRONG)
    problems = insecurities(settings, roster_is_synthetic=synthetic)
    for problem in problems:
        advise(f"[{problem.code}] {problem.sentence}", style="red")
    if problems:
        fail("This node is not safe to start. Nothing was started.", code=SET_UP_WRONG)


def watch(supervisor: Supervisor) -> int:
    """Wait until told to stop or until a child ends by itself; the exit code."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told.set())
    code = 0
    while not told.wait(_POLL_S):
        if (child := supervisor.ended()) is not None:
            advise(
                f"The process `{child.role}` (pid {child.process.pid}) ended by itself with code "
                f"{child.process.returncode}. The node stops; its log says why.",
                style="bold red",
            )
            code = 1
            break
    for child in supervisor.stop():
        advise(f"The process `{child.role}` (pid {child.process.pid}) did not end in time and was killed.")
    return code
